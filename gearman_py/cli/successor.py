"""gearmand -d and --reload PID: a process of its own serves; the command tells how that went."""

import contextlib
import os
import pwd
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gearman_py.server.reload_channel import ReloadError
from gearman_py.server.takeover import Takeover, explain_absence

DONE = "done"
NO_REASON = "the new process ended without a reason; the log of the server may have one"
STDERR = 2  # the last of the standard streams


class SuccessorReport:
    """Tells the command that started this process how that went, once."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def tell(self, outcome: str = DONE) -> None:
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError):  # the command was interrupted
                os.write(self._pipe, outcome.encode())
            os.close(self._pipe)
            self._pipe = -1


def fork_server(failure: str) -> SuccessorReport | int:
    """In the new process, what it is to report to; in this one, the exit status after that.

    ``failure``: what is printed before the reason if it reports one, or ends. The new process is
    a child of init: systemd makes only those the main process of a unit.
    """
    _open_standard_streams()
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading, errors="replace") as pipe:
            outcome = pipe.read()
        if outcome == DONE:
            return 0
        print(f"gearmand: {failure}{outcome or NO_REASON}", file=sys.stderr)
        return 1
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    return SuccessorReport(writing)


def _open_standard_streams() -> None:
    """Open those that are closed, so that no other file has the number of one."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(number)


def take_over(process: int, serving: Callable[[], None]) -> Takeover:
    """Begin to take over from a process, as its user. Raises ReloadError."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if os.geteuid() == 0:  # others may not see it, as a unit with ProtectProc=invisible
        _become_user_of(process)
    return Takeover(process, serving)


def _become_user_of(process: int) -> None:
    try:
        user = Path(f"/proc/{process}").stat().st_uid
    except FileNotFoundError:
        raise ReloadError(explain_absence(process)) from None
    if user:
        entry = pwd.getpwuid(user)
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(user)


def without_reload(words: Sequence[str]) -> list[str]:
    """Command-line arguments but for --reload."""
    kept: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        if before != "--reload" and word.partition("=")[0] != "--reload":
            kept.append(word)
    return kept
