"""What a peer is to be sent, in the order of its requests; some of it only after a commit."""

from collections.abc import Callable, Iterator
from typing import Any

from gearman_py.broker.limits import MAX_OWED
from gearman_py.protocol import text
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet


class DeferredReply:
    """A reply that waits for a commit, and what follows it."""

    __slots__ = ("peer", "pieces", "settled")

    def __init__(self, peer: "Outbox", answer: bytes) -> None:
        self.peer: Any = peer  # a Peer, which is an Outbox; that module is above this one
        self.pieces = [answer]
        self.settled = False

    def replace(self, answer: bytes) -> None:
        """Replace the answer."""
        self.peer.owed += len(answer) - len(self.pieces[0])
        self.pieces[0] = answer


class Outbox:
    """What is queued for one peer.

    ``outbox`` collects what is sent. It is either ready to be taken or follows the last deferred
    reply that is not settled, so that answers are sent in the order of the requests. ``on_dirty``
    is called when there is something to take again.
    """

    __slots__ = ("deferred", "listing", "max_owed", "on_dirty", "outbox", "owed", "ready", "sent")

    def __init__(self, on_dirty: Callable[[Any], None]) -> None:
        self.on_dirty = on_dirty
        self.outbox = self.ready = list[bytes]()
        self.deferred: list[DeferredReply] = []  # the oldest first
        self.owed = 0  # bytes, whether ready or deferred
        self.sent = 0  # bytes, until it was taken from last
        # Beyond this, the peer's requests wait; negative while a listing is sent.
        self.max_owed = MAX_OWED
        # The rest of a long answer, which goes before everything after its reply.
        self.listing: tuple[DeferredReply, Iterator[tuple[bytes, bool]]] | None = None

    def send(self, data: bytes, workload: bytes = b"") -> None:
        """Queue bytes for the peer; ``workload`` follows ``data`` without being copied."""
        if not self.owed:
            self.on_dirty(self)
        self.outbox.append(data)
        self.owed += len(data)
        if workload:
            self.outbox.append(workload)
            self.owed += len(workload)

    def refuse(self, code: bytes, text: bytes) -> None:
        """Answer a request with ERROR."""
        self.send(response(Packet.ERROR, code, text))

    def defer(self, answer: bytes) -> DeferredReply:
        """Queue an answer that waits, with all that follows it, until it is settled."""
        reply = DeferredReply(self, answer)
        self.deferred.append(reply)
        self.outbox = reply.pieces
        self.owed += len(answer)
        return reply

    def send_listing(self, parts: Iterator[tuple[bytes, bool]]) -> None:
        """Queue a long answer, whose parts `continue_listing` makes.

        Each part comes with whether more follow.
        """
        if not self.ready:
            self.on_dirty(self)
        self.listing = self.defer(b""), parts
        self.max_owed = -1

    def continue_listing(self) -> None:
        """Queue the next part of a long answer, unless a deferred reply is before it."""
        if self.listing is None or self.deferred[0] is not self.listing[0]:
            return
        reply, parts = self.listing
        part, more = next(parts)
        if not self.ready:
            self.on_dirty(self)
        self.ready.append(part)
        self.owed += len(part)
        if not more:
            self.listing, self.max_owed = None, MAX_OWED
            reply.settled = True
            self.release()

    def release(self) -> None:
        """Make ready what does not follow an unsettled reply."""
        count = next(
            (n for n, reply in enumerate(self.deferred) if not reply.settled),
            len(self.deferred),
        )
        if not count:
            return
        if not self.ready:
            self.on_dirty(self)
        for reply in self.deferred[:count]:
            self.ready += reply.pieces
        del self.deferred[:count]
        if not self.deferred:
            self.outbox = self.ready

    def take(self) -> list[bytes]:
        """Take out what is ready to be sent."""
        pieces, self.ready = self.ready, []
        if self.deferred:
            size = sum(map(len, pieces))
            self.sent += size
            self.owed -= size
        else:
            self.outbox = self.ready
            self.sent += self.owed
            self.owed = 0
        return pieces


def explain_refusal(answer: bytes, why: bytes) -> bytes:
    """What a peer is told in place of an answer: a packet, or a line of the text protocol."""
    if answer.startswith(b"\0"):
        return response(Packet.ERROR, b"QUEUE_ERROR", why)
    return text.error(b"QUEUE_ERROR", why)
