"""Reload: a worker starts its successor, and ends once that is registered.

The old worker runs the program again (so new code is loaded) with one end of a socket pair, as a
child of the system's first process, so that systemd, and not the old worker, sees how it ends.
The successor sends its pid over it once it is registered with job servers; the old one tells
systemd that this is now the main process, answers, and drains. Whichever side fails, the other
sees the socket close: a successor that was not yet told to continue ends, and an old worker stays.

The outcome is reported to the process that called ``request_reload``.
"""

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from gearman_py.net import abstract_socket
from gearman_py.sdnotify import notify

_ENVIRONMENT = "GEARMAN_WORKER_HANDOVER"
_RELOADS = "GEARMAN_WORKER_RELOADS"  # how many there were before this process
_CONTINUE = b"go on"
_READY_TIMEOUT = 60.0  # seconds for a successor to be registered
_CONNECT_TIMEOUT = 1.0  # seconds for who asked to accept: jobs are not served meanwhile
# Not by the successor itself once its modules are loaded: a fork keeps none of their threads.
_DETACH = """\
import os, sys
report, handover = map(int, sys.argv[1:3])
os.set_inheritable(report, False)
if pid := os.fork():
    os.write(report, b"%d" % pid)
else:
    try:
        os.execv(sys.argv[3], sys.argv[3:])
    except OSError as error:
        os.write(handover, f"{sys.argv[3]}: {error.strerror}".encode())
"""


class ReloadFailed(Exception):
    """The successor did not start; the message says why. The old worker continues."""


def program_command() -> list[str]:
    """The command that runs this program again, from the current version of its script.

    An executable script is run directly: its first line names its interpreter, and with a
    symbolic link in its path, as deploys switch, that may be a new one too.
    """
    script = Path(sys.argv[0])
    if script.is_file() and os.access(script, os.X_OK):
        return [str(script.absolute()), *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]


def count_reloads() -> int:
    """How often the worker was reloaded until it became this process."""
    word = os.environ.get(_RELOADS, "")
    return int(word) if word.isdecimal() else 0


async def start_successor() -> int:
    """Start a successor, make it the main process, and return its pid. Raises ReloadFailed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            starting = _launch_program(theirs.fileno())
        try:
            word = await _await_registered(ours)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it may be loading without end
                os.kill(starting, signal.SIGTERM)
            raise
        notify(f"MAINPID={word}")
        try:
            ours.send(_CONTINUE)
        except OSError:
            notify(f"MAINPID={os.getpid()}")
            raise ReloadFailed("the new worker ended as soon as it was ready") from None
        return word


async def _await_registered(successor: socket.socket) -> int:
    """Its pid, once it is registered with job servers."""
    try:
        async with asyncio.timeout(_READY_TIMEOUT):
            word = await asyncio.get_running_loop().sock_recv(successor, 4096)
    except TimeoutError:
        raise ReloadFailed(f"the new worker was not ready within {_READY_TIMEOUT:g} s") from None
    if not word:
        raise ReloadFailed("the new worker ended before it was ready; see its log")
    if not word.isdigit():
        raise ReloadFailed(word.decode())
    return int(word)


def _launch_program(handover: int) -> int:
    """Run this program again, detached from this process; return its pid."""
    environment = {key: value for key, value in os.environ.items() if key != "WATCHDOG_PID"}
    environment[_ENVIRONMENT] = f"{handover}:{os.getpid()}"
    environment[_RELOADS] = str(count_reloads() + 1)
    read, write = os.pipe()
    detach = [sys.executable, "-I", "-S", "-c", _DETACH, str(write), str(handover)]
    try:
        subprocess.run(
            [*detach, *program_command()],
            env=environment,
            pass_fds=[write, handover],
            stdin=subprocess.DEVNULL,
        )
        os.set_blocking(read, False)
        return int(os.read(read, 32))
    except (OSError, ValueError) as error:
        raise ReloadFailed(f"{sys.executable}: the new worker cannot be started") from error
    finally:
        os.close(read)
        os.close(write)


class Predecessor:
    """The worker whose successor this process is."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self._connection = connection
        self._connection.setblocking(False)

    @classmethod
    def from_environment(cls) -> Self | None:
        """None for a worker that was not started by a reload."""
        if (word := os.environ.pop(_ENVIRONMENT, None)) is None:
            return None
        descriptor, pid = map(int, word.split(":"))
        # A predecessor of an earlier release started it as its child, and would kill it as that.
        if os.getppid() == pid and os.fork():
            os._exit(0)
        return cls(socket.socket(fileno=descriptor), pid)

    async def take_over(self, ready: Callable[[], Awaitable[object]]) -> bool:
        """Report once ``ready`` returns; False if the old worker has given up meanwhile."""
        loop = asyncio.get_running_loop()
        answer = asyncio.ensure_future(loop.sock_recv(self._connection, 32))
        waiting = asyncio.ensure_future(ready())
        await asyncio.wait((answer, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            if not answer.done():
                await loop.sock_sendall(self._connection, b"%d" % os.getpid())
            return await answer == _CONTINUE
        except OSError:
            return False
        finally:
            self._connection.close()

    async def wait_ended(self) -> None:
        """Wait until it has ended: systemd kills all other processes when the main process ends."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def stop_now(self) -> None:
        """Have it give its jobs back to the servers."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass


# Requesting a reload from another process, and learning its outcome.


def request_reload(pid: int) -> str | None:
    """Have the worker ``pid`` reload; return why that failed, or None.

    Raises ProcessLookupError, PermissionError, or OSError if another reload was requested.
    """
    name = _meeting_place(pid)
    if requester := abstract_socket.connect(name, _is_requester, 0):
        requester.close()
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    with abstract_socket.listen(name) as listening:
        worker = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGHUP)
            return _await_outcome(pid, worker, listening)
        finally:
            os.close(worker)


def _await_outcome(pid: int, worker: int, listening: socket.socket) -> str | None:
    until = time.monotonic() + _READY_TIMEOUT + 5
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    poll.register(listening, select.POLLIN)
    while events := poll.poll(max(0, until - time.monotonic()) * 1000):
        if listening.fileno() not in dict(events):
            return f"worker {pid} ended"
        answer, _ = listening.accept()
        with answer:
            if abstract_socket.read_owner(answer)[0] == pid:
                return answer.recv(2000).decode() or None
    return f"worker {pid} does not answer"


def report_reload(outcome: str) -> None:
    """Send the outcome, empty for success, to the process that asked for it, if one did."""
    name = _meeting_place(os.getpid())
    if asker := abstract_socket.connect(name, _is_requester, _CONNECT_TIMEOUT):
        with asker, contextlib.suppress(OSError):
            asker.sendall(outcome.encode())


def is_reload_requested() -> bool:
    """Whether a process waits for the outcome of a reload."""
    return abstract_socket.is_bound(_meeting_place(os.getpid()))


def _is_requester(process: int, user: int) -> bool:
    return user in (os.geteuid(), 0)


def _meeting_place(pid: int) -> str:
    return f"gearman-worker-reload-{pid}"
