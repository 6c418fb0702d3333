"""What the broker knows of a connection."""

from collections.abc import Callable

from gearman_py.broker.job import Function, Job
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet


class Peer:
    """A connection as the broker sees it; it may be client and worker at once.

    ``operator``: it came by the admin socket, and may do what others may not.

    What the broker says goes into ``outbox``; the first word since the outbox was last
    taken marks the peer dirty by calling ``on_dirty`` with it.
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
        self.outbox: list[bytes] = []
        self.owed = 0  # bytes in the outbox
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

    def take(self) -> list[bytes]:
        """Everything owed to the peer, now no longer."""
        pieces, self.outbox = self.outbox, []
        self.owed = 0
        return pieces
