"""Listening sockets: TCP and Unix sockets, created here or passed by systemd."""

import contextlib
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from errno import EADDRINUSE
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gearman_py.net import keepalive
from gearman_py.net.servers import UNIX, parse_servers
from gearman_py.server.settings import Settings

log = logging.getLogger("gearmand")

BIND_INTERVAL = 0.2  # seconds between two attempts at a socket in use
# The first descriptor that systemd passes (man sd_listen_fds).
FIRST_PASSED = 3
# The purpose of a socket, by FileDescriptorName= of its unit; other names are for jobs.
JOBS, ADMIN, HTTP, METRICS = "jobs", "admin", "http", "metrics"
_PURPOSES = {JOBS: "", ADMIN: " for operators", HTTP: " for HTTP", METRICS: " for metrics"}
_FREEBIND: dict[int, tuple[int, int]] = {  # ip(7); <linux/in6.h>
    socket.AF_INET: (socket.IPPROTO_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),
}
METRICS_PORT = 9418  # as bakins/gearman-exporter


Listening = TypeVar("Listening")


class StartError(Exception):
    """The server cannot start; the message tells why and what to do."""


class TakenError(StartError):
    """Another process listens there, perhaps not for long."""


class PausableSocket(socket.socket):
    """A listening socket whose connections wait in the kernel while it is ``paused``."""

    paused = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self.paused:
            raise BlockingIOError
        return super().accept()


MANY_WAITING = 10_000  # connections; more come while they are turned away


class ListeningSocket:
    """A listening socket: for jobs, for operators, for jobs over HTTP, or for metrics.

    ``made`` is the socket file to remove when it is closed.
    """

    def __init__(
        self, listening: socket.socket, kind: str = JOBS, *, made: Path | None = None
    ) -> None:
        facts = listening.family, listening.type, listening.proto
        self.socket = PausableSocket(*facts, fileno=listening.detach())
        self.kind = kind
        self.made = made
        self._name = self.socket.getsockname()

    def __str__(self) -> str:
        name = self._name
        where = f"{UNIX}{name}" if isinstance(name, str) else f"{name[0]} port {name[1]}"
        return where + _PURPOSES[self.kind]

    def listen(self, settings: Settings) -> None:
        """Let peers connect. Raises StartError after --bind-timeout.

        Two servers may bind to the same address as long as neither listens there.
        """

        def listen() -> None:
            try:
                self.socket.listen(settings.backlog)
            except OSError as error:
                taken = TakenError if error.errno == EADDRINUSE else StartError
                raise taken(f"cannot listen on {self}: {error.strerror}") from error

        _once_free(settings, str(self), listen)

    def turn_away(self) -> None:
        """Close the connections that wait to be accepted: their peers go on to other servers.

        At a socket of systemd they would otherwise wait for a server that cannot start.
        """
        self.socket.setblocking(False)
        with contextlib.suppress(OSError):
            for _ in range(MANY_WAITING):
                self.socket.accept()[0].close()

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()
        if self.made:
            # If it cannot be removed, the next start replaces it.
            with contextlib.suppress(OSError):
                self.made.unlink()

    def give_to(self, user: int, group: int) -> None:
        """Change the owner and group of the socket file. Raises OSError."""
        if self.made:
            os.chown(self.made, user, group)


def open_sockets(settings: Settings) -> list[ListeningSocket]:
    """The configured sockets, or those that systemd passed. Raises StartError.

    Sockets of systemd outlive this process: clients that connect meanwhile wait.
    """
    doors = list(_passed_sockets(settings))
    passed = {door.kind for door in doors}
    with contextlib.ExitStack() as opened:
        for door in _asked_for(settings, passed):
            opened.callback(door.close)
            doors.append(door)
        opened.pop_all()
    return doors


def _asked_for(settings: Settings, passed: set[str]) -> Iterator[ListeningSocket]:
    if JOBS not in passed:
        yield from _listen_on(settings, settings.port, JOBS)
    if HTTP not in passed and settings.protocol:
        yield from _listen_on(settings, settings.http_port, HTTP)
    if METRICS not in passed and settings.metrics_listen:
        for server in parse_servers(settings.metrics_listen, port=METRICS_PORT):
            yield from _listen_at(settings, server.host, server.port, METRICS)
    if ADMIN not in passed:
        for name in settings.admin_listen:
            bind = partial(_bind_unix, name, settings.backlog, 0o660, ADMIN)
            yield _once_free(settings, name, bind)


