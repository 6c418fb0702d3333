"""Reload, the side of the running server: pass everything on to a new program, and leave.

The new program connects when it has read its configuration and imported its code. Most of the
queued jobs are copied to it while peers are served. Then the event loop stands still: the listening
sockets, all connections and the rest of the state are passed to the new program, which says when it
has taken them, is told to go on, and says that it does. Until then nothing has changed here, so
whatever fails, this server goes on; the new program is killed if it hangs.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gearman_py import __version__
from gearman_py.broker import snapshot
from gearman_py.broker.copy_ahead import AheadCopy
from gearman_py.broker.job_columns import Section, as_text
from gearman_py.broker.snapshot import pack_durations, take_snapshot
from gearman_py.net import abstract_socket
from gearman_py.sdnotify import notify
from gearman_py.server.connection import Connection
from gearman_py.server.held_signals import HeldSignals
from gearman_py.server.listener import Listener
from gearman_py.server.listening import ListeningSocket
from gearman_py.server.memory import allowed_bytes, bytes_of, resident_bytes
from gearman_py.server.passed_connection import is_alive, pack_connection
from gearman_py.server.relayed_connection import relayed_connections
from gearman_py.server.reload_channel import (
    FORMAT,
    GO,
    PAUSE_TIMEOUT,
    READY,
    READY_TIMEOUT,
    SERVING,
    TAKEN,
    Enclosures,
    ReloadChannel,
    ReloadError,
    ReloadTimeout,
    channel_name,
    turn_away,
)
from gearman_py.server.settings import Settings
from gearman_py.server.store_writer import StoreWriter
from gearman_py.server.tls_relay import TLSRelay
from gearman_py.store.base import StoreError

log = logging.getLogger("gearmand")

SECTION_CONNECTIONS = 256
NO_PAIRS = "no socket pairs for TLS connections (see --file-descriptors)"
ACCEPT_PAUSE = 1.0  # seconds to wait when new programs cannot be accepted
KILL_TIMEOUT = 5.0  # seconds for a process that was killed to be gone
# Turns of the event loop in which accepted connections are made: asyncio's takes two.
MIN_TURNS, MAX_TURNS = 3, 100
LINGER_TIMEOUT = 10.0  # seconds to end the connections that are being closed
LINGER_INTERVAL = 0.05
HANDSHAKE_INTERVAL = 0.01  # seconds between two looks at the handshakes that are to end first
STANDARD_STREAMS = 0, 1, 2
# Variables that the new program has as the running one does, or does not have.
ENVIRONMENT = "NOTIFY_SOCKET", "WATCHDOG_USEC", "GEARMAND_PORT"
# Settings that cannot be changed by a reload, as they say what is passed on.
FIXED = (
    *("listen", "port", "protocol", "http_port", "admin_listen", "metrics_listen", "ssl", "queue"),
)


def fixed_settings(settings: Settings) -> Section:
    """The settings that must be the same in the new program."""
    found = {name: getattr(settings, name) for name in FIXED} | settings.queue_place
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in found.items()
    }


class Reload:
    """Answers new programs. ``stopping`` tells whether this server is about to end."""

    def __init__(
        self,
        listener: Listener,
        doors: Sequence[ListeningSocket],
        settings: Settings,
        stopping: Callable[[], bool],
    ) -> None:
        self._listener, self._doors, self._settings = listener, doors, settings
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._relay = TLSRelay()

    async def wait(self) -> None:
        """Wait for new programs; this process ends when one has taken its place."""
        try:
            listening = abstract_socket.listen(channel_name(os.getpid()))
        except OSError as error:
            log.warning("--reload will not find this server: %s", error.strerror)
            await asyncio.Event().wait()
        with listening:
            listening.setblocking(False)
            while True:
                try:
                    connected, _ = await self._loop.sock_accept(listening)
                except OSError:  # no descriptor or memory is left
                    await asyncio.sleep(ACCEPT_PAUSE)
                    continue
                with ReloadChannel(connected, READY_TIMEOUT) as channel, HeldSignals() as held:
                    await self._answer(channel, listening, held)

    async def _answer(
        self, channel: ReloadChannel, listening: socket.socket, held: HeldSignals
    ) -> None:
        self._relay = TLSRelay()
        try:
            count = await self._hand_over(channel)
        except ReloadError as error:
            self._go_on()
            log.warning("not reloaded, going on: %s", error)
            with contextlib.suppress(ReloadError):
                channel.refuse(str(error))
            if isinstance(error, ReloadTimeout):
                _kill_process(channel)
            return
        except Exception:  # peers must not suffer from a mistake here
            self._go_on()
            log.exception("not reloaded, going on")
            return
        process, _ = channel.other
        notify(f"MAINPID={process}")
        log.info("process %d has taken over %d connections", process, count)
        turn_away(listening, f"another reload was under way: process {process} serves now")
        with contextlib.suppress(ReloadError):
            channel.send({"signals": held.numbers})
        # The event loop would still write to connections that another process serves.
        if self._relay:
            self._relay.run(self._listener)
        logging.shutdown()
        os._exit(0)

    async def _hand_over(self, channel: ReloadChannel) -> int:
        """Pass everything on; return the number of connections."""
        channel.check_user()
        hello = await asyncio.to_thread(channel.receive)
        self._check_request(hello)
        channel.encloses = bool(hello.get("encloses"))
        channel.send(self._describe())
        await asyncio.to_thread(channel.expect, READY)
        ahead = await self._copy_ahead(channel)
        await self._await_closed()
        await self._await_handshakes()
        return await self._pause(channel, ahead)

    def _check_request(self, hello: Section) -> None:
        readable = hello.get("reads", [hello.get("state")])
        if hello.get("format") != FORMAT or snapshot.FORMAT not in readable:
            raise ReloadError(
                f"gearmand {hello.get('version')} reads format {hello.get('state')} of the state, "
                f"and gearmand {__version__}, which runs, writes format {snapshot.FORMAT}: "
                "restart it instead"
            )
        self._check_state()

    def _check_state(self) -> None:
        """Raise ReloadError if something cannot be passed on just now."""
        listener = self._listener
        if self._stopping():
            raise ReloadError("the server is stopping")
        if listener.broker.mover is not None:
            raise ReloadError("an operator moves its jobs to another server")
        relays = {each.relay for each in relayed_connections(listener)}
        needed, allowed = 2 * resident_bytes() + sum(map(bytes_of, relays)), allowed_bytes()
        if needed > allowed:
            beside = f", and relays of TLS connections ({len(relays)})," if relays else ""
            raise ReloadError(
                f"two processes of its size{beside} need {needed >> 20} MiB, and "
                f"{allowed >> 20} MiB are allowed: raise MemoryMax= of its unit, or restart it"
            )
        if os.getpid() == 1:
            raise ReloadError("the server is process 1, with which its container would end")
        if listener.store_writer is not None and listener.store_writer.broken:
            raise ReloadError("the queue can no longer be trusted")

    def _describe(self) -> Section:
        """What the new program must know before it is ready."""
        return {
            "version": __version__,
            "arguments": [as_text(os.fsencode(each)) for each in sys.argv[1:]],
            "folder": as_text(os.fsencode(os.getcwd())),
            "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            "settings": fixed_settings(self._settings),
            "pid_file": as_text(os.fsencode(self._settings.pid_file)),
        }

    async def _copy_ahead(self, channel: ReloadChannel) -> AheadCopy:
        """Pass on most of the queued jobs while peers are served."""
        ahead = AheadCopy(self._listener.broker, self._listener.now())
        for section in ahead.sections():
            channel.allow(READY_TIMEOUT)
            await asyncio.to_thread(channel.send, section)
        return ahead

    async def _await_closed(self) -> None:
        """Wait for connections that are being closed: they are not passed on."""
        until = self._loop.time() + LINGER_TIMEOUT
        while self._loop.time() < until and not all(  # noqa: ASYNC110 - no events
            is_alive(each)
            for each in self._listener.connections.values()
            if isinstance(each, Connection)
        ):
            await asyncio.sleep(LINGER_INTERVAL)

    async def _await_handshakes(self) -> None:
        """Wait for TLS handshakes to end, while new peers wait in the kernel."""
        self._accept(paused=True)
        handshakes = self._listener.handshakes
        while handshakes or handshakes.arriving:
            handshakes.make_room()  # one whose peer is slow does not hold up the reload
            await asyncio.sleep(HANDSHAKE_INTERVAL)

    async def _await_accepted(self) -> None:
        """Wait for connections that were accepted a moment ago: what follows does not wait."""
        for turn in range(MAX_TURNS):
            if turn >= MIN_TURNS and not self._listener.accepted:
                return
            await asyncio.sleep(0)

    def _go_on(self) -> None:
        self._accept(paused=False)
        self._relay.close()

    def _accept(self, *, paused: bool) -> None:
        # uvloop does not ask, and needs not: it makes a connection when it accepts it.
        for door in self._doors:
            door.socket.paused = paused

    async def _pause(self, channel: ReloadChannel, ahead: AheadCopy) -> int:
        """Pass on everything, also the queue's store, while peers wait.

        Returns the number of connections.
        """
        writer = self._listener.store_writer
        if writer is None:
            await self._await_accepted()
            return self._pass_on(channel, ahead, {}, [])
        await writer.hold()
        await self._await_accepted()
        try:
            writer.store_now()
            self._check_state()
            values, descriptors = writer.store.pass_on()
        except (ReloadError, StoreError) as error:
            writer.release()
            raise ReloadError(str(error)) from error
        try:
            return self._pass_on(channel, ahead, values, descriptors)
        except BaseException:
            _kill_process(channel)  # it may have the store
            try:
                writer.store.take_back()
            except StoreError as error:
                writer.fail(error)
            writer.release()
            raise

    def _pass_on(
        self, channel: ReloadChannel, ahead: AheadCopy, values: Section, descriptors: Sequence[int]
    ) -> int:
        """Pass on everything; return the number of connections. Raises ReloadError if that
        failed."""
        self._check_state()
        listener, writer = self._listener, self._listener.store_writer
        channel.allow(min(PAUSE_TIMEOUT, writer.hold_time) if writer else PAUSE_TIMEOUT)
        connections = [
            connection
            for connection in listener.connections.values()
            if isinstance(connection, Connection) and is_alive(connection)
        ]
        try:
            numbers = [self._relay.find_descriptor(each) for each in connections]
        except OSError as error:
            raise ReloadError(f"{NO_PAIRS}: {error.strerror}") from error
        channel.send(
            {
                "doors": [[door.kind, str(door.made or "")] for door in self._doors],
                "connections": len(connections),
                "counts": _pack_server_counts(listener),
                "store": values,
                "store_descriptors": len(descriptors),
                "store_counts": _pack_store_counts(writer),
            }
        )
        channel.send_descriptors(
            [
                *STANDARD_STREAMS,
                *descriptors,
                *(door.socket.fileno() for door in self._doors),
                *numbers,
            ]
        )
        for start in range(0, len(connections), SECTION_CONNECTIONS):
            part = connections[start : start + SECTION_CONNECTIONS]
            enclosures = Enclosures(enclosing=channel.encloses)
            section = {"connections": [pack_connection(each, enclosures) for each in part]}
            channel.send(section, enclosures.parts)
        peers = [connection.peer for connection in connections]
        for section in take_snapshot(listener.broker, peers, listener.now(), ahead):
            channel.send(section)
        channel.expect(TAKEN)
        self._confirm(channel)
        return len(connections)

    def _confirm(self, channel: ReloadChannel) -> None:
        channel.send_word(GO)
        try:
            channel.expect(SERVING)
        except ReloadTimeout:  # it could begin to serve later
            if not _kill_process(channel):
                raise


def _kill_process(channel: ReloadChannel) -> bool:
    """End the new program for certain; return whether it had begun to serve peers."""
    process, _ = channel.other
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    channel.allow(KILL_TIMEOUT)
    try:
        channel.expect(SERVING)
    except ReloadError:
        return False
    return True


def _pack_server_counts(listener: Listener) -> Section:
    counts = listener.counts
    return {
        "opened": counts.opened,
        "closed": dict(counts.closed),
        "before": [counts.received_before, counts.sent_before],
        "loop_lag": pack_durations(counts.loop_lag),
    }


def _pack_store_counts(writer: StoreWriter | None) -> list[Any]:
    return [writer.stored, writer.failures, pack_durations(writer.commits)] if writer else []
