"""Bytes to packets and back, without I/O.

A server reads two protocols from one connection: a message that begins with NUL is a binary
packet, anything else is a line of text (PROTOCOL, "Administrative Protocol").
"""

from gearman_py.protocol.accelerator import response, response_parts, split_packets
from gearman_py.protocol.framing import (
    HEADER,
    HEADER_SIZE,
    LARGE,
    REQUEST,
    RESPONSE,
    SMALL,
    Message,
    request,
    split_arguments,
)
from gearman_py.protocol.large_packet import BEGUN_SHARE, LargePacket, begin_packet
from gearman_py.protocol.packets import (
    ARGUMENT_COUNT,
    FAULT,
    HIGHEST,
    OF_ONE_JOB,
    OF_RUNNING_JOB,
    OVERSIZED,
    TEXT,
    TEXT_FAULT,
    WORKLOAD_MAY_LACK,
)

__all__ = [
    "HEADER",
    "HEADER_SIZE",
    "LARGE",
    "MAX_LINE",
    "MAX_PACKET",
    "REQUEST",
    "RESPONSE",
    "Decoder",
    "Message",
    "request",
    "response",
    "response_parts",
]

# Bytes after the header; the default of the server, of clients and of workers. Clients send whole
# images as workloads, and a server holds at least one packet per connection, so this bounds its
# memory. The C server has no limit.
MAX_PACKET = 64 * 2**20
# The C server closes a connection whose line is longer than its 8 KiB read buffer.
MAX_LINE = 8192
# A web page can have a browser send any bytes to any port, but only after such a line.
HTTP_VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")
# How many small messages a server reads in one turn. Lines and unusual packets take longer to
# read, so there are two limits.
TURN_MESSAGES = 1000
TURN_BYTES = 2**16

_unpack = HEADER.unpack_from


