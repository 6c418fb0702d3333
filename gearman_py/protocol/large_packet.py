"""A large packet that is received in parts: its workload grows in the memory where it stays."""

from gearman_py.protocol.accelerator import new_workload
from gearman_py.protocol.framing import HEADER, HEADER_SIZE, Message
from gearman_py.protocol.packets import ARGUMENT_COUNT

# Room for a workload is made when this share of its packet has come, and LARGE bytes: what a peer
# announces and does not send takes little memory.
BEGUN_SHARE = 1 / 32


class LargePacket:
    """A packet of ``number`` with ``arguments`` before its workload of ``size`` bytes."""

    def __init__(self, number: int, arguments: list[bytes], size: int) -> None:
        self._number, self._arguments = number, arguments
        self._workload, self._view = new_workload(size)
        self._filled = 0  # bytes

    @property
    def room(self) -> memoryview:
        """Where the bytes go that are still to come: write there, then call `fill`."""
        return self._view[self._filled :]

    def fill(self, count: int) -> None:
        """The first bytes of the room were written."""
        self._filled += count

    def add(self, data: bytes | memoryview) -> int:
        """Copy the next bytes of the workload; return how many of these are its own."""
        own = data[: len(self._view) - self._filled]
        self._view[self._filled : self._filled + len(own)] = own
        self._filled += len(own)
        return len(own)

    def message(self) -> Message | None:
        """The message, if it is complete."""
        if self._filled < len(self._view):
            return None
        return self._number, [*self._arguments, bytes(self._workload)]

    def received(self) -> bytes:
        """What has come of the workload."""
        return bytes(self._view[: self._filled])


def begin_packet(head: bytes, size: int) -> tuple[bytes, LargePacket] | None:
    """What is before the workload of a packet of ``size`` bytes that begins with ``head``, and it.

    None if it has no workload, or the arguments before it are not all there.
    """
    _, number, _ = HEADER.unpack_from(head)
    count, start = ARGUMENT_COUNT[number], HEADER_SIZE
    if not count:
        return None
    for _ in range(count - 1):
        start = head.find(b"\0", start) + 1
        if not start:
            return None
    arguments = head[HEADER_SIZE:start].split(b"\0")[:-1]
    return head[:start], LargePacket(number, arguments, size - start)
