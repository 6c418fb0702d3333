"""The life of a job server: listen, notify systemd, serve, and stop when told to.

SIGTERM and SIGINT stop it at once, or when no job runs (``drain_timeout``); a second one stops it
at once. Peers get what they are owed, and queued jobs are lost unless they are stored. With a
durable queue, peers cannot connect until the jobs of the previous run are queued again. SIGUSR1
refuses new connections and stops the server when no job is left. SIGHUP reopens the log file and
reloads the certificate. The text commands `shutdown` and `shutdown graceful` act like SIGTERM and
SIGUSR1; `shutdown moved` stops it if no job would be lost.
"""

import asyncio
import gc
import logging
import os
import pwd
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gearman_py import __version__
from gearman_py.broker.broker import Broker
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.kept_results import KeptResults
from gearman_py.broker.queues import Queues
from gearman_py.broker.returning import drain
from gearman_py.event_loop import new_event_loop
from gearman_py.sdnotify import notify, watchdog_interval
from gearman_py.server import memory
from gearman_py.server.admission import Handshakes
from gearman_py.server.certificate import reload_certificate, watch_certificate
from gearman_py.server.connection import Connection
from gearman_py.server.counts import watch_event_loop
from gearman_py.server.crontab import next_run
from gearman_py.server.facts import describe_server
from gearman_py.server.http_connection import HTTPConnection
from gearman_py.server.listener import DRAIN_INTERVAL, Listener
from gearman_py.server.listening import ADMIN, HTTP, METRICS, ListeningSocket, StartError
from gearman_py.server.metrics_http import MetricsConnection, MetricsPages
from gearman_py.server.relayed_connection import close_relayed
from gearman_py.server.reload import Reload
from gearman_py.server.settings import Settings
from gearman_py.server.store_writer import StoreWriter, replay_store
from gearman_py.server.stores import open_store
from gearman_py.server.takeover import Takeover
from gearman_py.server.tls_acceptor import TLSAcceptor
from gearman_py.store.base import Store, StoreError, first_number

log = logging.getLogger("gearmand")

# Freeing a block of this size once makes glibc's malloc keep as much for later workloads; otherwise
# it returns each one to the system, and the pages of the next are zeroed again: twice the CPU for
# workloads of a MiB (measured).
MALLOC_KEEPS = 4 * 2**20
# Seconds between two checks for peers that have stopped reading or writing.
SWEEP_INTERVAL = 5.0
Servers = dict[ListeningSocket, asyncio.Server | TLSAcceptor]
# From 3.13 on, event loops look at the file of a Unix socket when they begin to serve, though its
# folder may be closed to the server's user, and remove it when they stop, though it be systemd's.
KEEP_SOCKET_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


