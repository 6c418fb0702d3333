"""The door of a server with TLS: a handshake comes first, and who fails it is named in the log.

asyncio's own servers say nothing of that. A peer that only hangs up is none: monitors do so.
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

WARN_AGAIN = 10.0  # seconds until the same reason is told again, of whomever
PAUSE = 0.1  # seconds, when nobody can be accepted


class Gate:
    """Accepts at a listening socket; who comes through the handshake has a ``connect()``.

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
        self._accepting = loop.create_task(self._accept())

    def close(self) -> None:
        """Accept nobody any more."""
        self._accepting.cancel()
        self._listening.close()

    async def _accept(self) -> None:
        while True:
            try:
                newcomer, address = await self._loop.sock_accept(self._listening)
            except OSError as error:  # no descriptor or memory is left; or the peer was
                self._tell("nobody can be accepted", os.strerror(error.errno or 0))
                await asyncio.sleep(PAUSE)
                continue
            if not self._listener.room.has_room():
                newcomer.close()
                continue
            handshake = self._loop.create_task(self._shake(newcomer, address[0]))
            handshakes = self._listener.handshakes
            handshakes.add(handshake)
            handshake.add_done_callback(handshakes.discard)

    async def _shake(self, newcomer: socket.socket, host: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._connect,
                newcomer,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_LIMIT,
                ssl_shutdown_timeout=HANDSHAKE_LIMIT,
            )
        except ConnectionAbortedError:
            self._tell(f"{host} is not let in", f"no handshake within {HANDSHAKE_LIMIT:g} s")
        except ssl.SSLError as error:
            self._tell(f"{host} is not let in", why_refused(error))
        except OSError as error:
            log.debug("%s left before the end of the handshake: %s", host, error)

    def _tell(self, what: str, why: str) -> None:
        now = self._loop.time()
        if now - self._told.get(why, -WARN_AGAIN) >= WARN_AGAIN:
            self._told[why] = now
            log.warning("%s: %s", what, why)
