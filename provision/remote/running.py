"""A command that runs on a host, as the operator's side hears of it."""

import time
from collections.abc import Callable, Iterator

from provision.errors import HostFailed
from provision.remote.handshake import START_TIMEOUT
from provision.remote.replies import StreamReply

LINE_LIMIT = 1 << 20  # characters of a line; what follows is told as another one
Receive = Callable[[type[StreamReply], float, str], StreamReply]
"""The next message of this shape, within seconds; the text says during what, for errors."""


class Running:
    """The lines that a command on a host says, as they come; ``status`` is known at their end.

    Raises :class:`HostFailed` when it could not be run, or not to its end.
    """

    status: int

    def __init__(self, receive: Receive, seconds: float, name: str):
        self._receive = receive
        self._end = time.monotonic() + seconds + START_TIMEOUT
        self._during = f"`{name}` was running"

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for said in self._pieces():
            *lines, rest = (rest + said).split("\n")
            yield from lines
            if len(rest) > LINE_LIMIT:
                yield rest
                rest = ""
        if rest:
            yield rest

    def _pieces(self) -> Iterator[str]:
        while "said" in (event := self._next_event()):
            yield event["said"]
        ended = event.get("ended")
        if ended is None:
            raise HostFailed(event.get("why") or "it did not say how it ended")
        self.status = ended

    def _next_event(self) -> StreamReply:
        left = self._end - time.monotonic()
        if left <= 0:  # a host that talks without end is not waited for either
            raise HostFailed(f"it did not end in time while {self._during}")
        return self._receive(StreamReply, left, self._during)
