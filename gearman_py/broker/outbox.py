"""What the broker knows of a connection."""

from collections.abc import Callable, Iterator

from gearman_py.broker.state import Function, Job
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet

# A peer that is owed more bytes than this is answered no further until it has read some.
OWED_PAUSE = 2**20


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
        "absent",
        "address",
        "bound",
        "client_id",
        "excepted",
        "exceptions",
        "listing",
        "number",
        "on_dirty",
        "operator",
        "outbox",
        "overdue",
        "owed",
        "promises",
        "ready",
        "running",
        "sleeping",
        "turns",
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
        self.bound = OWED_PAUSE  # owed more, it is answered no further; below 0 during a listing
        self.client_id = b"-"
        self.exceptions = False
        # As a worker: each function it can do with its time limit (seconds, None: none) ...
        self.abilities: dict[Function, float | None] = {}
        # ... and when each has its turn to be given a job of: the lowest first.
        self.turns: dict[Function, int] = {}
        self.absent: dict[Function, None] = {}  # those whose sleepers it is not among
        self.running: dict[bytes, Job] = {}
        # Handles of jobs that it ran over their time limits: it may still end them.
        self.overdue: dict[bytes, None] = {}
        self.excepted: bytes | None = None  # the handle that it ended last by WORK_EXCEPTION
        self.sleeping = False
        self.woken = False  # a NOOP was sent and no grab has come since
        # As a client: the jobs it waits for.
        self.waiting: set[Job] = set()
        # The rest of a long answer, which goes before whatever is said after its promise.
        self.listing: tuple[Promise, Iterator[tuple[bytes, bool]]] | None = None

    @property
    def order(self) -> list[Function]:
        """The functions it can do, in the order in which it is to be given jobs of them."""
        return sorted(self.turns, key=self.turns.__getitem__)

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

    def recite(self, parts: Iterator[tuple[bytes, bool]]) -> None:
        """Owe the peer an answer of parts: one now, each other when `go_on` is called.

        With each part comes whether more follow.
        """
        self.listing = self.promise(b""), parts
        self.bound = -1
        self.go_on()

    def go_on(self) -> None:
        """Owe the next part of a long answer, unless it waits behind a promise itself."""
        if self.listing is None or self.promises[0] is not self.listing[0]:
            return
        promise, parts = self.listing
        part, more = next(parts)
        if not self.ready:
            self.on_dirty(self)
        self.ready.append(part)
        self.owed += len(part)
        if not more:
            self.listing, self.bound = None, OWED_PAUSE
            promise.settled = True
            self.release()

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
