"""What is known of deploys. For a dashboard on a host, the toolkit writes it down in JSON lines."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MAX_BYTES = 256 * 1024  # at the end of the file; a run takes some hundred


class ToldDeploys(NamedTuple):
    """Entries of histories, each with its ``hosts``; and why others are not known."""

    entries: Sequence[Mapping[str, Any]]
    failures: Sequence[str] = ()


ReadDeploys = Callable[[], ToldDeploys]
"""Reads them, in a thread."""


def read_records(path: Path) -> ToldDeploys:
    """The last runs in the file; lines that are not an object are left out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ToldDeploys(())
    except OSError as error:
        return ToldDeploys((), [f"{path}: {error.strerror}"])
    found = map(_parse, lines)
    return ToldDeploys([each for each in found if isinstance(each, dict)])


def _parse(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # such as of the line that was cut
        return None
