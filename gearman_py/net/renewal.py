"""Files that may be renewed while a program uses them, such as certificates."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

CHECK_INTERVAL = 5.0  # seconds between two checks whether they were renewed


async def watch_files(files: Sequence[str], reload: Callable[[], bool]) -> None:
    """Call ``reload`` whenever a file has changed, again until it returns that it worked."""
    known = _modification_times(files)
    while files:
        await asyncio.sleep(CHECK_INTERVAL)
        if (now := _modification_times(files)) != known and reload():
            known = now


def _modification_times(files: Sequence[str]) -> list[tuple[int, int]]:
    found = []
    for path in files:
        with suppress(OSError):  # it is being replaced
            each = os.stat(path)
            found.append((each.st_ino, each.st_mtime_ns))
    return found