def _passed_sockets(settings: Settings) -> Iterator[ListeningSocket]:
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    for number in range(int(os.environ.pop("LISTEN_FDS", "0"))):
        passed = socket.socket(fileno=FIRST_PASSED + number)
        if passed.type != socket.SOCK_STREAM or not _is_listening(passed):
            raise StartError(f"systemd passed descriptor {passed.fileno()}, not a listening stream")
        if passed.family != socket.AF_UNIX:
            _tune_socket(passed, settings)
        name = names[number] if number < len(names) else JOBS
        yield ListeningSocket(passed, name if name in _PURPOSES else JOBS)


def _is_listening(passed: socket.socket) -> bool:
    return bool(passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _listen_on(settings: Settings, port: int, kind: str) -> Iterator[ListeningSocket]:
    every = ("::", "0.0.0.0") if socket.has_ipv6 else ("0.0.0.0",)  # noqa: S104 - the default of C gearmand: all addresses
    for name in dict.fromkeys(settings.listen or every):
        if kind == JOBS or not name.startswith(UNIX):
            yield from _listen_at(settings, name, port, kind)


def _listen_at(settings: Settings, name: str, port: int, kind: str) -> Iterator[ListeningSocket]:
    """All addresses of a name, or the Unix socket that it names."""
    if name.startswith(UNIX):
        yield _once_free(settings, name, partial(_bind_unix, name, settings.backlog, 0o666, kind))
        return
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        flag = "--metrics-listen" if kind == METRICS else "--listen"
        raise StartError(f"cannot resolve {flag} {name}: {error.strerror}") from error
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        bind = partial(_bind_tcp, family, address, settings, kind)
        yield ListeningSocket(_once_free(settings, _format_address(address), bind), kind)


def _format_address(address: tuple[object, ...]) -> str:
    return f"{address[0]} port {address[1]}"


def _once_free(settings: Settings, where: str, listen: Callable[[], Listening]) -> Listening:
    """Listen where another server may be about to end. Raises StartError after --bind-timeout."""
    deadline = time.monotonic() + settings.bind_timeout
    told = False
    while True:
        try:
            found = listen()
            if told:
                log.warning("gearmand: %s is free now", where)
            return found
        except TakenError as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                log.warning("gearmand: %s; trying for %g s", error, settings.bind_timeout)
            told = True
            time.sleep(BIND_INTERVAL)


def _bind_tcp(
    family: int, address: tuple[object, ...], settings: Settings, kind: str
) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _tune_socket(listening, settings)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == METRICS:
            # At boot the address may be added later, and jobs must not wait for that.
            listening.setsockopt(*_FREEBIND[family], 1)
        listening.bind(address)  # peers cannot connect until the server listens
    except OSError as error:
        listening.close()
        where = _format_address(address)
        taken = error.errno == EADDRINUSE
        if taken:
            hint = f"who has it: ss -ltnp 'sport = :{address[1]}'"
            raise TakenError(f"cannot listen on {where}: {error.strerror}; {hint}") from error
        raise StartError(f"cannot listen on {where}: {error.strerror}") from error
    return listening


def _tune_socket(listening: socket.socket, settings: Settings) -> None:
    """Set the options that accepted connections inherit."""
    times = settings.keepalive_idle, settings.keepalive_interval, settings.keepalive_count
    keepalive.watch(listening, *times)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bind_unix(name: str, backlog: int, mode: int, kind: str) -> ListeningSocket:
    path = Path(name.removeprefix(UNIX))
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listening.bind(str(path))
        path.chmod(mode)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise StartError(f"cannot listen on {name}: {error.strerror or error}") from error
    except StartError:
        listening.close()
        raise
    return ListeningSocket(listening, kind, made=path)


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that has ended. Raises StartError if it still runs."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"cannot listen on {UNIX}{path}: the file exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
        try:
            there.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise TakenError(f"cannot listen on {UNIX}{path}: another server listens there")
