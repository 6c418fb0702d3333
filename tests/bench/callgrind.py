"""Instructions that a process takes, counted by callgrind; what else runs does not matter."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gearman_py.protocol.accelerator import PURE
from packages.accelerator import build_accelerator

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
"""What runs a program so that it tells."""


def read_instructions(said: str) -> int:
    """What it told on stderr."""
    found = re.search(r"Collected : (\d+)", said)
    assert found is not None, said
    return int(found[1])


@contextmanager
def both_kinds() -> Iterator[Mapping[str, dict[str, str]]]:
    """The environments of pure Python and of the accelerator, which is built for this."""
    with tempfile.TemporaryDirectory() as folder:
        build_accelerator(ROOT, Path(folder))
        yield {"pure": {PURE: "1"}, "accelerated": {"PYTHONPATH": folder}}
