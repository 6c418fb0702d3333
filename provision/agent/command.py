"""Commands that run on a host, each to its end and in time, or stopped with all it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from provision.agent.files import Failure
from provision.agent.link import CHUNK_SIZE, ENVIRONMENT, FrameLink, Gone

COMMAND_TIMEOUT = 900.0  # seconds for one command
OUTPUT_LIMIT = 1 << 16  # bytes of a command's output that are kept, and
OUTPUT_LINES = 20  # how many lines of them
# The lock is free once this process is gone, however it went: then nothing may go on behind it.
DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM")
BRIEF_TIMEOUT = 30.0  # seconds for a command that should take none
STOP_TIMEOUT = 5.0  # seconds between asking a command to stop and stopping it


def run_command(
    link: FrameLink,
    argv: list[str],
    seconds: float = COMMAND_TIMEOUT,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    while_: Callable[[], bool] = lambda: True,
) -> str:
    """The last that a command said. Raises :class:`Failure` unless it ended well and in time.

    It is stopped, with all it started, when the operator's side is gone, or ``while_`` is no
    longer so. Given a descriptor for its ``stdout``, only what it says on stderr is told.
    """
    deadline = time.monotonic() + seconds
    process = subprocess.Popen(
        [*DIES_WITH_US, *argv],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout == subprocess.PIPE else subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
        umask=0o022,
        start_new_session=True,
    )
    heard = process.stdout or process.stderr
    assert heard  # noqa: S101  # for mypy: it is a pipe
    try:
        said = _read_output(link, process, heard.fileno(), deadline, while_)
    except (Gone, subprocess.TimeoutExpired) as error:
        stop_command(process)
        if isinstance(error, Gone):
            raise
        late = f"`{' '.join(argv[:3])}` was stopped after {seconds:.0f} s"
        raise Failure(late, late=True) from error
    finally:
        heard.close()
    if process.returncode:
        raise Failure(f"`{' '.join(argv[:3])}` ended with {process.returncode}", said)
    return said


def _read_output(
    link: FrameLink, process: Any, output: int, deadline: float, while_: Callable[[], bool]
) -> str:
    """What it says until it ends: a service it started may keep its output open."""
    said = b""
    open_ = True
    while process.poll() is None or open_:
        if time.monotonic() > deadline or not while_():
            raise subprocess.TimeoutExpired(process.args, 0)
        if not open_:
            link.wait(seconds=0.01)
        elif link.wait(output, 0.5):
            piece = os.read(output, CHUNK_SIZE)
            said = (said + piece)[-OUTPUT_LIMIT:]
            open_ = bool(piece)
        else:
            open_ = process.poll() is None
    lines = said.decode(errors="backslashreplace").rstrip().splitlines()
    return "\n".join(lines[-OUTPUT_LINES:])


def stop_command(process: Any) -> None:
    """End a command and all that it started: some of these may outlive it, so kill them too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def run_briefly(argv: list[str]) -> None:
    """Run a command that is over in a moment to its end, though the operator's side is gone.

    For what locks files of the system: a lock that it leaves when it is killed may stay.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            cwd="/",
            timeout=BRIEF_TIMEOUT,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"`{' '.join(argv[:3])}` was stopped after {BRIEF_TIMEOUT:.0f} s") from error
    if done.returncode:
        said = done.stdout.decode(errors="backslashreplace")[-OUTPUT_LIMIT:].rstrip()
        raise Failure(f"`{' '.join(argv[:3])}` ended with {done.returncode}", said)


def try_briefly(argv: list[str]) -> None:
    """The same with a command that may fail: to clean up."""
    try:
        run_briefly(argv)
    except Failure:
        pass


def end_units(pattern: str) -> None:
    """End systemd's units of this name at once, and have it forget those that failed."""
    for words in (["kill", "--signal=SIGKILL"], ["stop"], ["reset-failed"]):
        try_briefly(["systemctl", *words, pattern])


def try_command(link: FrameLink, argv: list[str], seconds: float = COMMAND_TIMEOUT) -> str:
    """What a command said that may fail."""
    try:
        return run_command(link, argv, seconds)
    except Failure as failure:
        return failure.output
