"""Ends the processes that a test started and did not wait for, such as reloaded workers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_MARK = "GEARMAN_PY_TEST"
_numbers = count()


@contextmanager
def leftovers_killed() -> Iterator[None]:
    """Kill what was started in the block, however it was started and whoever its parent is now.

    They are known by their environment, which is inherited. What a block around this one has
    started is let alone.
    """
    before = os.environ.get(_MARK)
    os.environ[_MARK] = mark = f"{os.getpid()}-{next(_numbers)}"
    try:
        yield
    finally:
        os.environ.pop(_MARK)
        if before is not None:
            os.environ[_MARK] = before
        for pid in _processes_with(f"{_MARK}={mark}".encode()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes_with(variable: bytes) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it has ended
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
