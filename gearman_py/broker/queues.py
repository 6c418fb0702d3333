"""Where jobs wait: the one place that gives them to workers, and the one that wakes workers.

Which job a worker gets is the rule of gearmand 2.0: the highest priority over all its
functions, among equals the function that was served longest ago, then the oldest job. With
``function_first`` it is that of 1.1: the function registered last until it has no job left
(``rotate``: the one served longest ago), in it the highest priority, then the oldest job.
"""

from heapq import heappop, heappush
from itertools import islice

from gearman_py.broker.job import PRIORITIES, Function, Job, Key
from gearman_py.broker.peer import Peer
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet

NOOP = response(Packet.NOOP)

# A worker that was woken but never grabs (hung, or its network gone) must not keep a job
# from the others that sleep: after this many seconds the next one is woken.
WAKE_AGAIN = 1.0


class Queues:
    """All live jobs, by handle and by function.

    ``wakeup``: how many sleeping workers a new job wakes; 0 wakes all of its function.
    """

    def __init__(
        self, *, function_first: bool = False, rotate: bool = True, wakeup: int = 1
    ) -> None:
        self._function_first = function_first
        self._rotate = rotate
        self._wakeup = wakeup
        self.jobs: dict[bytes, Job] = {}
        self.functions: dict[bytes, Function] = {}
        self._deadlines: list[tuple[float, bytes]] = []  # of running jobs with a time limit
        self._due: list[tuple[float, bytes]] = []  # of epoch jobs, wall clock
        self._unserved: dict[Function, float] = {}  # jobs queued while workers slept: when

    def function(self, name: bytes) -> Function:
        """The function of this name, made on first mention."""
        function = self.functions.get(name)
        if function is None:
            function = self.functions[name] = Function(name)
        return function

    def add(self, job: Job, now: float) -> None:
        """Take a new job in and wake a worker for it."""
        self._remember(job)
        job.function.push(job)
        self.wake(job.function, now)

    def add_later(self, job: Job, due: float) -> None:
        """Take a new job in that is not to run before ``due`` (seconds since 1970)."""
        self._remember(job)
        job.due = True
        job.function.scheduled += 1
        heappush(self._due, (due, job.handle))

    def _remember(self, job: Job) -> None:
        self.jobs[job.handle] = job
        if job.key is not None:
            job.function.uniques[job.key] = job

    def find(self, function: Function, key: Key | None) -> Job | None:
        """The live job that a submission with this key joins."""
        return None if key is None else function.uniques.get(key)

    def take(self, worker: Peer, now: float) -> Job | None:
        """The job that this worker is to run next, now its own."""
        choose = self._by_function if self._function_first else self._by_priority
        job = choose(worker)
        if job is None:
            return None
        function = job.function
        if self._rotate and len(worker.order) > 1:
            worker.order.remove(function)
            worker.order.append(function)
        function.running += 1
        job.worker = worker
        worker.running[job.handle] = job
        limit = worker.abilities[function]
        if limit is not None:
            job.deadline = now + limit
            heappush(self._deadlines, (job.deadline, job.handle))
        return job

    def _by_priority(self, worker: Peer) -> Job | None:
        for priority in PRIORITIES:
            for function in worker.order:
                if function.queued and (job := function.pop(priority)):
                    return job
        return None

    def _by_function(self, worker: Peer) -> Job | None:
        for function in worker.order:
            for priority in PRIORITIES:
                if function.queued and (job := function.pop(priority)):
                    return job
        return None

    def give_back(self, job: Job, now: float) -> None:
        """A running job that its worker lost goes to the end of its queue."""
        if job.worker:
            self._leave(job.worker, job)
        job.retries += 1
        job.numerator = job.denominator = b"0"
        job.function.push(job)
        self.wake(job.function, now)

    def forget(self, job: Job) -> None:
        """A job is complete, failed or abandoned: nothing remembers it any longer."""
        function = job.function
        if job.worker:
            self._leave(job.worker, job)
        elif job.due:
            function.scheduled -= 1
        else:
            function.drop(job)
        del self.jobs[job.handle]
        if job.key is not None:
            del function.uniques[job.key]
        for client in job.clients:
            client.waiting.discard(job)

    def _leave(self, worker: Peer, job: Job) -> None:
        del worker.running[job.handle]
        job.worker = job.deadline = None
        job.function.running -= 1

    def sleep(self, worker: Peer) -> None:
        """The worker asks to be woken; at once when there is a job for it already."""
        worker.woken = False
        if any(function.queued for function in worker.order):
            self._wake(worker)
            return
        worker.sleeping = True
        for function in worker.order:
            function.sleepers[worker] = None

    def awake(self, worker: Peer) -> None:
        """The worker speaks for itself again: it is grabbing, or gone."""
        worker.woken = False
        if worker.sleeping:
            worker.sleeping = False
            for function in worker.order:
                function.sleepers.pop(worker, None)

    def wake(self, function: Function, now: float) -> None:
        """Wake the workers that have slept longest for this function."""
        if not function.sleepers:
            return
        for worker in list(islice(function.sleepers, self._wakeup or None)):
            self._wake(worker)
        self._unserved.setdefault(function, now)

    def _wake(self, worker: Peer) -> None:
        self.awake(worker)
        worker.woken = True
        worker.send(NOOP)

    def register(self, worker: Peer, function: Function, limit: float | None, now: float) -> None:
        """The worker can do this function, each job within ``limit`` seconds."""
        if function not in worker.abilities:
            worker.order.insert(0, function)  # the last registered is served first
            function.workers[worker] = None
            if worker.sleeping:
                function.sleepers[worker] = None
                if function.queued:
                    self.wake(function, now)
        worker.abilities[function] = limit

    def unregister(self, worker: Peer, function: Function) -> None:
        """The worker no longer can."""
        if function in worker.abilities:
            del worker.abilities[function]
            worker.order.remove(function)
            del function.workers[worker]
            function.sleepers.pop(worker, None)

    def remove_worker(self, worker: Peer, now: float) -> None:
        """The connection is gone; who was woken in its place is woken anew."""
        woken = worker.woken
        functions = list(worker.order)
        self.awake(worker)
        for function in functions:
            self.unregister(worker, function)
            if woken and function.queued:
                self.wake(function, now)

    def expired(self, now: float) -> list[Job]:
        """The running jobs whose time limit is over."""
        jobs = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, handle = heappop(self._deadlines)
            job = self.jobs.get(handle)
            if job is not None and job.deadline == deadline:
                jobs.append(job)
        return jobs

    def release_due(self, now: float, wall: float) -> None:
        """Queue the epoch jobs that are due; wake the next worker where one did not come."""
        while self._due and self._due[0][0] <= wall:
            _, handle = heappop(self._due)
            job = self.jobs.get(handle)
            if job is not None:
                job.due = False
                job.function.scheduled -= 1
                job.function.push(job)
                self.wake(job.function, now)
        for function, since in list(self._unserved.items()):
            if now - since >= WAKE_AGAIN:
                del self._unserved[function]
                if function.queued:
                    self.wake(function, now)

    def next_event(self, now: float, wall: float) -> float | None:
        """Seconds until time alone changes something; None: never."""
        events = []
        if self._deadlines:
            events.append(self._deadlines[0][0] - now)
        if self._due:
            events.append(self._due[0][0] - wall)
        if self._unserved:
            events.append(min(self._unserved.values()) + WAKE_AGAIN - now)
        return max(0.0, min(events)) if events else None
