"""Accepts TLS connections, and logs peers that fail the handshake.

asyncio's servers do not log that. A peer that only closes its connection is not logged, as
monitoring does that.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from gearman_py.net.tls import HANDSHAKE_LIMIT, why_refused
from gearman_py.server.admission import Handshakes
from gearman_py.server.tls_transport import TLSTransport, shake_hands

log = logging.getLogger("gearmand")

WARN_INTERVAL = 10.0  # seconds before the same reason is logged again, for any peer
ACCEPT_PAUSE = 0.1  # seconds to wait when connections cannot be accepted
ROOM_INTERVAL = 0.02  # seconds between two checks whether another handshake may begin


class TLSAcceptor:
    """Accepts at a listening socket; after the handshake, a peer gets a ``connect()``.

    Peers wait in the kernel while there are as many ``handshakes`` as may be, and are turned away
    unless there is room (``has_room``, given the descriptor) for another connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[], asyncio.Protocol],
        listening: socket.socket,
        tls: ssl.SSLContext,
        handshakes: Handshakes,
        has_room: Callable[[int], bool],
    ) -> None:
        self._loop, self._connect, self._listening, self._tls = loop, connect, listening, tls
        self._handshakes, self._has_room = handshakes, has_room
        self._told: dict[str, float] = {}  # reason: when
        listening.setblocking(False)
        self._accepting = loop.create_task(self._accept_connections())

    def close(self) -> None:
        """Accept no more connections."""
        self._accepting.cancel()
        self._listening.close()

    async def _accept_connections(self) -> None:
        while True:
            try:
                accepted, address = await self._loop.sock_accept(self._listening)
            except OSError as error:  # no descriptor or memory is left; or the peer was
                self._warn_rarely("cannot accept connections", os.strerror(error.errno or 0))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            with self._handshakes.arrival():
                await asyncio.sleep(0)  # others are served amid a flood of connections too
                while not self._handshakes.has_room():  # noqa: ASYNC110 - others end, or have had their time
                    await asyncio.sleep(ROOM_INTERVAL)
            if not self._has_room(accepted.fileno()):
                accepted.close()
                continue
            self._handshakes.add(self._loop.create_task(self._do_handshake(accepted, address)))

    async def _do_handshake(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        host = address[0]
        failed = f"TLS handshake with {host} failed"
        try:
            connected = self._tls.wrap_socket(
                accepted, server_side=True, do_handshake_on_connect=False
            )
        except OSError as error:
            accepted.close()
            log.debug("%s left before the handshake: %s", host, error)
            return
        done = False
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT):
                await shake_hands(self._loop, connected, self._handshakes)
            done = True
        except asyncio.CancelledError:
            self._warn_rarely(failed, "it was slow, and its place was needed for another")
            raise
        except TimeoutError:
            self._warn_rarely(failed, f"no handshake within {HANDSHAKE_LIMIT:g} s")
        except ssl.SSLEOFError as error:
            log.debug("%s left before the end of the handshake: %s", host, error)
        except ssl.SSLError as error:
            self._warn_rarely(failed, why_refused(error))
        except OSError as error:
            log.debug("%s left before the end of the handshake: %s", host, error)
        finally:
            if not done:
                connected.close()
        if done:
            TLSTransport(self._loop, connected, address, self._connect())

    def _warn_rarely(self, what: str, why: str) -> None:
        now = self._loop.time()
        if now - self._told.get(why, -WARN_INTERVAL) >= WARN_INTERVAL:
            self._told[why] = now
            log.warning("%s: %s", what, why)
