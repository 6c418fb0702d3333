"""Jobs, functions and peers, and how they refer to each other."""

from collections import deque
from collections.abc import Callable, Container, Iterable
from heapq import nlargest
from operator import itemgetter

from gearman_py.broker.backlog import Backlog
from gearman_py.broker.counts import Counts
from gearman_py.broker.key_limits import KeyedQueue, KeyLimit
from gearman_py.broker.limits import MAX_FORMER_TURNS, MAX_OVERDUE
from gearman_py.broker.outbox import Outbox
from gearman_py.broker.rates import RateLimit

HIGH, NORMAL, LOW = PRIORITIES = range(3)

Key = bytes | tuple[bytes]
"""What jobs coalesce on: their unique, or with the unique `-` their workload (as a 1-tuple, so
that a workload never equals a unique)."""


class BrokerJob:
    """A job, from its submission until it is complete, failed or dropped.

    It waits in the queue of its function (``queued``), or for its time (an epoch job), or runs at
    a ``worker``. Its handle ends in ``number``. ``clients`` has an entry for each foreground
    submission that waits for it. ``background``: it must be done even if no client waits; once
    true, this stays true. ``since`` is when it began to wait or to run (the clock of
    `Broker.receive`).

    A queue may have millions of these, so a job has few attributes: what applies to few jobs is
    kept elsewhere (see Queues).
    """

    __slots__ = (
        "background",
        "clients",
        "function",
        "number",
        "priority",
        "queued",
        "retries",
        "since",
        "unique",
        "worker",
        "workload",
    )

    reducer = b""  # see ReduceJob
    number: int  # the queues set it
    since: float  # and this

    def __init__(
        self,
        function: "Function",
        unique: bytes,
        workload: bytes,
        priority: int,
        background: bool,
    ) -> None:
        self.function = function
        self.unique = unique
        self.workload = workload
        self.priority = priority
        self.background = background
        self.clients: tuple[Peer, ...] = ()
        self.worker: Peer | None = None
        self.retries = 0
        self.queued = False

    @property
    def key(self) -> Key | None:
        """What it coalesces on, or None."""
        return coalesces_on(self.unique, self.workload)


class ReduceJob(BrokerJob):
    """A job whose results another function, the reducer, combines."""

    __slots__ = ("reducer",)

    def __init__(
        self,
        function: "Function",
        unique: bytes,
        workload: bytes,
        priority: int,
        background: bool,
        reducer: bytes,
    ) -> None:
        super().__init__(function, unique, workload, priority, background)
        self.reducer = reducer


def coalesces_on(unique: bytes, workload: bytes) -> Key | None:
    """The key of a submission; None if it is always a job of its own.

    Without a unique, or with `-` and no workload, it coalesces with nothing (as in gearmand).
    """
    if unique != b"-":
        return unique or None
    return (workload,) if workload else None


# In place of a queue that has not had a job yet: a deque takes 600 bytes.
EMPTY: deque["BrokerJob"] = deque(maxlen=0)
JobQueue = deque["BrokerJob"] | Backlog["BrokerJob"] | KeyedQueue["BrokerJob"]
NONE = [0, 0, 0]  # by priority