def allow_descriptors(number: int) -> None:
    """Raise the limit of open files of this process. Raises StartError."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(number, most)))
    except (ValueError, OSError) as error:
        raise StartError(
            f"--file-descriptors: {number} is more than the {most} that the system allows here"
        ) from error


def become_user(user: str, doors: Sequence[ListeningSocket]) -> None:
    """Switch from root to a user, which becomes the owner of socket files. Raises StartError."""
    try:
        entry = pwd.getpwnam(user)
        if os.geteuid() != entry.pw_uid:
            for door in doors:
                door.give_to(entry.pw_uid, entry.pw_gid)
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
    except KeyError:
        raise StartError(
            f"user {user!r} does not exist; create it: useradd --system -s /usr/sbin/nologin {user}"
        ) from None
    except PermissionError as error:
        raise StartError(f"only root can switch to user {user!r}") from error


def serve(
    settings: Settings,
    doors: Sequence[ListeningSocket],
    tls: ssl.SSLContext | None = None,
    takeover: Takeover | None = None,
    on_ready: Callable[[], None] | None = None,
) -> int:
    """Serve at these sockets until a signal or an operator stops it; return the exit status.

    TCP sockets use ``tls`` if it is given. ``on_ready`` is called once clients can connect. With
    ``takeover``, the sockets and all else are those of
    another process. Raises StartError if the durable queue cannot be used, and ReloadError if the
    takeover failed.
    """
    # The broker creates no reference cycles; the collector would only stall it, and for longer
    # the longer the queues are.
    bytes(MALLOC_KEEPS)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        store = open_store(settings) if takeover is None else None
        queues = Queues(
            settings.handle_prefix,
            first=first_number(store.series if store is not None else 0),
            function_first=settings.function_first,
            rotate=settings.round_robin or not settings.function_first,
            wakeup=settings.worker_wakeup,
            durable=settings.queue != "builtin",
            failed=FailedJobs(settings.keep_failed, 86400 * settings.keep_failed_days),
            results=_make_results(settings),
        )
        if store is not None:
            notify("STATUS=reading the queue")
            replay_store(store, queues)
    except StoreError as error:
        raise StartError(str(error)) from error
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_run_server(settings, doors, tls, queues, store, takeover, on_ready))


def _make_results(settings: Settings) -> KeptResults | None:
    """What keeps results, if any are to be kept."""
    seconds = {os.fsencode(name): kept for name, kept in settings.result_seconds.items()}
    kept = any(seconds.values()) and settings.keep_results_memory
    return KeptResults(seconds, settings.keep_results_memory) if kept else None


async def _run_server(
    settings: Settings,
    doors: Sequence[ListeningSocket],
    tls: ssl.SSLContext | None,
    queues: Queues,
    store: Store | None,
    takeover: Takeover | None,
    on_ready: Callable[[], None] | None,
) -> int:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    stop = asyncio.Event()
    draining = asyncio.Event()
    broker = Broker(
        queues,
        job_retries=settings.job_retries,
        exceptions=settings.exceptions,
        version=__version__,
        log_level=logging.getLevelName(log.getEffectiveLevel()),
        restricted=settings.admin_only,
        on_shutdown=lambda graceful: (draining if graceful else told).set(),
        on_moved=lambda: _stop_reading(listener, stop),
        time_of_day=time.time,
        next_run=next_run,
        on_change=lambda peer, command: listener.log_change(peer, command),
    )
    listener = Listener(
        broker,
        loop,
        max_packet=settings.max_packet,
        max_connections=settings.max_connections,
        max_unread=settings.max_unread,
        unread_timeout=settings.unread_timeout,
    )
    if tls is not None:
        listener.certificate = settings.ssl_certificate
    if takeover is not None:
        doors, store = takeover.receive(broker, listener, settings)
    queues.demand.target = settings.target_wait
    broker.describe = partial(describe_server, listener, settings)
    broker.name_peer = lambda peer: listener.connections[peer].user()
    for door in doors:
        door.listen(settings)
    if takeover is not None:
        await takeover.begin(listener)
    if store is not None:
        listener.store_writer = writer = StoreWriter(
            store, broker, listener.flush, listener.hang_up, stop.set
        )
        if takeover is not None:
            takeover.restore_store_counts(writer)
    if not listener.flushing:  # stored jobs and schedules are due though no peer has come yet
        listener.schedule_flush()
    servers = {
        door: await _open_server(loop, listener, door, settings.backlog, tls) for door in doors
    }
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _request_stop, told, stop)
    loop.add_signal_handler(signal.SIGUSR1, draining.set)
    loop.add_signal_handler(signal.SIGHUP, _handle_hangup, settings, tls)
    where = ", ".join(map(str, doors))
    log.info("gearmand %s listens on %s", __version__, where)
    if takeover is not None:
        await takeover.await_leaving()
    reload = asyncio.create_task(
        Reload(listener, doors, settings, lambda: told.is_set() or draining.is_set()).wait()
    )
    await asyncio.sleep(0)  # until it listens: from now on systemd may have it reloaded
    notify("READY=1", f"STATUS=listening on {where}")
    if on_ready is not None:
        on_ready()
    chores = [
        asyncio.create_task(_ping_watchdog()),
        asyncio.create_task(_sweep_connections(listener)),
        asyncio.create_task(memory.watch_memory(listener, settings.max_memory)),
        asyncio.create_task(watch_event_loop(listener.counts, queues)),
        asyncio.create_task(watch_certificate(settings, tls)),
        asyncio.create_task(listener.let_all_go()),
        asyncio.create_task(close_relayed(listener, settings.tls_relay_time)),
        asyncio.create_task(_drain_queues(draining, servers, broker, stop)),
        asyncio.create_task(_finish_running_jobs(told, settings.drain_timeout, broker, stop)),
    ]
    for chore in chores:
        chore.add_done_callback(partial(_chore_ended, stop))
    await stop.wait()
    failed = any(chore.done() and chore.exception() for chore in chores)
    notify("STOPPING=1")
    log.info("stopping: %d jobs were queued or running", len(broker.queues.jobs))
    for chore in (*chores, reload):
        chore.cancel()
    for door, server in servers.items():
        server.close()
        door.close()
    if listener.store_writer is not None:
        listener.stop_reading()
        await listener.store_writer.finish()
        if listener.store_writer.broken:
            drain(broker, loop.time())  # clients that know others take their jobs there
    await listener.flush_all()
    for connection in listener.connections.values():
        connection.transport.close()
    return (
        1 if failed or (listener.store_writer is not None and listener.store_writer.broken) else 0
    )


def _chore_ended(stop: asyncio.Event, chore: asyncio.Task[None]) -> None:
    """Stop the server: without one of its background tasks it would only seem to work."""
    if not chore.cancelled() and (error := chore.exception()):
        log.critical("stopping: a background task of the server failed", exc_info=error)
        stop.set()


async def _open_server(
    loop: asyncio.AbstractEventLoop,
    listener: Listener,
    door: ListeningSocket,
    backlog: int,
    tls: ssl.SSLContext | None,
) -> asyncio.Server | TLSAcceptor:
    connect: Callable[[], asyncio.Protocol] = partial(Connection, listener)
    if door.kind == HTTP:
        connect = partial(HTTPConnection, listener)
    elif door.kind == METRICS:
        connect = partial(MetricsConnection, MetricsPages(listener))
    elif door.kind == ADMIN:
        connect = partial(Connection, listener, operator=True)
    try:
        if door.socket.family == socket.AF_UNIX:
            return await loop.create_unix_server(
                connect, sock=door.socket, backlog=backlog, **KEEP_SOCKET_FILE
            )
        if tls is None:
            return await loop.create_server(connect, sock=door.socket, backlog=backlog)
        if door.kind == METRICS:  # whatever the peers of the other doors do
            own = Handshakes(loop.time)
            return TLSAcceptor(loop, connect, door.socket, tls, own, lambda _: True)
        has_room = listener.admission.has_room
        return TLSAcceptor(loop, connect, door.socket, tls, listener.handshakes, has_room)
    except OSError as error:
        raise StartError(f"cannot listen on {door}: {error.strerror}") from error


def _handle_hangup(settings: Settings, tls: ssl.SSLContext | None) -> None:
    """Handle SIGHUP. The log handler notices by itself that its file was moved."""
    log.info("SIGHUP: reopening the log file")
    reload_certificate(settings, tls)


async def _ping_watchdog() -> None:
    interval = watchdog_interval()
    while interval is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


async def _sweep_connections(listener: Listener) -> None:
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        await listener.close_lost_peers()


def _request_stop(told: asyncio.Event, stop: asyncio.Event) -> None:
    """Handle SIGTERM or SIGINT; the second one stops at once."""
    (stop if told.is_set() else told).set()


def _stop_reading(listener: Listener, stop: asyncio.Event) -> None:
    """Stop before another job can be accepted."""
    listener.stop_reading()
    stop.set()


async def _finish_running_jobs(
    told: asyncio.Event, seconds: float, broker: Broker, stop: asyncio.Event
) -> None:
    await told.wait()
    broker.close()
    drain(broker, asyncio.get_running_loop().time())
    if seconds and (running := broker.queues.running):
        log.info("stopping: %d running jobs may end within %g s", running, seconds)
        deadline = time.monotonic() + seconds
        while broker.queues.running and time.monotonic() < deadline:  # noqa: ASYNC110 - no events
            await asyncio.sleep(DRAIN_INTERVAL)
    stop.set()


async def _drain_queues(
    draining: asyncio.Event,
    servers: Servers,
    broker: Broker,
    stop: asyncio.Event,
) -> None:
    await draining.wait()
    log.info("draining: no new connections, %d jobs to go", len(broker.queues.jobs))
    notify("STATUS=draining")
    for door, server in servers.items():
        if door.kind not in (ADMIN, METRICS):  # they may want to watch the progress
            server.close()
    drain(broker, asyncio.get_running_loop().time())
    while broker.queues.jobs:  # noqa: ASYNC110 - the broker knows no events to wait on
        await asyncio.sleep(DRAIN_INTERVAL)
    stop.set()
