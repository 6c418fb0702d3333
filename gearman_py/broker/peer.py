"""What the broker knows of a connection."""

from collections.abc import Callable

from gearman_py.broker.job import Function, Job


class Peer:
    """A connection as the broker sees it; it may be client, worker and operator at once.

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
        "order",
        "outbox",
        "owed",
        "running",
        "sleeping",
        "waiting",
        "woken",
    )

    def __init__(self, number: int, address: str, on_dirty: Callable[["Peer"], None]) -> None:
        self.number = number  # the file descriptor, for the text command `workers`
        self.address = address
        self.on_dirty = on_dirty
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

    def send(self, data: bytes) -> None:
        if not self.owed:
            self.on_dirty(self)
        self.outbox.append(data)
        self.owed += len(data)

    def take(self) -> bytes:
        """Everything owed to the peer, as one piece."""
        data = b"".join(self.outbox) if len(self.outbox) > 1 else self.outbox[0]
        self.outbox.clear()
        self.owed = 0
        return data
