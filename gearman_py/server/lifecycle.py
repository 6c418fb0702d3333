"""A job server's life: listen, tell systemd, serve, stop when told to.

SIGTERM and SIGINT stop at once: what peers are owed is written, queued jobs are forgotten.
SIGUSR1 stops accepting and ends when no job is left. SIGHUP opens the log file anew.
"""

import asyncio
import contextlib
import gc
import logging
import os
import pwd
import resource
import signal
import socket
import time
from collections.abc import Iterator

import uvloop

from gearman_py import __version__
from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.sdnotify import notify, watchdog_interval
from gearman_py.server.listener import Listener
from gearman_py.server.settings import Settings

log = logging.getLogger("gearmand")

# Freeing a block of this size once teaches glibc's malloc to keep as much for workloads to
# come; else it returns each to the system and has the next one's pages made anew: twice the
# CPU for workloads of a MiB (measured).
KEPT = 8 * 2**20
# How often connections are looked over for peers that have stopped reading (seconds).
SWEEP = 10.0


class StartError(Exception):
    """The server cannot start; the message says why and what to do."""


def open_sockets(settings: Settings) -> list[socket.socket]:
    """Listening sockets for every address asked for; raises StartError, leaving none open."""
    with contextlib.ExitStack() as opened:
        sockets = [
            opened.enter_context(_listen(family, address, settings))
            for family, address in _addresses(settings)
        ]
        opened.pop_all()
    return sockets


def _addresses(settings: Settings) -> Iterator[tuple[int, tuple[object, ...]]]:
    names = settings.listen or (("::", "0.0.0.0") if socket.has_ipv6 else ("0.0.0.0",))  # noqa: S104 - the reference's default: all addresses
    for name in dict.fromkeys(names):
        try:
            found = socket.getaddrinfo(
                name, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except socket.gaierror as error:
            raise StartError(f"cannot resolve --listen {name}: {error.strerror}") from error
        yield from dict.fromkeys((family, address) for family, _, _, _, address in found)


def _listen(family: int, address: tuple[object, ...], settings: Settings) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit these.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, settings.keepalive_idle),
            (socket.TCP_KEEPINTVL, settings.keepalive_interval),
            (socket.TCP_KEEPCNT, settings.keepalive_count),
        ):
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(settings.backlog)
    except OSError as error:
        listening.close()
        where = f"{address[0]} port {address[1]}"
        hint = f"; who has it: ss -ltnp 'sport = :{address[1]}'" if error.errno == 98 else ""
        raise StartError(f"cannot listen on {where}: {error.strerror}{hint}") from error
    return listening


def allow_descriptors(number: int) -> None:
    """Raise this process's limit of open files; raises StartError."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(number, most)))
    except (ValueError, OSError) as error:
        raise StartError(
            f"--file-descriptors: {number} are more than the {most} that the system allows here"
        ) from error


def become(user: str) -> None:
    """Give up root for a user's rights; raises StartError."""
    try:
        entry = pwd.getpwnam(user)
        if os.geteuid() != entry.pw_uid:
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
    except KeyError:
        raise StartError(
            f"there is no user {user!r}; make one: useradd --system -s /usr/sbin/nologin {user}"
        ) from None
    except PermissionError as error:
        raise StartError(f"only root can switch to user {user!r}") from error


def serve(settings: Settings, sockets: list[socket.socket]) -> None:
    """Serve on these sockets until a signal ends it."""
    # A broker makes no reference cycles; the collector would only stall it, the longer the
    # deeper the queues are.
    bytes(KEPT)
    gc.collect()
    gc.freeze()
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, sockets))


async def _serve(settings: Settings, sockets: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    broker = Broker(
        Queues(
            settings.handle_prefix,
            # Microseconds of the clock outrun any number that an earlier start gave out.
            first=time.time_ns() // 1000,
            function_first=settings.function_first,
            rotate=settings.round_robin or not settings.function_first,
            wakeup=settings.worker_wakeup,
        ),
        job_retries=settings.job_retries,
        exceptions=settings.exceptions,
        version=__version__,
        log_level=logging.getLevelName(log.getEffectiveLevel()),
    )
    listener = Listener(broker, loop, settings.max_packet)
    servers = [await loop.create_server(listener.connect, sock=one) for one in sockets]
    stop = asyncio.Event()
    draining = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, draining.set)
    # The log's handler sees by itself that its file was moved; the signal must not kill.
    loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP: the log file is opened anew")
    where = ", ".join(f"{one.getsockname()[0]} port {one.getsockname()[1]}" for one in sockets)
    log.info("gearmand %s listens on %s", __version__, where)
    notify("READY=1", f"STATUS=listening on {where}")
    chores = [
        asyncio.create_task(_watchdog()),
        asyncio.create_task(_sweep(listener)),
        asyncio.create_task(_drain(draining, servers, broker, stop)),
    ]
    await stop.wait()
    notify("STOPPING=1")
    log.info("stopping: %d jobs were queued or running", len(broker.queues.jobs))
    for chore in chores:
        chore.cancel()
    for server in servers:
        server.close()
    for connection in listener.connections.values():
        connection.transport.close()


async def _watchdog() -> None:
    interval = watchdog_interval()
    while interval is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


async def _sweep(listener: Listener) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        listener.sweep()


async def _drain(
    draining: asyncio.Event,
    servers: list[asyncio.Server],
    broker: Broker,
    stop: asyncio.Event,
) -> None:
    await draining.wait()
    log.info("draining: no new connections, %d jobs to go", len(broker.queues.jobs))
    notify("STATUS=draining")
    for server in servers:
        server.close()
    while broker.queues.jobs:  # noqa: ASYNC110 - the broker knows no events to wait on
        await asyncio.sleep(0.1)
    stop.set()
