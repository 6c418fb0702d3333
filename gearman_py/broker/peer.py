"""What the broker knows of a connection."""

from collections.abc import Callable

from gearman_py.broker.job import Function, Job
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet


class Promise:
    """An answer that may not leave before a commit, and what the peer is told after it."""

    __slots__ = ("peer", "pieces", "settled")

    def __init__(self, peer: "Peer", answer: bytes) -> None:
        self.peer = peer
        self.pieces = [answer]
        self.settled = False

    def replace(self, answer: bytes) -> None:
        """It could not be kept: another answer takes its place."""
        self.peer.owed += len(answer) - len(self.pieces[0])
        self.pieces[0] = answer


class Peer:
    """A connection as the broker sees it; it may be client and worker at once.

    ``operator``: it came by the admin socket, and may do what others may not.

    What the broker says goes into ``outbox``: what is ready to be taken, or behind the last
    promise that is not settled yet, so that answers leave in the order of the requests. When
    something becomes ready where nothing was, ``on_dirty`` is called with the peer.
    """

    __slots__ = (
        "abilities",
        "address",
        "client_id",
        "excepted",
        "exceptions",
        "number",
        "on_dirty",
        "operator",
        "order",
        "outbox",
        "owed",
        "promises",
        "ready",
        "running",
        "sleeping",
        "waiting",
        "woken",
    )

    def __init__(
        self,
        number: int,
        address: str,
        on_dirty: Callable[["Peer"], None],
        *,
        operator: bool = False,
    ) -> None:
        self.number = number  # the file descriptor, for the text command `workers`
        self.address = address
        self.on_dirty = on_dirty
        self.operator = operator
        self.outbox = self.ready = list[bytes]()
        self.promises: list[Promise] = []  # the oldest first
        self.owed = 0  # bytes that are ready or behind promises
        self.client_id = b"-"
        self.exceptions = False
        # As a worker: each function it can do with its time limit (seconds, None: none) ...
        self.abilities: dict[Function, float | None] = {}
        # ... and the same functions in the order in which it is to be given jobs of them.
        self.order: list[Function] = []
        self.running: dict[bytes, Job] = {}
        self.excepted: bytes | None = None  # the handle that it ended last by WORK_EXCEPTION
        self.sleeping = False
        self.woken = False  # a NOOP was sent and no grab has come since
        # As a client: the jobs it waits for.
        self.waiting: set[Job] = set()

    def send(self, data: bytes, workload: bytes = b"") -> None:
        """Owe the peer these bytes; ``workload`` comes after ``data``, uncopied."""
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

    def promise(self, answer: bytes) -> Promise:
        """Owe the peer an answer that is not to leave yet, nor is anything said after it."""
        promise = Promise(self, answer)
        self.promises.append(promise)
        self.outbox = promise.pieces
        self.owed += len(answer)
        return promise

    def release(self) -> None:
        """What waits behind no unsettled promise is ready."""
        count = next(
            (n for n, promise in enumerate(self.promises) if not promise.settled),
            len(self.promises),
        )
        if not count:
            return
        if not self.ready:
            self.on_dirty(self)
        for promise in self.promises[:count]:
            self.ready += promise.pieces
        del self.promises[:count]
        if not self.promises:
            self.outbox = self.ready

    def take(self) -> list[bytes]:
        """Everything that is ready for the peer, now no longer owed."""
        pieces, self.ready = self.ready, []
        if self.promises:
            self.owed -= sum(map(len, pieces))
        else:
            self.outbox = self.ready
            self.owed = 0
        return pieces
