"""A command that runs on a host, as the operator's side hears of it."""

from collections.abc import Callable, Iterator

from provision.errors import HostFailed
from provision.remote.answers import StreamReply
from provision.remote.handshake import START_TIMEOUT

Receive = Callable[[type[StreamReply], float, str], StreamReply]
"""The next message of this shape, within seconds; the text says during what, for errors."""


class Running:
    """A command on a host. To be listened to until it has ended; ``status`` is known then.

    Raises :class:`HostFailed` when it could not be run, or not to its end.
    """

    status: int

    def __init__(self, receive: Receive, seconds: float, name: str):
        self._receive = receive
        self._seconds = seconds + START_TIMEOUT
        self._name = name

    def __iter__(self) -> Iterator[str]:
        during = f"`{self._name}` was running"
        while "said" in (event := self._receive(StreamReply, self._seconds, during)):
            yield event["said"]
        ended = event.get("ended")
        if ended is None:
            raise HostFailed(event.get("why") or "it did not say how it ended")
        self.status = ended
