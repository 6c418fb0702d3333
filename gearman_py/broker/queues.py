"""The queues: the one place that assigns jobs to workers.

A worker gets the job that gearmand 2.0 would give it: the one with the highest priority among all
its functions; among equals, of the function served longest ago; then the oldest. With
``function_first`` it is the job that 1.1 would give it: from the function registered last, until
that has no job left (with ``rotate``, from the function served longest ago), the one with the
highest priority, then the oldest.
"""

from heapq import heappop, heappush
from math import inf

from gearman_py.broker import counts
from gearman_py.broker.adopted_jobs import AdoptedJobs
from gearman_py.broker.demand import Demand
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.foreign_handles import ForeignHandles
from gearman_py.broker.job_table import JobTable
from gearman_py.broker.kept_results import KeptResults
from gearman_py.broker.limits import SLICE
from gearman_py.broker.pending_changes import PendingChanges
from gearman_py.broker.restrictions import RestrictedFunctions
from gearman_py.broker.schedules import Schedules
from gearman_py.broker.state import HIGH, LOW, NORMAL, PRIORITIES, BrokerJob, Key, Peer
from gearman_py.broker.time_limits import TimeLimits
from gearman_py.broker.uniques import Uniques, is_sparse
from gearman_py.store.base import lease_clock

# Seconds between two looks at the time of day, which may be set, while epoch jobs wait for it.
LOOK_AGAIN = 10.0


