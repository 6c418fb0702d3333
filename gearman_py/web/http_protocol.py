"""The connections of the pages: who does not send a whole request in time gives way to others."""

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_TIMEOUT = 20.0  # seconds for a whole request to arrive
MAX_WAITING = 150  # connections of which none has arrived; of more, the oldest are closed


class TimedProtocol(H11Protocol):
    """HTTP/1.1, with a limit of time for each request and of connections without one."""

    waiting: ClassVar[dict["TimedProtocol", asyncio.TimerHandle]] = {}

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._note_state()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note_state()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        super().connection_lost(exc)

    def _note_state(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._end_waiting()
        elif self not in self.waiting and not self.transport.is_closing():
            loop = asyncio.get_running_loop()
            self.waiting[self] = loop.call_later(REQUEST_TIMEOUT, self._give_up)
            if len(self.waiting) > MAX_WAITING:
                next(iter(self.waiting))._give_up()

    def _end_waiting(self) -> None:
        if timer := self.waiting.pop(self, None):
            timer.cancel()

    def _give_up(self) -> None:
        self._end_waiting()
        self.transport.abort()