class Function:
    """A function's name, its queued jobs by priority, and the workers that sleep for it.

    ``loaded`` is the set of all functions with queued jobs, which this adds itself to.
    ``waiting`` counts the live jobs in ``queues``; ``running`` and ``scheduled`` (future epoch
    jobs) count the others. ``limits`` are those of the text command maxqueue, by priority; 0 is
    unlimited, as it is of ``max_running``. No job of a ``paused`` function is given out, and of
    others no more than ``rate`` and ``key_limit`` allow. A ``plain`` function has no such
    restriction, and the server does not ration its jobs: any of its workers may have the next one.
    """

    __slots__ = (
        *("counts", "key_limit", "limits", "loaded", "max_running", "name", "paused", "plain"),
        *("queues", "rate", "running", "scheduled", "sleepers", "waiting", "workers"),
    )

    def __init__(self, name: bytes, loaded: set["Function"], counts: Counts) -> None:
        self.name = name
        self.counts = counts
        self.loaded = loaded
        self.queues: list[JobQueue] = [EMPTY, EMPTY, EMPTY]
        self.waiting = [0, 0, 0]
        self.running = self.scheduled = 0
        self.limits = [0, 0, 0]
        self.plain = True
        self.max_running = 0
        self.paused = False
        self.rate: RateLimit | None = None
        self.key_limit: KeyLimit[BrokerJob] | None = None
        self.workers: dict[Peer, None] = {}
        # The sleeping workers, in the order in which they fell asleep, and some that have woken.
        self.sleepers: dict[Peer, None] = {}

    @property
    def queued(self) -> int:
        return sum(self.waiting)

    @property
    def total(self) -> int:
        return self.queued + self.running + self.scheduled

    @property
    def unused(self) -> bool:
        """Whether nothing refers to it."""
        return not (self.workers or self.total or self.has_settings)

    @property
    def has_settings(self) -> bool:
        """Whether operators limited or paused it."""
        return self.has_restrictions or any(self.limits)

    @property
    def has_restrictions(self) -> bool:
        """Whether operators paused it, or limited which of its jobs are given out."""
        return bool(self.paused or self.max_running or self.rate or self.key_limit)

    @property
    def first_priority(self) -> int:
        """That of the job which is next, of a function that has queued jobs."""
        high, normal, _ = self.waiting
        return HIGH if high else NORMAL if normal else LOW

    def push(self, job: BrokerJob) -> None:
        """Put a job at the end of its priority's queue."""
        priority = job.priority
        queue = self.queues[priority]
        if not queue:
            if queue is EMPTY:
                queue = self.queues[priority] = deque()
            self.loaded.add(self)
        self.waiting[priority] += 1
        job.queued = True
        queue.append(job)

    def push_first(self, job: BrokerJob) -> None:
        """Put a job at the beginning of its priority's queue."""
        self.push(job)
        self.queues[job.priority].rotate()

    def reorder(self, priority: int, jobs: Iterable["BrokerJob"]) -> None:
        """Put the queued jobs of a priority in this order."""
        queue = self.queues[priority]
        queue.clear()
        queue.extend(jobs)

    def _unload_if_empty(self) -> None:
        if self.waiting == NONE:
            self.loaded.discard(self)
            for queue in self.queues:
                queue.clear()  # of dropped jobs

    def pop(self, priority: int) -> BrokerJob | None:
        """Take the oldest live job of a priority."""
        queue = self.queues[priority]
        while queue:
            job = queue.popleft()
            if job.queued:
                job.queued = False
                left = self.waiting[priority] = self.waiting[priority] - 1
                if not left:
                    self._unload_if_empty()
                return job
        return None

    def waiting_since(self) -> float | None:
        """When the queued job that waits longest began to wait; None: none is queued."""
        oldest = []
        for waiting, queue in zip(self.waiting, self.queues, strict=True):
            while waiting and not queue[0].queued:
                queue.popleft()  # it was dropped
            if waiting:
                oldest.append(queue[0].since)
        return min(oldest, default=None)

    def drop(self, job: BrokerJob) -> None:
        """Remove a job that does not run, wherever in its queue it is; it may be in none."""
        if not job.queued:
            self.scheduled -= 1
            return None
        self.waiting[job.priority] -= 1
        job.queued = False
        self._unload_if_empty()
        queue = self.queues[job.priority]
        if isinstance(queue, KeyedQueue):
            return queue.discard(job)
        # Dropped jobs stay in the queue until they are skipped, as long as they are the minority.
        if len(queue) > 64 and len(queue) > 2 * self.waiting[job.priority]:
            live = [other for other in queue if other.queued]
            queue.clear()
            queue.extend(live)
        return None

    def withdraw(self, kept: Container[BrokerJob]) -> list[BrokerJob]:
        """Take out the background jobs that are not in ``kept``, and count them as scheduled."""
        withdrawn = []
        for priority, queue in enumerate(self.queues):
            taken = [job for job in queue if job.queued and job.background and job not in kept]
            for job in taken:
                job.queued = False
                job.since += 0.0  # another object: see gearman_py.broker.copy_ahead
            live = [job for job in queue if job.queued]
            queue.clear()
            queue.extend(live)
            self.waiting[priority] = len(live)
            withdrawn += taken
        self.scheduled += len(withdrawn)
        self._unload_if_empty()
        return withdrawn


class Peer(Outbox):
    """A connection as the broker sees it, which may be a client and a worker at once.

    ``operator``: it came through the admin socket and may use all commands. ``retries``: it is told
    the attempt of each background job, and may put jobs off; ``results``: it may ask for
    the results of background jobs; ``resubmits``: it submits a job to another server if a
    draining one gives it back (the options of these names).
    """

    __slots__ = (
        "abilities",
        "absent",
        "address",
        "client_id",
        "excepted",
        "exceptions",
        "former_turns",
        "number",
        "operator",
        "overdue",
        "resubmits",
        "results",
        "retries",
        "running",
        "since",
        "sleeping",
        "submissions",
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
        super().__init__(on_dirty)
        self.number = number  # the file descriptor, for the text command `workers`
        self.address = address
        self.operator = operator
        self.since = 0.0  # the time at which it was connected
        self.client_id = b"-"
        self.exceptions = self.retries = self.results = self.resubmits = False
        # As a worker: its functions, each with a time limit in seconds or None ...
        self.abilities: dict[Function, float | None] = {}
        # ... and with its turn to be served: the lowest first.
        self.turns: dict[Function, int] = {}
        # Of functions that it gave up: one that is registered again waits for its turn.
        self.former_turns: dict[Function, int] = {}
        self.absent: dict[Function, None] = {}  # functions whose sleepers do not include it
        self.running: dict[bytes, BrokerJob] = {}
        # Handles of jobs that it has run beyond their time limits: it may still end them.
        self.overdue: dict[bytes, None] = {}
        self.excepted: bytes | None = None  # the handle of its last WORK_EXCEPTION
        self.sleeping = False
        self.woken = False  # it was sent a NOOP and has not grabbed since
        # As a client: the jobs it waits for, and how often it has submitted to functions.
        self.waiting: set[BrokerJob] = set()
        self.submissions: dict[Function, list[int]] = {}

    @property
    def order(self) -> list[Function]:
        """Its functions, in the order in which they are served."""
        return sorted(self.turns, key=self.turns.__getitem__)

    def remember_turns(self, turns: dict[Function, int]) -> None:
        """It gives functions up: keep the turns of those that were served last."""
        served = {each: turn for each, turn in turns.items() if turn > 0} | self.former_turns
        self.former_turns = dict(nlargest(MAX_FORMER_TURNS, served.items(), key=itemgetter(1)))

    def remember_overdue(self, handle: bytes) -> None:
        """Accept the result of a job that is over its limit until another worker has the job."""
        self.overdue.pop(handle, None)
        self.overdue[handle] = None
        if len(self.overdue) > MAX_OVERDUE:
            del self.overdue[next(iter(self.overdue))]
