"""Bytes to packets and back, without I/O.

A server reads two protocols from one connection: a message that begins with NUL is a
binary packet, anything else a line of text (PROTOCOL, "Administrative Protocol").
"""

from collections.abc import Sequence
from struct import Struct

from gearman_py.protocol.packets import (
    ARGUMENT_COUNT,
    FAULT,
    HIGHEST,
    OF_ONE_JOB,
    OVERSIZED,
    TEXT,
    TEXT_FAULT,
    WORKLOAD_MAY_LACK,
)

REQUEST = b"\0REQ"
RESPONSE = b"\0RES"
HEADER = Struct(">4sII")

# libgearman clients send whole images as workloads; a server holds at least one whole
# packet for each connection, so this bounds its memory. The C server has no limit.
# The default of the server, of clients and of workers, for the data behind a header.
MAX_PACKET = 64 * 2**20
# The C server closes a connection whose line is longer than its 8 KiB read buffer.
MAX_LINE = 8192
# A server reads no more than this of small messages in one turn: lines and packets out of the
# ordinary take longer to read, so there are two limits.
TURN_MESSAGES = 1000
TURN_BYTES = 2**16
# Below this, splitting a copied body beats looking for each NUL in place (measured).
_SMALL = 4096
# From this size on, a workload is not copied to be one with what surrounds it.
LARGE = 2**16

_HEADER_SIZE = HEADER.size
_unpack = HEADER.unpack_from
_unpack_quickly = Struct(">QI").unpack_from  # magic and number as one

Message = tuple[int, list[bytes]]
"""A packet's number and its arguments; or TEXT and one line without its ending; or FAULT
(TEXT_FAULT where the peer spoke text) and an error code and a sentence about it; or OVERSIZED
and the arguments of a packet that was skipped, with a sentence about it instead of its workload."""


def request(packet: int, *arguments: bytes) -> bytes:
    """The bytes of a packet sent to a server."""
    body = b"\0".join(arguments)
    return _REQUEST_HEADS[packet] + len(body).to_bytes(4, "big") + body


def response(packet: int, *arguments: bytes) -> bytes:
    """The bytes of a packet sent by a server."""
    body = b"\0".join(arguments)
    return _RESPONSE_HEADS[packet] + len(body).to_bytes(4, "big") + body


def response_parts(packet: int, *arguments: bytes) -> tuple[bytes, bytes]:
    """The bytes of a packet sent by a server; of a large one its last argument by itself."""
    workload = arguments[-1]
    if len(workload) < LARGE:
        body = b"\0".join(arguments)
        return _RESPONSE_HEADS[packet] + len(body).to_bytes(4, "big") + body, b""
    head = b"\0".join((*arguments[:-1], b""))
    size = (len(head) + len(workload)).to_bytes(4, "big")
    return _RESPONSE_HEADS[packet] + size + head, workload


_REQUEST_HEADS, _RESPONSE_HEADS = (
    [magic + number.to_bytes(4, "big") for number in range(HIGHEST + 1)]
    for magic in (REQUEST, RESPONSE)
)


