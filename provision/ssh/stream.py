"""What SSH runs over: a socket, or a channel through a jump host.

It breaks when nothing comes for too long, on every system and through every jump host: a TCP
socket by itself notices a dead peer late, and one behind a jump host never.
"""

import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from provision.ssh.route import Hop
from provision.ssh.timeouts import CONNECT_TIMEOUT, LOGIN_TIMEOUT

if TYPE_CHECKING:
    import paramiko

KEEPALIVE_INTERVAL = 5.0  # seconds of silence until a sign of life is asked for
KEEPALIVE_TIMEOUT = 10.0  # seconds more of silence, and the peer is gone
UNREAD_LIMIT = 1 << 23  # bytes on a channel: four times the window that its peer is given


class SSHStream:
    """As paramiko uses a socket.

    Silence is counted in what paramiko waits at once: a laptop that slept was not waiting. So is
    how long the peer takes nothing of what is sent. ``problem`` says why it was broken.
    """

    def __init__(self, line: Any) -> None:
        self._line = line
        self._wait = 0.0
        self._stalled = 0.0  # seconds
        self._end = math.inf  # of what is limited
        self._limit_problem = ""
        self._transport: paramiko.Transport | None = None
        self.silence = 0.0  # seconds
        self.problem = ""

    @contextmanager
    def limit(self, seconds: float, problem: str) -> Iterator[None]:
        """Break it, with this problem, unless what is done meanwhile is over in time.

        A peer that sends something from time to time would be waited for without end.
        """
        self._limit_problem, self._end = problem, time.monotonic() + seconds
        try:
            yield
        finally:
            self._end = math.inf

    def watch(self, transport: "paramiko.Transport") -> None:
        """Break it when its peer sends more than is read: paramiko would keep all of it."""
        self._transport = transport

    def settimeout(self, seconds: float) -> None:
        self._wait = seconds
        self._line.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        self._check()
        try:
            piece: bytes = self._line.recv(size)
        except TimeoutError:
            self.silence += self._wait
            if self.silence > KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT:
                raise EOFError from None
            raise
        self.silence = 0.0
        return piece

    def send(self, data: bytes) -> int:
        self._check()
        try:
            sent: int = self._line.send(data)
        except TimeoutError:
            self._stalled += self._wait
            if self._stalled > KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT:
                self.problem = f"it took nothing for {self._stalled:.0f} s"
            raise
        self._stalled = 0.0
        return sent

    def _check(self) -> None:
        if time.monotonic() > self._end:
            self.problem = self._limit_problem
        channels = self._transport._channels.values() if self._transport else ()  # type: ignore[attr-defined]  # no stub
        if any(len(c.in_buffer) + len(c.in_stderr_buffer) > UNREAD_LIMIT for c in channels):
            self.problem = "it sends more than is read"
        if self.problem:
            raise EOFError

    def close(self) -> None:
        with suppress(EOFError, OSError):  # a jump host that is gone cannot be told
            self._line.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)


def dial_hop(hop: Hop, gateway: "paramiko.Transport | None") -> SSHStream:
    """A line to a machine, through a gateway's connection or straight."""
    if gateway is not None:
        place = (hop.address, hop.port)
        return SSHStream(
            gateway.open_channel("direct-tcpip", place, ("", 0), timeout=LOGIN_TIMEOUT)
        )
    straight = socket.create_connection((hop.address, hop.port), CONNECT_TIMEOUT)
    straight.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each exec waits 43 ms
    return SSHStream(straight)


def keep_alive(transport: "paramiko.Transport", line: SSHStream) -> None:
    """Ask for a sign of life whenever nothing came for a while, as long as the line is there.

    In a thread of its own, for a question may have to wait behind what cannot be sent. Paramiko's
    set_keepalive wants no answer, so its absence would go unnoticed.
    """

    line.watch(transport)

    def ask() -> None:
        with suppress(EOFError, OSError):  # the line is gone, and who reads from it is told
            while transport.is_active():
                time.sleep(KEEPALIVE_INTERVAL)
                if line.silence >= KEEPALIVE_INTERVAL and transport.is_active():
                    transport.global_request("keepalive@openssh.com", wait=True)

    Thread(target=ask, daemon=True, name="keep alive").start()
