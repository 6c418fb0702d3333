"""What is fuzzed: each takes any bytes, and lets out only the errors that its callers expect."""

import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.protocol.codec import REQUEST, RESPONSE, Decoder
from gearman_py.protocol.http import Reader, Refused

MAX_PACKET = 100_000


def codec(data: bytes) -> None:
    """Packets of both directions, whole and cut in two."""
    for kind in (REQUEST, RESPONSE):
        make = partial(
            Decoder, kind, max_packet=1000, text=kind == REQUEST, skips_oversized=kind == RESPONSE
        )
        whole, halves = make(), make()
        middle = len(data) // 2
        got = whole.feed(data)
        assert got == halves.feed(data[:middle]) + halves.feed(data[middle:])


def server(data: bytes) -> None:
    """Sessions of three peers: packets and text commands, by turns of a few bytes each."""
    broker = Broker(Queues(durable=False))
    peers = [broker.join(number, "198.18.0.1") for number in range(3)]
    decoders = [Decoder(text=True, max_packet=MAX_PACKET) for _ in peers]
    for turn, start in enumerate(range(0, len(data), 64)):
        which = data[start] % 3
        messages = decoders[which].feed(data[start + 1 : start + 64])
        broker.receive(peers[which], messages, turn / 4)
        broker.tick(turn / 4, 1_800_000_000.0 + turn)
        for peer in broker.dirty:
            peer.take()
        broker.dirty.clear()
    for peer in peers:
        broker.gone(peer, 1e6)
    assert all(not function.running for function in broker.queues.functions.values())


def http(data: bytes) -> None:
    """Requests of the HTTP door."""
    reader = Reader(MAX_PACKET)
    for start in range(0, len(data), 50):
        reader.feed(data[start : start + 50])
        try:
            while reader.next() is not None:
                pass
        except Refused:
            return


def inventory(data: bytes) -> None:
    """A file of an inventory, in each of its forms."""
    from provision.errors import ToolkitError
    from provision.inventory import load as inventory

    with tempfile.TemporaryDirectory() as folder:
        for name in ("hosts.yml", "hosts.ini", "hosts"):
            path = Path(folder) / name
            path.write_bytes(data)
            try:
                inventory.read_inventory(path)
            except ToolkitError as error:
                assert str(error).strip()  # noqa: B017, RUF100  a message to a person


def store(data: bytes) -> None:
    """The file of a durable queue."""
    from gearman_py.store.base import StoreError
    from gearman_py.store.sqlite import SQLiteStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue"
        path.write_bytes(data)
        try:
            kept = SQLiteStore(path)
        except StoreError:
            return
        try:
            list(kept.replay())
        except StoreError:
            pass
        finally:
            kept.close()


def rows(data: bytes) -> None:
    """Rows of a durable queue, of values that someone else wrote."""
    from gearman_py.broker.stored_jobs import restore_record
    from gearman_py.store.base import StoreError
    from gearman_py.store.sqlite import SQLiteStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue"
        SQLiteStore(path).close()
        words = [data[start : start + 8] for start in range(0, 72, 8)]
        values = [int.from_bytes(word[1:]) if word[:1] > b"\x80" else word for word in words]
        with sqlite3.connect(path) as other:
            try:
                marks = ",".join("?" * len(values))
                other.execute(f"INSERT INTO job VALUES ({marks})", values)  # noqa: S608  marks
            except (sqlite3.Error, OverflowError):
                return
        other.close()
        kept = SQLiteStore(path)
        try:
            for record in kept.replay():
                restore_record(Queues(), record, 0.0)
        except StoreError:
            pass
        finally:
            kept.close()


def resize(data: bytes) -> None:
    """Pictures."""
    from gearman_py.functions.resize import resize

    try:
        resize(data)
    except ValueError as error:
        assert str(error).strip()


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (codec, server, http, inventory, store, rows, resize)
}