class Decoder:
    """Turns the bytes of one connection into messages.

    ``magic`` is what the peer must send: REQUEST in a server, RESPONSE in a client.
    ``text`` allows lines of the text protocol between packets. With ``skips_oversized``, a packet
    about one job that is over ``max_packet`` is an OVERSIZED message, and its bytes are dropped
    as they arrive; any other one is a FAULT, as are all without it.

    Invalid input does not raise: it is a FAULT message, in its place among the valid ones. If the
    bytes after it cannot be understood either, ``dead`` is set and later ones are ignored: answer
    the fault, then close.
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
        self.behind = False  # it has not read all of its input: feed it nothing
        self.partial = False  # it holds an incomplete message
        self._magic = magic
        self._base = int.from_bytes(magic) << 32
        self._text = text
        self._max_packet = max_packet
        self._skippable = OF_ONE_JOB if skips_oversized else frozenset[int]()
        self._skip = 0  # remaining bytes of a packet that is too large
        self._parts: list[bytes] = []  # reads that do not yet form a message
        self._large: LargePacket | None = None  # has the workload of a packet that they begin
        self._held = 0  # bytes in both
        self.begun = 0  # changes with each incomplete message
        self._need = 0  # bytes that the message in them needs, as far as known

    @property
    def held(self) -> int:
        """The number of bytes it holds of an incomplete message."""
        return self._held if self._parts else 0

    @property
    def missing(self) -> int:
        """The number of bytes that it lacks of that message, as far as known."""
        return max(0, self._need - self._held) if self._parts else 0

    def peek(self) -> tuple[int, int, bytes] | None:
        """A packet that it holds the beginning of: number, bytes in all, and first argument."""
        if not self._need or not self._parts:
            return None
        head = self._parts[0]
        _, number, _ = _unpack(head)
        return number, self._need, head[HEADER_SIZE : HEADER_SIZE + SMALL].partition(b"\0")[0]

    def pack(self) -> tuple[bytes, int, bool]:
        """Its state, for another decoder: input that is not read, bytes to be dropped, dead."""
        workload = self._large.received() if self._large is not None else b""
        return b"".join((*self._parts, workload)), self._skip, self.dead

    def unpack(self, unread: bytes, skip: int, dead: bool) -> None:
        """Begin with the state of another; if there is input, feed nothing to read it."""
        self._parts = [unread] if unread else []
        self._held, self._skip, self.dead = len(unread), skip, dead
        self.behind, self.partial = bool(unread), bool(unread or skip)

    def feed(self, data: bytes) -> list[Message]:
        """Add the bytes of one read; return the messages that are now complete, in order.

        If there are very many, a part of them is returned: see ``behind``.
        """
        messages: list[Message] = []
        self.behind = False
        continued = self.partial
        if continued:
            data = self._gather_parts(data, messages) if self._parts else self._drop_oversized(data)
        start, end = 0, len(data)
        limit = TURN_BYTES if end > TURN_BYTES and self._text else end
        while not self.dead:
            # Nearly all input is whole, valid packets: their path is short.
            start = split_packets(data, start, limit, self._base, self._max_packet, messages)
            if start >= limit:
                break
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
            if self._need > LARGE:
                self._begin_large(0)
        return messages

    def _drop_oversized(self, data: bytes) -> bytes:
        """Drop the bytes of a packet that is too large; return those after it."""
        dropped = min(self._skip, len(data))
        self._skip -= dropped
        if not self._skip:
            self.partial = False
            self.begun += 1
        return data[dropped:]

    def _gather_parts(self, data: bytes, messages: list[Message]) -> bytes:
        """Add a read to the parts; return them together once there is enough."""
        if self._need > LARGE and self._large is None:
            self._begin_large(len(data))
        if self._large is not None:
            own = self._large.add(data)
            self._held += own
            messages += self._end_large(self._large)
            return data[own:]
        last = self._parts[-1]
        if len(data) < SMALL and len(self._parts) > 1 and len(last) < SMALL:
            self._parts[-1] = last + data  # many small objects take a lot of memory
        else:
            self._parts.append(data)
        self._held += len(data)
        if self._held < self._need:
            return b""
        parts, self._parts = self._parts, []
        self.partial = False
        if self._need:
            self.begun += 1
        self._need = 0
        return b"".join(parts)

    def _begin_large(self, coming: int) -> None:
        """Make room for the workload of a large packet, if enough has come with this read."""
        first, *others = self._parts
        enough = max(LARGE, self._need * BEGUN_SHARE)
        if self._held + coming < enough or not first.startswith(self._magic):
            return
        begun = begin_packet(first, self._need)
        if begun is not None:
            head, self._large = begun
            self._large.add(memoryview(first)[len(head) :])
            for part in others:
                self._large.add(part)
            self._parts = [head]

    def _end_large(self, packet: LargePacket) -> list[Message]:
        message = packet.message()
        if message is None:
            return []
        self._parts, self._large, self._need = [], None, 0
        self.partial = False
        self.begun += 1
        return [message]

    @property
    def room(self) -> memoryview | None:
        """Where the rest of a large message may be written to, instead of being fed; see `fill`."""
        return None if self._large is None else self._large.room

    def fill(self, count: int) -> list[Message]:
        """The first bytes of the room were written; return the message if it is complete."""
        if self._large is None:
            raise ValueError("nothing to fill: no large message has begun")
        self._large.fill(count)
        self._held += count
        return self._end_large(self._large)

    def _read_packet(self, data: bytes, start: int, messages: list[Message]) -> int:
        """Read an unusual packet at ``start``; return its end, or 0 if it is incomplete."""
        body, end = start + HEADER_SIZE, len(data)
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
            messages.append((number, []))  # the body of a packet without arguments is ignored
        elif number in WORKLOAD_MAY_LACK:
            messages.append((number, [data[body:stop], b""]))
        else:
            text = b"packet type %d needs %d arguments, got %d"
            text %= number, count, len(split_arguments(data, body, stop, count))
            self.dead = True
            messages.append((FAULT, [b"INVALID_PACKET", text]))
        return stop

    def _read_oversized(self, data: bytes, start: int, messages: list[Message]) -> int:
        """Read the arguments before the workload of a packet at ``start`` that is too large.

        Of what a worker says about a job, this is the handle.
        """
        _, number, size = _unpack(data, start)
        body, end = start + HEADER_SIZE, len(data)
        count = 2 if number in OF_RUNNING_JOB else ARGUMENT_COUNT[number] or 0
        arguments = split_arguments(data, body, min(end, body + min(size, LARGE)), count)
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
        """What makes the rest of the stream unreadable; None if only this packet is skipped."""
        if magic not in (REQUEST, RESPONSE):
            return [b"INVALID_MAGIC", b"a packet cannot begin with %a" % magic]
        if size > self._max_packet:
            text = b"a packet of %d bytes is over the limit of %d"
            return [b"ARGUMENT_TOO_LARGE", text % (size, self._max_packet)]
        if magic == self._magic:
            return [b"INVALID_PACKET", b"unknown packet type %d" % number]
        return None

    def _read_line(self, data: bytes, start: int, messages: list[Message]) -> int:
        """Read the line at ``start``; return its end, or 0 if it is incomplete."""
        stop = data.find(b"\n", start, start + MAX_LINE)
        if stop >= 0:
            line = data[start:stop].removesuffix(b"\r")
            if line.endswith(HTTP_VERSIONS):
                self.dead = True
                messages.append((TEXT_FAULT, [b"HTTP_REQUEST", b"this port is not for HTTP"]))
                return len(data)
            messages.append((TEXT, [line]))
            return stop + 1
        if len(data) - start < MAX_LINE:
            return 0
        self.dead = True
        messages.append((TEXT_FAULT, [b"LINE_TOO_LONG", b"a line may have %d bytes" % MAX_LINE]))
        return len(data)
