"""Accepts TLS connections: a peer that fails the handshake is named in the log.

asyncio's own servers do not log that. A peer that only closes its connection is not logged:
monitoring does so.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable

from gearman_py.net.tls import HANDSHAKE_LIMIT, why_refused
from gearman_py.server.listener import Listener

log = logging.getLogger("gearmand")

WARN_INTERVAL = 10.0  # seconds until the same reason is logged again, for any peer
ACCEPT_PAUSE = 0.1  # seconds, when no connection can be accepted


class TLSAcceptor:
    """Accepts at a listening socket; a peer that completes the handshake gets a ``connect()``.

    Handshakes count as connections from their beginning.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[], asyncio.Protocol],
        listening: socket.socket,
        tls: ssl.SSLContext,
        listener: Listener,
    ) -> None:
        self._loop, self._connect, self._listening, self._tls = loop, connect, listening, tls
        self._listener = listener
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
            if not self._listener.admission.has_room():
                accepted.close()
                continue
            handshake = self._loop.create_task(self._do_handshake(accepted, address[0]))
            handshakes = self._listener.handshakes
            handshakes.add(handshake)
            handshake.add_done_callback(handshakes.discard)

    async def _do_handshake(self, accepted: socket.socket, host: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._connect,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_LIMIT,
                ssl_shutdown_timeout=HANDSHAKE_LIMIT,
            )
        except ConnectionAbortedError:
            self._warn_rarely(
                f"TLS handshake with {host} failed", f"no handshake within {HANDSHAKE_LIMIT:g} s"
            )
        except ssl.SSLError as error:
            self._warn_rarely(f"TLS handshake with {host} failed", why_refused(error))
        except OSError as error:
            log.debug("%s left before the end of the handshake: %s", host, error)

    def _warn_rarely(self, what: str, why: str) -> None:
        now = self._loop.time()
        if now - self._told.get(why, -WARN_INTERVAL) >= WARN_INTERVAL:
            self._told[why] = now
            log.warning("%s: %s", what, why)