class Queues(RestrictedFunctions):
    """All live jobs, by number and by function.

    The handle of a job is ``prefix:number``, with numbers from ``first``. To never reuse one after
    a restart, start above all earlier numbers (a clock will do).
    ``wakeup`` is how many sleeping workers a new job wakes; 0 wakes all that have its function.
    ``next_event`` is the next time at which something is due (it may be too early), or inf.
    ``progress`` is what running jobs last reported, as (numerator, denominator); few report
    anything. ``failed`` keeps background jobs that failed for good, and ``results`` the results of
    others, if they are kept. If ``durable``, background jobs
    are stored, and ``changes`` collects what the store has to do. They may be assigned until
    ``lease``, by the store's clock; then they are withheld until ``extend`` extends it.
    """

    __slots__ = (
        *("_due", "_foreign_handles", "_number", "_prefix", "_rotate", "_time_limits"),
        *("_withheld", "adopted", "changes", "demand", "durable", "failed", "jobs", "lease"),
        *("lease_over", "progress", "results", "schedules", "uniques"),
    )

    def __init__(
        self,
        prefix: bytes = b"H:localhost",
        *,
        first: int = 1,
        function_first: bool = False,
        rotate: bool = True,
        wakeup: int = 1,
        durable: bool = False,
        failed: FailedJobs | None = None,
        results: KeptResults | None = None,
    ) -> None:
        super().__init__(wakeup, function_first=function_first)
        self._prefix = prefix + b":"
        self._number = first
        self._rotate = rotate
        self.durable = durable
        self.changes = PendingChanges()
        self.lease = inf
        self.lease_over = False
        self.jobs = JobTable()
        self.failed = FailedJobs() if failed is None else failed
        self.demand = Demand(self.restrictions)
        self.results = results
        self.schedules = Schedules()
        self.uniques = Uniques()
        self.progress: dict[BrokerJob, tuple[bytes, bytes]] = {}
        self._time_limits = TimeLimits()
        self._due: list[tuple[float, int]] = []  # when epoch jobs are due, by the time of day
        self._withheld: list[BrokerJob] = []
        self.adopted = AdoptedJobs()
        self._foreign_handles = ForeignHandles()  # of jobs whose numbers are below 0

    def handle(self, job: BrokerJob) -> bytes:
        """The handle of a job, by which clients and workers know it."""
        number = job.number
        return self._prefix + b"%d" % number if number >= 0 else self._foreign_handles[number]

    def job(self, handle: bytes) -> BrokerJob | None:
        """The live job with this handle."""
        number = self._foreign_handles.numbers.get(handle)
        if number is not None:
            return self.jobs.get(number)
        prefix, digits = handle[: len(self._prefix)], handle[len(self._prefix) :]
        if prefix != self._prefix or not digits.isdigit() or digits[:1] == b"0":
            return None
        return self.jobs.get(int(digits[:20]))

    def enter(self, job: BrokerJob, key: Key | None, now: float) -> None:
        """Add a new job and number it; later submissions with this key join it."""
        job.since = now
        job.function.counts.accepted += 1
        job.number = self._number
        self.jobs.add(job)
        self._number += 1
        if key and self.uniques.setdefault(key, job) is not job:
            self.uniques.add(key, job)

    def next_number(self) -> int:
        """A number that no job has had."""
        self._number += 1
        return self._number - 1

    def extend(self, lease: float, now: float) -> None:
        """Allow stored jobs to be assigned until ``lease``."""
        self.lease = lease
        self.lease_over = False
        withheld, self._withheld = self._withheld, []
        for job in withheld:
            if self._is_set_aside(job):
                job.function.scheduled -= 1
                self._queue_job(job, now)

    def withhold_stored(self) -> None:
        """Stop assigning stored jobs: they may belong to another server by now."""
        self.lease_over = True
        for function in [*self.loaded, *self.restrictions.loaded]:
            self._withheld += function.withdraw(self.changes.replies)

    def _queue_job(self, job: BrokerJob, now: float) -> None:
        """Queue a job, or withhold it if it is stored and the lease is over, and wake a worker."""
        function = job.function
        if self.lease_over and job.background and job not in self.changes.replies:
            function.scheduled += 1
            self._withheld.append(job)
        else:
            function.push(job)
            self.wake(function, now)

    def hold(self, job: BrokerJob, due: float) -> None:
        """Have a new job stored; it is not assigned before that is done."""
        job.function.scheduled += 1
        self.changes.add(job, due)

    def admit(self, job: BrokerJob, due: float, now: float) -> None:
        """Queue a job that was held, now or when it is due."""
        function = job.function
        function.scheduled -= 1
        if due > 0:
            self.add_later(job, due)
        else:
            self._queue_job(job, now)

    def withhold(self, job: BrokerJob) -> None:
        """Take a queued job out of its queue until `release` is called for it."""
        job.function.drop(job)
        job.function.scheduled += 1
        job.since += 0.0  # another object: see gearman_py.broker.copy_ahead

    def release(self, job: BrokerJob, now: float) -> None:
        """Queue a withheld job again, unless it has ended or been queued since."""
        if self._is_set_aside(job) and not (self.lease_over and job.background):
            job.function.scheduled -= 1
            self._queue_job(job, now)

    def _is_set_aside(self, job: BrokerJob) -> bool:
        return self.jobs.get(job.number) is job and not job.queued and job.worker is None

    def add_later(self, job: BrokerJob, due: float) -> None:
        """Schedule a job that must not run before ``due`` (seconds since 1970)."""
        job.function.scheduled += 1
        job.since = due
        heappush(self._due, (due, job.number))
        self.next_event = -inf  # only tick() knows the time of day

    def take(self, worker: Peer, now: float) -> tuple[bytes, BrokerJob] | None:
        """Assign the next job to this worker; return the handle and the job, or None."""
        if self.lease < inf and not self.lease_over and lease_clock() >= self.lease:
            self.withhold_stored()
        if self.choosy:
            job = self.take_allowed(worker, now)
        elif self._function_first:
            job = self._by_function(worker)
        else:
            job = self._by_priority(worker)
        if job is None:
            return None
        function = job.function
        if self._rotate and len(worker.turns) > 1:
            self.turn += 1
            worker.turns[function] = self.turn
        function.counts.waits.append(now - job.since)
        job.since = now
        function.running += 1
        job.worker = worker
        number = job.number
        handle = self._prefix + b"%d" % number if number >= 0 else self._foreign_handles[number]
        worker.running[handle] = job
        if self.durable and job.background:
            self.changes.deliver(job)
        limit = worker.abilities[function]
        if limit is not None:
            deadline = now + limit
            self._time_limits.start(job, deadline)
            if self.next_event > deadline:
                self.next_event = deadline
        return handle, job

    def shrink(self) -> None:
        """Free the memory of removed keys, which a dict keeps."""
        self.uniques.shrink()
        if is_sparse(self.functions):
            self.functions = dict(self.functions)

    def _by_priority(self, worker: Peer) -> BrokerJob | None:
        if not self.loaded:
            return None
        turns, best = worker.turns, None
        if len(turns) == 1:  # the common case
            (function,) = turns
            high, normal, low = function.waiting
            if normal and not high:
                return function.pop(NORMAL)
            return function.pop(HIGH if high else LOW) if high or low else None
        first = len(PRIORITIES), 0
        for function in self.candidates(worker):
            high, normal, low = function.waiting
            priority = HIGH if high else NORMAL if normal else LOW if low else None
            if priority is not None and (place := (priority, turns[function])) < first:
                first, best = place, function
        return best.pop(first[0]) if best else None

    def _by_function(self, worker: Peer) -> BrokerJob | None:
        loaded = [function for function in self.candidates(worker) if function in self.loaded]
        if not loaded:
            return None
        function = min(loaded, key=worker.turns.__getitem__)
        return function.pop(function.first_priority)

    def interrupt(self, job: BrokerJob, now: float) -> None:
        """Take a running job away from its worker."""
        if job.worker:
            job.function.counts[counts.INTERRUPTED] += 1
            self.finish(job.worker, self.handle(job), now, erase=False)

    def give_back(self, job: BrokerJob, now: float, due: float = 0.0) -> None:
        """Put a job that its worker lost at the end of its queue, now or when it is due."""
        self.interrupt(job, now)
        job.retries += 1
        job.since = now
        # One that was joined in the background a moment ago has no record to be rewritten yet.
        if due > 0 and job.background and job not in self.changes.replies:
            if self.durable:
                self.changes.postpone(job, due)
            self.add_later(job, due)
        else:
            self._queue_job(job, now)

    def finish(
        self, worker: Peer, handle: bytes, now: float, erase: bool = True
    ) -> BrokerJob | None:
        """End a worker's job, and with ``erase`` forget it; None if the worker lacks it."""
        job = worker.running.pop(handle, None)
        if job is not None:
            function = job.function
            function.running -= 1
            function.counts.runs.append(now - job.since)
            job.worker = None
            if not function.plain:
                self.note_ended(job, now)
            if self._time_limits:
                self._time_limits.pop(job, None)
            if self.progress:
                self.progress.pop(job, None)
            if erase:
                self.erase(job)
        return job

    def forget(self, job: BrokerJob, now: float) -> None:
        """Forget a job that was cancelled or abandoned, in whichever state it is."""
        if job.worker:
            job.function.counts[counts.INTERRUPTED] += 1
            self.finish(job.worker, self.handle(job), now)
            return
        job.function.drop(job)
        self.erase(job)

    def erase(self, job: BrokerJob, *, stored: bool = False) -> None:
        """Forget a job that is in no queue and does not run; what is ``stored`` of it stays."""
        self.jobs.remove(job)
        key = job.unique if job.unique != b"-" else job.key
        if key:
            uniques = self.uniques
            if uniques.get(key) is job:
                del uniques[key]
            else:
                uniques.discard(key, job)
        if not job.function.workers:
            self.disuse(job.function)
        for client in job.clients:
            client.waiting.discard(job)
        if job.number < 0:
            self._foreign_handles.remove(job.number)
        if self.durable and job.background and not stored:
            self.changes.remove(job.number)

    def expired(self, now: float) -> list[BrokerJob]:
        """The running jobs that are over their time limit; if they are many, a part of them."""
        return self._time_limits.expired(self.jobs, now)

    def release_due(self, now: float, wall: float) -> None:
        """Queue the jobs that are due (if they are many, a part of them), and wake the next
        worker where one did not come."""
        entries = self.adopted.take_some(SLICE)
        while len(entries) < SLICE and self._due and self._due[0][0] <= wall:
            entries.append(heappop(self._due))
        for entry in entries:
            job = self.find_scheduled(*entry)
            if job is not None:
                job.function.scheduled -= 1
                job.since = now
                self._queue_job(job, now)
        self.wake_again(now)

    def find_scheduled(self, due: float, number: int) -> BrokerJob | None:
        """The job of an entry among the ``_due``; None if it has ended or is due at another time.

        While a job waits for its time, ``since`` is when it is due.
        """
        job = self.jobs.get(number)
        if job is None or job.since != due or job.queued or job.worker is not None:
            return None
        return job

    def plan(self, now: float, wall: float) -> float:
        """Compute ``next_event`` again, and return it."""
        events = [self._time_limits.next_deadline(), *self.next_wakeups(now)]
        if self._due:
            events.append(now + min(self._due[0][0] - wall, LOOK_AGAIN))
        if self.adopted:
            events.append(now)
        self.next_event = min(events)
        return self.next_event