class Decoder:
    """Turns what reads bring into messages; holds one connection's unread bytes.

    ``magic`` is what the peer must send: REQUEST in a server, RESPONSE in a client.
    ``text`` allows lines of the text protocol between packets. ``skips_oversized``: a packet
    about one job that is over ``max_packet`` is an OVERSIZED message, and its bytes are dropped
    as they come; any other, and without it any, is a FAULT.

    Nothing a peer sends raises. What cannot be understood comes as a FAULT message in
    its place among the good ones. When the bytes after it cannot be trusted either,
    ``dead`` is set and everything later is ignored: answer the fault, then close.
    """

    def __init__(
        self,
        magic: bytes = REQUEST,
        *,
        text: bool = False,
        max_packet: int = MAX_PACKET,
        skips_oversized: bool = False,
    ) -> None:
        self.dead = False
        self.behind = False  # there is more to be read of what it was fed: feed it nothing
        self.partial = False  # it holds the beginning of a message whose rest has not come
        self._magic = magic
        self._base = int.from_bytes(magic) << 32
        self._text = text
        self._max_packet = max_packet
        self._skippable = OF_ONE_JOB if skips_oversized else frozenset[int]()
        self._skip = 0  # bytes to come of a packet that is too large
        self._parts: list[bytes] = []  # reads that do not hold a whole message yet
        self._held = 0  # bytes in them
        self.begun = 0  # changes with the message that it holds the beginning of
        self._need = 0  # bytes the message in them is known to need

    @property
    def held(self) -> int:
        """How many bytes it holds of a message whose rest has not come."""
        return self._held if self._parts else 0

    def peek(self) -> tuple[int, int, bytes] | None:
        """A packet that it holds the beginning of: number, bytes in all, and first argument."""
        if not self._need or not self._parts:
            return None
        head = self._parts[0]
        _, number, _ = _unpack(head)
        return number, self._need, head[_HEADER_SIZE : _HEADER_SIZE + _SMALL].partition(b"\0")[0]

    def feed(self, data: bytes) -> list[Message]:
        """Take the bytes of one read; return every message now complete, in order.

        Of very many not all are returned at once: see ``behind``.
        """
        messages: list[Message] = []
        self.behind = False
        continued = self.partial
        if continued:
            data = self._gather_parts(data, messages) if self._parts else self._drop_oversized(data)
        start, end = 0, len(data)
        limit = TURN_BYTES if end > TURN_BYTES and self._text else end
        while start < limit and not self.dead:
            # Nearly all that comes is whole packets as they should be: their path is short.
            if end - start >= _HEADER_SIZE:
                number, size = _unpack_quickly(data, start)
                number -= self._base
                stop: int = start + _HEADER_SIZE + size
                if 0 < number <= HIGHEST and stop <= end and size <= self._max_packet:
                    count = ARGUMENT_COUNT[number]
                    if not count:
                        arguments = []
                    elif size < _SMALL:
                        arguments = data[start + _HEADER_SIZE : stop].split(b"\0", count - 1)
                    else:
                        arguments = _split_arguments(data, start + _HEADER_SIZE, stop, count)
                    if len(arguments) == count:
                        messages.append((number, arguments))
                        start = stop
                        continue
            read = self._read_line if data[start] and self._text else self._read_packet
            self.behind = self._text and len(messages) >= TURN_MESSAGES
            stop = 0 if self.behind else read(data, start, messages)
            if not stop:
                break
            start = stop
        if start < end and not self.dead:
            self.behind = self.behind or start >= limit
            self._parts = [data[start:] if start else data]
            self._held = end - start
            self.partial = True
            if start or not continued:
                self.begun += 1
        return messages

    def _drop_oversized(self, data: bytes) -> bytes:
        """Drop what belongs to a packet that is too large; return what comes after it."""
        dropped = min(self._skip, len(data))
        self._skip -= dropped
        if not self._skip:
            self.partial = False
            self.begun += 1
        return data[dropped:]

    def _gather_parts(self, data: bytes, messages: list[Message]) -> bytes:
        """Add a read to the parts held; return what can be read once there is enough."""
        last = self._parts[-1]
        if len(data) < _SMALL and len(self._parts) > 1 and len(last) < _SMALL:
            self._parts[-1] = last + data  # an object for each of many small reads is not small
        else:
            self._parts.append(data)
        self._held += len(data)
        if self._held < self._need:
            return b""
        parts, self._parts = self._parts, []
        self.partial = False
        rest = self._read_large(parts, messages) if self._need > LARGE else None
        if self._need:
            self.begun += 1
        self._need = 0
        return b"".join(parts) if rest is None else rest

    def _read_large(self, parts: Sequence[bytes], messages: list[Message]) -> bytes | None:
        """Read the large packet in the parts, its workload copied once; return what is left.

        None: its arguments are too long, or too odd, to be read in that way.
        """
        _, number, _ = _unpack(parts[0])
        count = ARGUMENT_COUNT[number]
        if not count:
            return None
        arguments = _split_arguments(parts[0], _HEADER_SIZE, len(parts[0]), count)
        if len(arguments) != count:
            return None
        end = len(parts[-1]) - (self._held - self._need)
        last = memoryview(parts[-1])
        arguments[-1] = b"".join((arguments[-1], *parts[1:-1], last[:end]))
        messages.append((number, arguments))
        return bytes(last[end:])

    def _read_packet(self, data: bytes, start: int, messages: list[Message]) -> int:
        """Read an unusual packet at ``start``; return its end, or 0 when it is not whole yet."""
        body, end = start + _HEADER_SIZE, len(data)
        if body > end:
            return 0
        magic, number, size = _unpack(data, start)
        count = ARGUMENT_COUNT[number] if number <= HIGHEST else None
        if size > self._max_packet and magic == self._magic and number in self._skippable:
            return self._read_oversized(data, start, messages)
        if magic != self._magic or count is None or size > self._max_packet:
            fault = self._header_fault(magic, number, size)
            if fault is not None:
                self.dead = True
                messages.append((FAULT, fault))
                return end
        stop: int = body + size
        if stop > end:
            self._need = stop - start
            return 0
        if magic != self._magic:
            messages.append((FAULT, [b"INVALID_MAGIC", b"Request magic expected"]))
        elif not count:
            messages.append((number, []))  # what a packet without arguments carries is ignored
        elif number in WORKLOAD_MAY_LACK:
            messages.append((number, [data[body:stop], b""]))
        else:
            text = b"packet type %d needs %d arguments, got %d"
            text %= number, count, len(_split_arguments(data, body, stop, count))
            self.dead = True
            messages.append((FAULT, [b"INVALID_PACKET", text]))
        return stop

    def _read_oversized(self, data: bytes, start: int, messages: list[Message]) -> int:
        """Read what stands before the workload of a packet at ``start`` that is too large."""
        _, number, size = _unpack(data, start)
        body, end = start + _HEADER_SIZE, len(data)
        count = ARGUMENT_COUNT[number] or 0
        arguments = _split_arguments(data, body, min(end, body + min(size, LARGE)), count)
        text = b"a packet of %d bytes is over the limit of %d" % (size, self._max_packet)
        if len(arguments) == count:
            messages.append((OVERSIZED, [*arguments[:-1], text]))
            stop: int = body + size
            self._skip = max(0, stop - end)
            self.partial = self._skip > 0
            return min(stop, end)
        if end - body < min(size, LARGE):
            return 0
        self.dead = True
        messages.append((FAULT, [b"ARGUMENT_TOO_LARGE", text]))
        return end

    def _header_fault(self, magic: bytes, number: int, size: int) -> list[bytes] | None:
        """What makes the rest of the stream unreadable, or None: skip this packet and go on."""
        if magic not in (REQUEST, RESPONSE):
            return [b"INVALID_MAGIC", b"a packet cannot begin with %a" % magic]
        if size > self._max_packet:
            text = b"a packet of %d bytes is over the limit of %d"
            return [b"ARGUMENT_TOO_LARGE", text % (size, self._max_packet)]
        if magic == self._magic:
            return [b"INVALID_PACKET", b"unknown packet type %d" % number]
        return None

    def _read_line(self, data: bytes, start: int, messages: list[Message]) -> int:
        """Read the line at ``start``; return where it ends, or 0 when it is not whole yet."""
        stop = data.find(b"\n", start, start + MAX_LINE)
        if stop >= 0:
            messages.append((TEXT, [data[start:stop].removesuffix(b"\r")]))
            return stop + 1
        if len(data) - start < MAX_LINE:
            return 0
        self.dead = True
        messages.append((TEXT_FAULT, [b"LINE_TOO_LONG", b"a line may have %d bytes" % MAX_LINE]))
        return len(data)


def _split_arguments(data: bytes, start: int, stop: int, count: int) -> list[bytes]:
    """Part a packet's body at its first ``count - 1`` NULs, copying no workload."""
    arguments = []
    for _ in range(count - 1):
        nul = data.find(b"\0", start, stop)
        if nul < 0:
            break
        arguments.append(data[start:nul])
        start = nul + 1
    arguments.append(data[start:stop])
    return arguments
