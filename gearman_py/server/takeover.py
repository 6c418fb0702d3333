"""Reload, the side of the new program: take the place of a running server.

See gearman_py.server.reload for the other side.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gearman_py import __version__
from gearman_py.broker import snapshot
from gearman_py.broker.broker import Broker
from gearman_py.broker.job_columns import Section
from gearman_py.broker.restore import READABLE, Restorer, SnapshotError, as_bytes, restore_durations
from gearman_py.net import abstract_socket
from gearman_py.net.servers import UNIX
from gearman_py.server.early_input import EarlyInput
from gearman_py.server.listener import Listener
from gearman_py.server.listening import ListeningSocket
from gearman_py.server.passed_connection import (
    new_connection,
    resume_connection,
)
from gearman_py.server.reload import ENVIRONMENT, STANDARD_STREAMS, fixed_settings
from gearman_py.server.reload_channel import (
    FORMAT,
    GO,
    READY,
    READY_TIMEOUT,
    SERVING,
    TAKEN,
    ReloadChannel,
    ReloadEnded,
    ReloadError,
    channel_name,
)
from gearman_py.server.settings import Settings
from gearman_py.server.store_writer import StoreWriter
from gearman_py.server.stores import take_store
from gearman_py.server.tls_relay import NAME as RELAY_NAME
from gearman_py.store.base import Store

LEAVE_TIMEOUT = 5.0  # seconds for the old server to tell systemd that it leaves


class Takeover:
    """Takes over from the server that runs as ``process``; calls ``serving`` when it has.

    Raises ReloadError.
    """

    def __init__(self, process: int, serving: Callable[[], None]) -> None:
        self._process, self._serving = process, serving
        name = channel_name(process)
        connected = abstract_socket.connect(name, lambda at, _: at == process, READY_TIMEOUT)
        if connected is None:
            raise ReloadError(explain_absence(process))
        self._channel = channel = ReloadChannel(connected, READY_TIMEOUT)
        channel.check_user()
        formats = {"state": snapshot.FORMAT, "reads": READABLE}
        with contextlib.suppress(ReloadError):  # it may have refused already, and says why
            channel.send({"format": FORMAT, "version": __version__, **formats, "encloses": True})
        try:
            self._about = channel.receive()
        except ReloadEnded as error:
            raise ReloadError(f"{error}, or another reload replaced it") from error
        self._streams: list[int] = []
        # Each with its facts, and what is enclosed for them.
        self._connections: list[tuple[socket.socket, Section, Sequence[bytes]]] = []
        self._restorer: Restorer | None = None
        self._store_counts: Sequence[Any] = ()
        for name in ENVIRONMENT:
            os.environ.pop(name, None)
        os.environ.update(self._about["environment"])

    @property
    def arguments(self) -> list[str]:
        """Those of the running server, from whose folder they are to be read."""
        return [os.fsdecode(as_bytes(each)) for each in self._about["arguments"]]

    @property
    def folder(self) -> str:
        return os.fsdecode(as_bytes(self._about["folder"]))

    def check_settings(self, settings: Settings) -> None:
        """Raise ReloadError if a setting differs that must be the same."""
        ours = _resolve_paths(json.loads(json.dumps(fixed_settings(settings))), os.getcwd())
        flags = {one.name: one.metadata["flags"][-1] for one in fields(Settings)}
        for name, theirs in _resolve_paths(self._about["settings"], self.folder).items():
            if ours.get(name) != theirs:
                raise ReloadError(
                    f"{flags.get(name, '--queue-type')} cannot be changed by a reload: "
                    f"{theirs!r} in the running server, {ours.get(name)!r} here"
                )

    def remove_pid_file(self, ours: str) -> None:
        """Remove the pid file of the old server, unless it is ours."""
        name = os.fsdecode(as_bytes(self._about.get("pid_file", "")))  # older programs do not say
        theirs = Path(self.folder, name)
        if name and theirs != Path(ours).absolute():
            with contextlib.suppress(OSError, ValueError):
                if int(theirs.read_text()) == self._process:
                    theirs.unlink()

    def receive(
        self, broker: Broker, listener: Listener, settings: Settings
    ) -> tuple[list[ListeningSocket], Store | None]:
        """Receive everything; from now on peers wait. Returns the listening sockets and the store.

        Raises StoreError if the store cannot be used.
        """
        channel = self._channel
        channel.send_word(READY)
        self._restorer = restorer = Restorer(broker)
        first = self._read_ahead(restorer, listener.now())
        doors, count = first["doors"], first["connections"]
        for_store = first["store_descriptors"]
        streams = len(STANDARD_STREAMS)
        numbers = channel.receive_descriptors(streams + for_store + len(doors) + count)
        self._streams, others = numbers[:streams], numbers[streams:]
        store, self._store_counts = None, first["store_counts"]
        if broker.queues.durable:
            store = take_store(settings, first["store"], others[:for_store])
        sockets = [socket.socket(fileno=number) for number in others[for_store:]]
        remaining = iter(sockets[len(doors) :])
        while len(self._connections) < count:
            section = channel.receive()
            for facts in section["connections"]:
                self._connections.append((next(remaining), facts, section["enclosed"]))
        try:
            while not restorer.complete:
                restorer.read(channel.receive(), listener.now())
        except SnapshotError as error:
            raise ReloadError(str(error)) from error
        _unpack_server_counts(listener, first["counts"])
        listening = [
            ListeningSocket(each, kind, made=Path(made) if made else None)
            for each, (kind, made) in zip(sockets, doors, strict=False)
        ]
        return listening, store

    def _read_ahead(self, restorer: Restorer, now: float) -> Section:
        """Read what comes while the old server serves its peers; return what follows."""
        while True:
            self._channel.allow(READY_TIMEOUT)
            section = self._channel.receive()
            if "doors" in section:
                return section
            restorer.read(section, now)

    def restore_store_counts(self, writer: StoreWriter) -> None:
        """Go on counting what is stored."""
        writer.stored, writer.failures, commits = self._store_counts
        restore_durations(writer.commits, commits)

    async def begin(self, listener: Listener) -> None:
        """Tell the old server to leave, and go on with its connections."""
        channel = self._channel
        channel.send_word(TAKEN)
        channel.expect(GO)
        channel.send_word(SERVING)
        for number, stream in enumerate(self._streams):
            os.dup2(stream, number)
            os.close(stream)
        loop = asyncio.get_running_loop()
        made = await asyncio.gather(
            *(loop.connect_accepted_socket(EarlyInput, passed) for passed, *_ in self._connections)
        )
        peers = self._restorer.peers if self._restorer else []
        going_on = []
        for peer, (_, facts, enclosed), (transport, early) in zip(
            peers, self._connections, made, strict=True
        ):
            if transport.is_closing():
                listener.broker.gone(peer, listener.now())
                continue
            transport.pause_reading()
            connection = new_connection(listener, peer, facts)
            connection.connection_made(transport)
            transport.set_protocol(connection)
            going_on.append((connection, facts, enclosed, early))
        for connection, facts, enclosed, early in going_on:  # now that whom they write to is there
            resume_connection(connection, facts, enclosed, b"".join(early.pieces))
            if early.ended:
                loop.call_soon(connection.transport.close)
        self._connections = []
        listener.schedule_flush()
        self._serving()

    async def await_leaving(self) -> list[int]:
        """Wait until the old server has told systemd which process is the main one now.

        Returns the signals that have come to it since it stopped serving.
        """
        self._channel.allow(LEAVE_TIMEOUT)
        signals: list[int] = []
        with contextlib.suppress(ReloadError), self._channel:  # older programs say nothing
            signals = (await asyncio.to_thread(self._channel.receive)).get("signals", [])
        return signals

    def refuse(self, error: Exception) -> None:
        """Tell the old server why this one does not take over."""
        with contextlib.suppress(ReloadError):
            self._channel.refuse(str(error))


def _resolve_paths(settings: Section, folder: str) -> Section:
    """Settings with the paths that they mean in this folder."""
    found = dict(settings)
    if found.get("queue_file"):
        found["queue_file"] = os.path.join(folder, found["queue_file"])
    for name in ("listen", "admin_listen"):
        found[name] = [
            UNIX + os.path.join(folder, each.removeprefix(UNIX)) if each.startswith(UNIX) else each
            for each in found.get(name, ())
        ]
    return found


def explain_absence(process: int) -> str:
    """Why a process has no socket at which it could be reloaded."""
    about = Path(f"/proc/{process}")
    try:
        ended, name = not (about / "cmdline").read_bytes(), (about / "comm").read_text()
    except OSError:
        ended, name = True, ""
    if ended:  # or it is about to: its memory is gone first
        return f"process {process} does not exist: it has ended, or another reload replaced it"
    if name == f"{RELAY_NAME}\n":
        return f"process {process} relays TLS connections of the server that replaced it"
    return f"process {process} is not a gearmand that can be reloaded"


def _unpack_server_counts(listener: Listener, facts: Section) -> None:
    counts = listener.counts
    counts.opened = facts["opened"]
    counts.closed.update(facts["closed"])
    counts.received_before, counts.sent_before = facts["before"]
    restore_durations(counts.loop_lag, facts["loop_lag"])
