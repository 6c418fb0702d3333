"""What a fuzzer begins with: good input of each kind, small, so that it finds its way in."""

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from gearman_py.protocol.codec import request, response
from gearman_py.protocol.packets import Packet
from gearman_py.store.base import Changes, Record
from gearman_py.store.sqlite import SQLiteStore

HERE = Path(__file__).parent
INVENTORIES = HERE.parent / "provision" / "inventories"
ARGUMENTS = {"handle": b"H:localhost:1", "epoch": b"1900000000", "milliseconds": b"1500"}
COMMANDS = (
    *(b"status", b"prioritystatus", b"workers", b"version", b"verbose", b"getpid", b"show jobs"),
    *(b"show unique jobs", b"maxqueue f 1 2 3", b"create function f", b"drop function f"),
    *(b"cancel job H:localhost:1", b"shutdown"),
)


def _packets() -> Iterator[bytes]:
    for packet in Packet:
        arguments = [ARGUMENTS.get(name, b"f") for name in packet.arguments]
        yield request(packet, *arguments)
        yield response(packet, *arguments)
    for line in COMMANDS:
        yield line + b"\r\n"


def _sessions() -> Iterator[bytes]:
    for packet in _packets():
        if packet[:4] != b"\0RES" and len(packet) < 62:
            said = request(Packet.CAN_DO, b"f"), request(Packet.SUBMIT_JOB_BG, b"f", b"", b"")
            turns = *said, packet, request(Packet.GRAB_JOB_ALL)
            yield b"".join(bytes([n % 3]) + turn.ljust(63, b"\n") for n, turn in enumerate(turns))


def _requests() -> Iterator[bytes]:
    post = b"POST /f HTTP/1.1\r\nHost: x\r\n"
    yield b"GET /f HTTP/1.1\r\nHost: x\r\n\r\n"
    yield post + b"Content-Length: 3\r\nX-Gearman-Background: true\r\n\r\nabc"
    yield post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n"


def _inventories() -> Iterator[bytes]:
    for path in sorted(INVENTORIES.rglob("*.yml")):
        yield path.read_bytes()


def _stores() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue"
        kept = SQLiteStore(path)
        kept.commit(Changes([Record(n, b"f", b"u", 1, 0, b"", b"w", 0) for n in (1, 2)], {}, []))
        kept.close()
        yield path.read_bytes()


def _rows() -> Iterator[bytes]:
    yield bytes(80)
    yield b"\xff\0\0\0\0\0\0\1" * 10


def _pictures() -> Iterator[bytes]:
    picture = Image.linear_gradient("L").resize((20, 620)).convert("RGB")
    for form in ("JPEG", "PNG", "WEBP", "GIF"):
        encoded = io.BytesIO()
        picture.save(encoded, form)
        yield encoded.getvalue()


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "codec": _packets,
    "server": _sessions,
    "http": _requests,
    "inventory": _inventories,
    "store": _stores,
    "rows": _rows,
    "resize": _pictures,
}


def inputs(name: str) -> Iterator[bytes]:
    """A target's seeds, and what was found once: tests/fuzz/found/NAME/."""
    yield from SEEDS[name]()
    for path in sorted((HERE / "found" / name).glob("*")):
        yield path.read_bytes()
