"""A job server that runs: it serves its sockets until it is to stop.

SIGTERM and SIGINT stop it at once, or when no job runs (``drain_timeout``); a second one stops it
at once. Peers get what they are owed, and queued jobs are lost unless they are stored. SIGUSR1
refuses new connections and stops the server when no job is left. SIGHUP reopens the log file and
reloads the certificate. The text commands `shutdown` and `shutdown graceful` act like SIGTERM and
SIGUSR1; `shutdown moved` stops it if no job would be lost.
"""

import asyncio
import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from gearman_py import __version__
from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.broker.returning import drain
from gearman_py.sdnotify import notify, watchdog_interval
from gearman_py.server import memory
from gearman_py.server.admission import Handshakes
from gearman_py.server.certificate import reload_certificate, watch_certificate
from gearman_py.server.connection import Connection
from gearman_py.server.counts import watch_event_loop
from gearman_py.server.crontab import next_run
from gearman_py.server.facts import describe_server
from gearman_py.server.held_signals import STOPPING
from gearman_py.server.http_connection import HTTPConnection
from gearman_py.server.listener import DRAIN_INTERVAL, Listener
from gearman_py.server.listening import ADMIN, HTTP, METRICS, ListeningSocket, StartError
from gearman_py.server.log_file import LogFile
from gearman_py.server.metrics_http import MetricsConnection, MetricsPages
from gearman_py.server.relayed_connection import close_relayed
from gearman_py.server.reload import Reload
from gearman_py.server.settings import Settings
from gearman_py.server.store_writer import StoreWriter
from gearman_py.server.takeover import Takeover
from gearman_py.server.tls_acceptor import TLSAcceptor
from gearman_py.store.base import JobsTaken, Store

log = logging.getLogger("gearmand")

