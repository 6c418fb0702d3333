"""New code beside the old: a worker starts its successor, and leaves once that is registered.

The old worker starts the program anew (so new code is loaded) with one end of a socket pair.
The successor says its pid over it when job servers know it; the old one tells systemd that
this is now the main process, answers, and drains. Whichever side fails, the other sees the
socket close: a successor that was not yet told to go on ends, and an old worker stays.

The outcome goes to whoever asked for the reload by ``request``.
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
_GO_ON = b"go on"
_LIMIT = 60.0  # seconds for a successor to be registered


class HandoverFailed(Exception):
    """There is no successor; the text says why. The old worker goes on."""


def program() -> list[str]:
    """How to start this program again: its script as it is now, which may be another's by then.

    A script that stands for itself is run by itself: its first line names its interpreter,
    and with a symbolic link in its path, as deploys switch, that may be a new one too.
    """
    script = Path(sys.argv[0])
    if script.is_file() and os.access(script, os.X_OK):
        return [str(script.absolute()), *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]


async def hand_over() -> int:
    """Start a successor and make it the main process; its pid. Raises HandoverFailed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            starting = _start(theirs.fileno())
        try:
            async with asyncio.timeout(_LIMIT):
                word = await asyncio.get_running_loop().sock_recv(ours, 32)
        except TimeoutError:
            raise HandoverFailed(f"the new worker was not ready within {_LIMIT:g} s") from None
        finally:
            if starting.poll() is None:
                starting.kill()
                starting.wait()
        if not word:
            raise HandoverFailed("the new worker ended before it was ready; see its log")
        notify(f"MAINPID={int(word)}")
        try:
            ours.send(_GO_ON)
        except OSError:
            notify(f"MAINPID={os.getpid()}")
            raise HandoverFailed("the new worker ended as soon as it was ready") from None
        return int(word)


def _start(descriptor: int) -> "subprocess.Popen[bytes]":
    environment = {key: value for key, value in os.environ.items() if key != "WATCHDOG_PID"}
    environment[_ENVIRONMENT] = f"{descriptor}:{os.getpid()}"
    command = program()
    try:
        return subprocess.Popen(
            command, env=environment, pass_fds=[descriptor], stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise HandoverFailed(f"{command[0]}: {error.strerror}") from None


class Predecessor:
    """The worker whose successor this process is."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self._connection = connection
        self._connection.setblocking(False)

    @classmethod
    def from_environment(cls) -> Self | None:
        """None for a worker that is nobody's successor. Call it before there are threads.

        The process goes on as a child of the system's first one: systemd can then see how it
        ends, and not its predecessor.
        """
        if (word := os.environ.pop(_ENVIRONMENT, None)) is None:
            return None
        descriptor, pid = map(int, word.split(":"))
        if os.fork():
            os._exit(0)
        return cls(socket.socket(fileno=descriptor), pid)

    async def relieve(self, ready: Callable[[], Awaitable[object]]) -> bool:
        """Say that we are ready once we are; whether to go on: it may have given us up."""
        loop = asyncio.get_running_loop()
        answer = asyncio.ensure_future(loop.sock_recv(self._connection, 32))
        waiting = asyncio.ensure_future(ready())
        await asyncio.wait((answer, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            if not answer.done():
                await loop.sock_sendall(self._connection, b"%d" % os.getpid())
            return await answer == _GO_ON
        except OSError:
            return False
        finally:
            self._connection.close()

    async def gone(self) -> None:
        """Wait until it has ended: systemd kills what is left when the main process ends."""
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

    def hurry(self) -> None:
        """Have it leave its jobs to the servers."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass


# Asking for a reload from another process, and hearing how it went.


def request(pid: int) -> str | None:
    """Have the worker ``pid`` reload; why that failed, or None. Raises ProcessLookupError,
    PermissionError, or OSError when somebody else is asking it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(_meeting_place(pid))
        listening.listen()
        worker = os.pidfd_open(pid)
        os.kill(pid, signal.SIGHUP)
        poll = select.poll()
        poll.register(worker, select.POLLIN)
        poll.register(listening, select.POLLIN)
        while events := poll.poll((_LIMIT + 5) * 1000):
            if listening.fileno() not in dict(events):
                return f"worker {pid} ended"
            answer, _ = listening.accept()
            with answer:
                if _peer(answer) == pid:
                    return answer.recv(2000).decode() or None
        return f"worker {pid} does not answer"


def tell(outcome: str) -> None:
    """Give the outcome, empty for success, to who asked for it, if anybody did."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        try:
            asker.connect(_meeting_place(os.getpid()))
            asker.sendall(outcome.encode())
        except OSError:
            pass  # it was a plain signal


def reload_was_asked() -> bool:
    """Whether somebody waits for the outcome of a reload."""
    place = f"@{_meeting_place(os.getpid())[1:]}"
    return any(line.endswith(f" {place}") for line in _unix_sockets())


def _unix_sockets() -> list[str]:
    try:
        return Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return []


def _meeting_place(pid: int) -> str:
    return f"\0gearman-worker-reload-{pid}"


def _peer(connection: socket.socket) -> int:
    ucred = struct.Struct("3i")  # man unix(7)
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size)
    pid: int = ucred.unpack(credentials)[0]
    return pid
