"""Receives the rest of a large message straight into its workload.

Otherwise the event loop reads into a buffer of its own and makes bytes of that, which the decoder
then copies to their place.
"""

import asyncio

from gearman_py.protocol.codec import LARGE, Decoder
from gearman_py.server.tls_transport import TLSTransport

READ_SIZE = 2**20  # bytes of a workload at a time
# Who has sent a large message may send another: its beginning is read in small pieces, of which
# less has to be copied, until this many reads in succession were of other messages.
OTHERS = 16
_beginning = memoryview(bytearray(LARGE))  # emptied after each read, whatever the connection


class LargeReader(asyncio.Protocol):
    """A connection whose large messages may be received so."""

    def workload_received(self, count: int) -> None:
        """Bytes were received into the room of the decoder."""
        raise NotImplementedError


class WorkloadReceiver(asyncio.BufferedProtocol):
    """Takes the place of a connection at its transport."""

    def __init__(
        self, connection: LargeReader, decoder: Decoder, transport: asyncio.Transport
    ) -> None:
        self._connection, self._decoder, self._transport = connection, decoder, transport
        self._others = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        room = self._decoder.room
        return _beginning if room is None else room[:READ_SIZE]

    def buffer_updated(self, nbytes: int) -> None:
        if self._decoder.room is not None:
            self._others = 0
            return self._connection.workload_received(nbytes)
        self._others += 1
        if self._others > OTHERS:
            self._transport.set_protocol(self._connection)
        return self._connection.data_received(bytes(_beginning[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.connection_lost(error)


def receive_workload(
    connection: LargeReader, decoder: Decoder, transport: asyncio.Transport
) -> None:
    """Have the rest of a message received so, if that is worth it and possible.

    It is not with TLS: OpenSSL reads from the socket itself.
    """
    if decoder.room is None or decoder.missing < LARGE or isinstance(transport, TLSTransport):
        return
    if transport.get_protocol() is connection and not transport.is_closing():
        transport.set_protocol(WorkloadReceiver(connection, decoder, transport))