# Seconds between two checks for peers that have stopped reading or writing.
SWEEP_INTERVAL = 5.0
# From 3.13 on, event loops look at the file of a Unix socket when they begin to serve, though its
# folder may be closed to the server's user, and remove it when they stop, though it be systemd's.
KEEP_SOCKET_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class RunningServer:
    """A job server within an event loop; TCP sockets use ``tls`` if it is given."""

    def __init__(self, settings: Settings, queues: Queues, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._queues = queues
        self._tls = tls
        self._told = asyncio.Event()  # to stop, when running jobs have had their time
        self._draining = asyncio.Event()  # to stop when no job is left
        self._stop = asyncio.Event()  # at once
        self._servers: dict[ListeningSocket, asyncio.Server | TLSAcceptor] = {}
        self._broker = Broker(
            queues,
            job_retries=settings.job_retries,
            exceptions=settings.exceptions,
            version=__version__,
            log_level=logging.getLevelName(log.getEffectiveLevel()),
            restricted=settings.admin_only,
            on_shutdown=lambda graceful: (self._draining if graceful else self._told).set(),
            on_moved=self._stop_moved,
            time_of_day=time.time,
            next_run=next_run,
            on_change=lambda peer, command: self._listener.log_change(peer, command),
        )
        self._listener = Listener(
            self._broker,
            asyncio.get_running_loop(),
            max_packet=settings.max_packet,
            max_connections=settings.max_connections,
            max_unread=settings.max_unread,
            unread_timeout=settings.unread_timeout,
        )
        if tls is not None:
            self._listener.certificate = settings.ssl_certificate

    async def run(
        self,
        doors: Sequence[ListeningSocket],
        store: Store | None,
        takeover: Takeover | None,
        on_ready: Callable[[], None] | None,
    ) -> int:
        """Serve until it is to stop; return the exit status. The arguments are those of serve()."""
        await self._open(doors, store, takeover)
        if takeover is None:
            self._handle_signals()
        where = ", ".join(map(str, self._servers))
        log.info("gearmand %s listens on %s", __version__, where)
        if takeover is not None:
            for number in await takeover.await_leaving():
                self._act_on_signal(number)
        reload = Reload(self._listener, [*self._servers], self._settings, self._is_stopping)
        reloading = asyncio.create_task(reload.wait())
        await asyncio.sleep(0)  # until it listens: from now on systemd may have it reloaded
        notify("READY=1", f"STATUS=listening on {where}")
        if on_ready is not None:
            on_ready()
        chores = [self._begin_chore(each) for each in self._list_chores()]
        await self._stop.wait()
        failed = any(chore.done() and chore.exception() for chore in chores)
        notify("STOPPING=1")
        log.info("stopping: %d jobs were queued or running", len(self._broker.queues.jobs))
        for task in (*chores, reloading):
            task.cancel()
        stored = await self._close()
        return 0 if stored and not failed else 1

    async def _open(
        self, doors: Sequence[ListeningSocket], store: Store | None, takeover: Takeover | None
    ) -> None:
        """Begin to serve the sockets; with ``takeover``, what it receives."""
        broker, listener = self._broker, self._listener
        if takeover is not None:
            doors, store = takeover.receive(broker, listener, self._settings)
        self._queues.demand.target = self._settings.target_wait
        broker.describe = partial(describe_server, listener, self._settings)
        broker.name_peer = lambda peer: listener.connections[peer].user()
        for door in doors:
            door.listen(self._settings)
        if takeover is not None:
            self._handle_signals()  # the main process of a unit, to which systemd sends them
            await takeover.begin(listener)
        if store is not None:
            listener.store_writer = writer = StoreWriter(
                store, broker, listener.flush, listener.hang_up, self._stop_with_store
            )
            if takeover is not None:
                takeover.restore_store_counts(writer)
        if not listener.flushing:  # stored jobs and schedules are due though no peer has come yet
            listener.schedule_flush()
        self._servers = {door: await self._serve_door(door) for door in doors}

    async def _serve_door(self, door: ListeningSocket) -> asyncio.Server | TLSAcceptor:
        loop, listener = asyncio.get_running_loop(), self._listener
        connect: Callable[[], asyncio.Protocol] = partial(Connection, listener)
        if door.kind == HTTP:
            connect = partial(HTTPConnection, listener)
        elif door.kind == METRICS:
            connect = partial(MetricsConnection, MetricsPages(listener))
        elif door.kind == ADMIN:
            connect = partial(Connection, listener, operator=True)
        options: dict[str, Any] = {"sock": door.socket, "backlog": self._settings.backlog}
        try:
            if door.socket.family == socket.AF_UNIX:
                return await loop.create_unix_server(connect, **options, **KEEP_SOCKET_FILE)
            if self._tls is None:
                return await loop.create_server(connect, **options)
            if door.kind == METRICS:  # whatever the peers of the other doors do
                own = Handshakes(loop.time)
                return TLSAcceptor(loop, connect, door.socket, self._tls, own, lambda _: True)
            has_room = listener.admission.has_room
            return TLSAcceptor(loop, connect, door.socket, self._tls, listener.handshakes, has_room)
        except OSError as error:
            raise StartError(f"cannot listen on {door}: {error.strerror}") from error

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._request_stop)
        loop.add_signal_handler(signal.SIGUSR1, self._draining.set)
        loop.add_signal_handler(signal.SIGHUP, self._handle_hangup)

    def _act_on_signal(self, number: int) -> None:
        """Do what a signal asked for that came to another process, perhaps to this one too."""
        if number in STOPPING:
            self._told.set()
        elif number == signal.SIGUSR1:
            self._draining.set()
        elif number == signal.SIGHUP:
            self._handle_hangup()

    def _request_stop(self) -> None:
        """Handle SIGTERM or SIGINT; the second one stops at once."""
        (self._stop if self._told.is_set() else self._told).set()

    def _handle_hangup(self) -> None:
        """Handle SIGHUP: whoever has moved the log file may go on with it."""
        for handler in logging.root.handlers:
            if isinstance(handler, LogFile):
                handler.reopen()
        log.info("SIGHUP: reopening the log file")
        reload_certificate(self._settings, self._tls)

    def _stop_moved(self) -> None:
        """Stop before another job can be accepted."""
        self._listener.stop_reading()
        self._stop.set()

    def _stop_with_store(self, error: Exception) -> None:
        """The store failed. If others have its jobs, what needs no store ends as at SIGTERM."""
        (self._told if isinstance(error, JobsTaken) else self._stop).set()

    def _is_stopping(self) -> bool:
        return any(each.is_set() for each in (self._told, self._draining, self._stop))

    def _list_chores(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the connections."""
        settings, listener = self._settings, self._listener
        return [
            _ping_watchdog(),
            _sweep_connections(listener),
            memory.watch_memory(listener, settings.max_memory),
            watch_event_loop(listener.counts, self._queues),
            watch_certificate(settings, self._tls),
            listener.let_all_go(),
            close_relayed(listener, settings.tls_relay_time),
            self._drain_queues(),
            self._finish_running_jobs(),
        ]

    def _begin_chore(self, chore: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(chore)
        task.add_done_callback(self._note_chore_ended)
        return task

    def _note_chore_ended(self, chore: asyncio.Task[None]) -> None:
        """Stop the server: without one of its background tasks it would only seem to work."""
        if not chore.cancelled() and (error := chore.exception()):
            log.critical("stopping: a background task of the server failed", exc_info=error)
            self._stop.set()

    async def _drain_queues(self) -> None:
        await self._draining.wait()
        broker = self._broker
        log.info("draining: no new connections, %d jobs to go", len(broker.queues.jobs))
        notify("STATUS=draining")
        for door, server in self._servers.items():
            if door.kind not in (ADMIN, METRICS):  # they may want to watch the progress
                server.close()
        drain(broker, asyncio.get_running_loop().time())
        while broker.queues.jobs:  # noqa: ASYNC110 - the broker knows no events to wait on
            await asyncio.sleep(DRAIN_INTERVAL)
        self._stop.set()

    async def _finish_running_jobs(self) -> None:
        await self._told.wait()
        broker, seconds = self._broker, self._settings.drain_timeout
        broker.close()
        drain(broker, asyncio.get_running_loop().time())
        if seconds and (running := self._count_awaited()):
            log.info("stopping: %d running jobs may end within %g s", running, seconds)
            deadline = time.monotonic() + seconds
            while self._count_awaited() and time.monotonic() < deadline:  # noqa: ASYNC110 - no events
                await asyncio.sleep(DRAIN_INTERVAL)
        self._stop.set()

    def _count_awaited(self) -> int:
        """The running jobs whose end is of use here; that of a stored one has to be stored."""
        writer = self._listener.store_writer
        if writer is None or not writer.broken:
            return self._broker.queues.running
        running = (job for peer in self._broker.peers for job in peer.running.values())
        return sum(not job.background for job in running)

    async def _close(self) -> bool:
        """Serve no longer, but give peers what they are owed; False: not all could be stored."""
        listener = self._listener
        for door, server in self._servers.items():
            server.close()
            door.close()
        if (writer := listener.store_writer) is not None:
            listener.stop_reading()
            await writer.finish()
            if writer.broken:  # clients that know others take their jobs there
                drain(self._broker, asyncio.get_running_loop().time())
        await listener.flush_all()
        for connection in listener.connections.values():
            connection.transport.close()
        return writer is None or not writer.broken


async def _ping_watchdog() -> None:
    interval = watchdog_interval()
    while interval is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


async def _sweep_connections(listener: Listener) -> None:
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        await listener.close_lost_peers()
