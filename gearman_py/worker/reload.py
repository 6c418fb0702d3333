"""Reload: a worker starts its successor, and ends once that is registered.

The old worker runs the program again (so new code is loaded) with one end of a socket pair.
The successor sends its pid over it once it is registered with job servers; the old one tells
systemd that this is now the main process, answers, and drains. Whichever side fails, the other
sees the socket close: a successor that was not yet told to continue ends, and an old worker stays.

The outcome is reported to the process that called ``request_reload``.
"""

import asyncio
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from gearman_py.sdnotify import notify

_ENVIRONMENT = "GEARMAN_WORKER_HANDOVER"
_CONTINUE = b"go on"
_READY_TIMEOUT = 60.0  # seconds for a successor to be registered


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


async def start_successor() -> int:
    """Start a successor, make it the main process, and return its pid. Raises ReloadFailed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            starting = _launch_program(theirs.fileno())
        try:
            async with asyncio.timeout(_READY_TIMEOUT):
                word = await asyncio.get_running_loop().sock_recv(ours, 32)
        except TimeoutError:
            raise ReloadFailed(
                f"the new worker was not ready within {_READY_TIMEOUT:g} s"
            ) from None
        finally:
            if starting.poll() is None:
                starting.kill()
                starting.wait()
        if not word:
            raise ReloadFailed("the new worker ended before it was ready; see its log")
        notify(f"MAINPID={int(word)}")
        try:
            ours.send(_CONTINUE)
        except OSError:
            notify(f"MAINPID={os.getpid()}")
            raise ReloadFailed("the new worker ended as soon as it was ready") from None
        return int(word)


def _launch_program(descriptor: int) -> "subprocess.Popen[bytes]":
    environment = {key: value for key, value in os.environ.items() if key != "WATCHDOG_PID"}
    environment[_ENVIRONMENT] = f"{descriptor}:{os.getpid()}"
    command = program_command()
    try:
        return subprocess.Popen(
            command, env=environment, pass_fds=[descriptor], stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise ReloadFailed(f"{command[0]}: {error.strerror}") from None


class Predecessor:
    """The worker whose successor this process is."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self._connection = connection
        self._connection.setblocking(False)

    @classmethod
    def from_environment(cls) -> Self | None:
        """None for a worker that was not started by a reload. Call it before there are threads.

        The process continues as a child of the system's first one, so that systemd, and not
        its predecessor, sees how it ends.
        """
        if (word := os.environ.pop(_ENVIRONMENT, None)) is None:
            return None
        descriptor, pid = map(int, word.split(":"))
        if os.fork():
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
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(_meeting_place(pid))
        listening.listen()
        worker = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGHUP)
            return _await_outcome(pid, worker, listening)
        finally:
            os.close(worker)


def _await_outcome(pid: int, worker: int, listening: socket.socket) -> str | None:
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    poll.register(listening, select.POLLIN)
    while events := poll.poll((_READY_TIMEOUT + 5) * 1000):
        if listening.fileno() not in dict(events):
            return f"worker {pid} ended"
        answer, _ = listening.accept()
        with answer:
            if _peer_pid(answer) == pid:
                return answer.recv(2000).decode() or None
    return f"worker {pid} does not answer"


def report_reload(outcome: str) -> None:
    """Send the outcome, empty for success, to the process that asked for it, if one did."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        try:
            asker.connect(_meeting_place(os.getpid()))
            asker.sendall(outcome.encode())
        except OSError:
            pass  # it was a plain signal


def is_reload_requested() -> bool:
    """Whether a process waits for the outcome of a reload."""
    place = f"@{_meeting_place(os.getpid())[1:]}"
    return any(line.endswith(f" {place}") for line in _unix_sockets())


def _unix_sockets() -> list[str]:
    try:
        return Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return []


def _meeting_place(pid: int) -> str:
    return f"\0gearman-worker-reload-{pid}"


def _peer_pid(connection: socket.socket) -> int:
    ucred = struct.Struct("3i")  # man unix(7)
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size)
    pid: int = ucred.unpack(credentials)[0]
    return pid
