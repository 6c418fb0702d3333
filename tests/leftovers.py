"""Ends the processes that tests started and did not wait for, such as reloaded workers.

They are known by a variable of their environment, which is inherited, however they were started
and whoever their parent is now.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

RUN_MARK, TEST_MARK = "GEARMAN_PY_RUN", "GEARMAN_PY_TEST"
_numbers = count()


@contextmanager
def leftovers_killed() -> Iterator[None]:
    """Kill what was started in the block, except by a block inside it, when it ends."""
    before = os.environ.get(TEST_MARK)
    os.environ[TEST_MARK] = mark = f"{os.getpid()}-{next(_numbers)}"
    try:
        yield
    finally:
        os.environ.pop(TEST_MARK)
        if before is not None:
            os.environ[TEST_MARK] = before
        for pid in _find_processes(TEST_MARK, mark):
            _kill_process(pid)


def mark_run() -> None:
    """What is started from now on belongs to this run."""
    os.environ[RUN_MARK] = str(os.getpid())


def kill_leftovers_of_run() -> None:
    """Kill our programs that the run left, also those of side-by-side processes that were killed.

    Others are left alone: the lab may stay up after a run.
    """
    ours = os.path.realpath(sys.executable)
    for pid in _find_processes(RUN_MARK, str(os.getpid())):
        with suppress(OSError):
            program = os.readlink(f"/proc/{pid}/exe")
            if pid != os.getpid() and (program == ours or "gearman" in program):
                _kill_process(pid)


def _find_processes(variable: str, value: str) -> Iterator[int]:
    wanted = f"{variable}={value}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it has ended
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _kill_process(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
