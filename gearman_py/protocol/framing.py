"""What is done for each packet: cutting it out of what was read, and putting it together.

gearman_py/_speedups.c is the same in C and used instead where it is installed: see
:mod:`gearman_py.protocol.accelerator`. This is the definition; a change is made in both.
"""

from io import BytesIO
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from struct import Struct

from gearman_py.protocol.packets import ARGUMENT_COUNT, HIGHEST

REQUEST = b"\0REQ"
RESPONSE = b"\0RES"
HEADER = Struct(">4sII")
HEADER_SIZE = HEADER.size
# Below this size, copying and splitting a body is faster than finding each NUL in place (measured).
SMALL = 4096
# From this size, a workload is not copied into one buffer with its surroundings.
LARGE = 2**16
# From this size, room for a workload is given back to the system at once. That takes longer.
MAPPED = 2**22

_unpack_quickly = Struct(">QI").unpack_from  # magic and number together

Message = tuple[int, list[bytes]]
"""The number of a packet and its arguments; or TEXT and a line without its ending; or FAULT
(TEXT_FAULT if the peer sent text), an error code and a message; or OVERSIZED and the arguments of a
packet that was skipped, with a message in place of the workload."""


def request(packet: int, *arguments: bytes) -> bytes:
    """The bytes of a packet sent to a server."""
    body = b"\0".join(arguments)
    return _REQUEST_HEADS[packet] + len(body).to_bytes(4, "big") + body


def response(packet: int, *arguments: bytes) -> bytes:
    """The bytes of a packet sent by a server."""
    body = b"\0".join(arguments)
    return _RESPONSE_HEADS[packet] + len(body).to_bytes(4, "big") + body


def response_parts(packet: int, *arguments: bytes) -> tuple[bytes, bytes]:
    """The bytes of a packet sent by a server; a large one is split before its last argument."""
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


def split_packets(
    data: bytes, start: int, limit: int, base: int, max_packet: int, messages: list[Message]
) -> int:
    """Append the packets from ``start`` on to ``messages``; return where the last one ends.

    It stops at the first that begins at ``limit`` or later, or is not an ordinary one: whole,
    valid, of at most ``max_packet`` bytes. ``base`` is the magic that packets begin with, as the
    upper half of a number of 64 bits.
    """
    end = len(data)
    while start < limit and end - start >= HEADER_SIZE:
        number, size = _unpack_quickly(data, start)
        number -= base
        stop: int = start + HEADER_SIZE + size
        if not 0 < number <= HIGHEST or stop > end or size > max_packet:
            break
        count = ARGUMENT_COUNT[number]
        if not count:
            if count is None:  # it does not exist
                break
            messages.append((number, []))  # what is in its body is ignored
        else:
            if size < SMALL:
                arguments = data[start + HEADER_SIZE : stop].split(b"\0", count - 1)
            else:
                arguments = split_arguments(data, start + HEADER_SIZE, stop, count)
            if len(arguments) != count:
                break
            messages.append((number, arguments))
        start = stop
    return start


def split_arguments(data: bytes, start: int, stop: int, count: int) -> list[bytes]:
    """Split the body of a packet at its first ``count - 1`` NULs without copying the workload."""
    arguments = []
    for _ in range(count - 1):
        nul = data.find(b"\0", start, stop)
        if nul < 0:
            break
        arguments.append(data[start:nul])
        start = nul + 1
    arguments.append(data[start:stop])
    return arguments


def new_workload(size: int) -> tuple[bytes | memoryview, memoryview]:
    """Room for the workload of a packet, which is to be written completely, and a view of it.

    ``bytes()`` of it is the workload. Keep it as long as the view. It takes memory as it is
    written to, which is not so of a bytearray: that is filled with zeros. In C it is bytes
    already, which are not copied.
    """
    if size < MAPPED:
        room = BytesIO(bytes(size)).getbuffer()
    else:
        room = memoryview(mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS))
    return room, room
