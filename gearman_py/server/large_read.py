"""Reads the rest of a large message from the socket to where it will stay.

Otherwise the event loop makes an object of each read, and the codec copies that once more.
"""

import asyncio
from collections.abc import Callable

from gearman_py.protocol.large_packet import LargePacket

# If at least this many bytes are still to come, this saves more than it costs to change the
# protocol of a transport, and to change it back.
LARGE_READ = 2**17
# Bytes of one read, as of others (of uvloop): after each one it is seen whether there is memory.
READ_SIZE = 2**18


def read_straight(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    packet: LargePacket | None,
    on_read: Callable[[int], None],
) -> None:
    """Have what is still to come of a packet read like this, unless it is little, or encrypted.

    ``on_read`` is called with the number of bytes of each read; after the last one, it sets
    ``protocol`` again.
    """
    if packet is None or packet.missing < LARGE_READ or transport.get_extra_info("ssl_object"):
        return
    transport.set_protocol(LargeRead(protocol, packet, on_read))


class LargeRead(asyncio.BufferedProtocol):
    """The protocol of a connection meanwhile; all but input is for ``protocol``."""

    def __init__(
        self, protocol: asyncio.Protocol, packet: LargePacket, on_read: Callable[[int], None]
    ) -> None:
        self._protocol, self._packet, self._on_read = protocol, packet, on_read

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._packet.room()[:READ_SIZE]

    def buffer_updated(self, nbytes: int) -> None:
        self._packet.filled(nbytes)
        self._on_read(nbytes)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
