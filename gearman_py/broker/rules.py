"""What peers, the clock and the store do to jobs.

The handlers of packets and text commands (clients, workers, commands) build on these rules.
"""

from collections import deque
from collections.abc import Callable
from math import inf

from gearman_py.broker import counts
from gearman_py.broker.failed_jobs import MAX_REASON, FailedJob, make_failed_record
from gearman_py.broker.limits import MAX_TIMEOUTS, SLICE
from gearman_py.broker.lost_jobs import LostJobs
from gearman_py.broker.outbox import explain_refusal
from gearman_py.broker.pending_changes import CommitGroup
from gearman_py.broker.queues import Queues
from gearman_py.broker.restriction_records import RECORD_NAME, make_record
from gearman_py.broker.schedules import (
    SCHEDULE_NAME,
    NextRun,
    parse_schedule_record,
    without_schedules,
)
from gearman_py.broker.state import BrokerJob, Function, Peer
from gearman_py.broker.stored_jobs import keep_failed
from gearman_py.protocol import text as text_protocol
from gearman_py.protocol.codec import response
from gearman_py.protocol.numbers import MAX_EPOCH
from gearman_py.protocol.packets import Packet

# Why an attempt ended, for those that read about a failed job.
LOST = {
    counts.DISCONNECTED: b"its worker died",
    counts.TIMEOUT: b"it exceeded its time limit",
    counts.UNREGISTERED: b"its worker gave up the function",
}
EXPIRY_INTERVAL = 3600.0  # seconds, at most, between two looks at the oldest failed jobs
NOT_KEPT = text_protocol.error(b"QUEUE_ERROR", b"in effect, but it could not be stored: try again")


class Rules:
    """All peers, all jobs, and the rules between them.

    ``queues`` holds the jobs and assigns them. ``job_retries`` is how often a job may be tried,
    -1 for no limit (gearmand --job-retries). ``exceptions``: send WORK_EXCEPTION to every client,
    whether it asked for it or not. ``version`` and ``log_level`` are the answers to the text
    commands version and verbose. ``restricted``: only operators may change queues by text
    commands. ``on_shutdown`` is called when an operator asks for a shutdown, with whether to
    finish the jobs first; ``on_moved``, when the server is to stop as all jobs were moved.
    ``on_change`` is called with each text command that changed something.
    ``time_of_day``: seconds since 1970, for records of what happened. ``next_run``: see NextRun.
    ``describe`` says what else the server is, ``name_peer`` who a peer is. ``mover``: an operator
    moves jobs. ``stopping``: none is given out any more. ``draining``: clients are to leave; if an
    operator, until that one has left. ``dirty`` has the peers with something to send.
    """

    def __init__(
        self,
        queues: Queues | None = None,
        *,
        job_retries: int = -1,
        exceptions: bool = False,
        version: str = "",
        log_level: str = "WARNING",
        restricted: bool = False,
        on_shutdown: Callable[[bool], None] | None = None,
        on_moved: Callable[[], None] | None = None,
        time_of_day: Callable[[], float] = lambda: 0.0,
        next_run: NextRun = without_schedules,
        on_change: Callable[[Peer, bytes], None] = lambda peer, command: None,
    ) -> None:
        self.queues = queues or Queues()
        self.time_of_day = time_of_day
        self.next_run = next_run
        self.on_change = on_change
        self.peers: dict[Peer, None] = {}
        self.dirty: list[Peer] = []
        self.version = version
        self.log_level = log_level
        self.now = 0.0
        self.restricted = restricted
        self.on_shutdown = on_shutdown
        self.on_moved = on_moved
        self.describe: Callable[[], dict[str, str]] | None = None
        self.name_peer: Callable[[Peer], str] = lambda peer: peer.address
        self.mover: Peer | None = None
        self.draining: Peer | bool = False
        self.drain_began, self.stopping = 0.0, False
        self.on_drain: Callable[[], object] = lambda: None
        self._job_retries = job_retries
        self._exceptions = exceptions
        self.lost_jobs = LostJobs(self.queues, self.lost)
        self._deserted: deque[Peer] = deque()  # gone, but still among the clients of jobs

    # What the server calls.

    def join(
        self, number: int, address: str, *, operator: bool = False, now: float | None = None
    ) -> Peer:
        """Add the peer of a new connection: its file descriptor and address."""
        peer = Peer(number, address, self.dirty.append, operator=operator)
        peer.since = self.now if now is None else now
        peer.exceptions = self._exceptions
        self.peers[peer] = None
        return peer

    def gone(self, peer: Peer, now: float) -> None:
        """Remove the peer of a lost connection: its running jobs go back to their queues."""
        self.now = now
        del self.peers[peer]
        self.end_moving(peer)
        self.draining = self.draining is not peer and self.draining
        peer.listing = None
        self._deserted.append(peer)
        self._abandon_jobs()
        self.queues.remove_worker(peer, now)
        self.lost_jobs.add(peer.running.values(), counts.DISCONNECTED)

    def tick(self, now: float, wall: float) -> float:
        """Do what is due now; return the time at which something is due next, or inf.

        ``wall`` is the time of day (seconds since 1970), which epoch jobs go by; time limits go
        by ``now``.
        """
        self.now = now
        queues = self.queues
        for job in queues.expired(now):
            if job.worker is not None:
                job.worker.remember_overdue(queues.handle(job))
            job.function.counts[counts.TIMED_OUT] += 1
            self.lost(job, counts.TIMEOUT, most=0 if job.background else MAX_TIMEOUTS)
        queues.release_due(now, wall)
        queues.unregister_gone(now)
        self._abandon_jobs()
        self.lost_jobs.give_back_some()
        queues.plan(now, wall)
        self._expire_kept(wall)
        if self._deserted or self.lost_jobs:
            queues.next_event = now
        return queues.next_event

    def _expire_kept(self, wall: float) -> None:
        """Forget failed jobs and results that have been kept long enough."""
        queues, soon = self.queues, inf
        for kept in (queues.failed, queues.results):
            if kept:
                for each in kept.expire(wall):
                    self.forget_kept(each.number)
                soon = min(soon, kept.next_expiry(wall))
        if soon < inf:
            queues.next_event = min(queues.next_event, self.now + min(soon, EXPIRY_INTERVAL))

    def _abandon_jobs(self) -> None:
        """Remove peers that are gone from the jobs they waited for: a part of them at a time."""
        for _ in range(SLICE):
            while self._deserted and not self._deserted[0].waiting:
                self._deserted.popleft()
            if not self._deserted:
                return
            peer = self._deserted[0]
            job = peer.waiting.pop()
            job.clients = tuple(client for client in job.clients if client is not peer)
            if not job.clients and not job.background and job.worker is None:
                self._discard(job, counts.DROPPED)
        self.queues.next_event = -inf

    def stored(self, group: CommitGroup, now: float) -> None:
        """A group is stored: acknowledge its jobs and queue them."""
        self.now = now
        self._settle_group(group, b"")

    def awaiting(self, group: CommitGroup) -> set[Peer]:
        """The peers that wait for the answers of a group."""
        pending = self.queues.changes.replies
        return {reply.peer for job, _ in group.jobs for reply in pending.get(job, ())}

    def refused(self, group: CommitGroup, why: str, now: float) -> None:
        """A group could not be stored, no part of it: drop its jobs and answer with ERROR.

        A job that a client waits for goes on as a foreground job.
        """
        self.now = now
        self._settle_group(group, f"the job could not be stored: {why}".encode())
        self.queues.changes.put_back(group.changes)

    def _settle_group(self, group: CommitGroup, error: bytes) -> None:
        queues = self.queues
        answered: dict[Peer, None] = {}
        ready = []
        for job, due in group.jobs:
            is_record = job.function.name in (RECORD_NAME, SCHEDULE_NAME)
            in_effect = is_record or queues.changes.retried.get(job, job) is None
            for reply in queues.changes.replies.pop(job):
                reply.settled = True
                if error:
                    refusal = explain_refusal(reply.pieces[0], error)
                    reply.replace(NOT_KEPT if in_effect else refusal)
                answered[reply.peer] = None
            if is_record and not error:
                for obsolete in self._find_obsolete(job):
                    queues.changes.remove(obsolete)
            retried = queues.changes.retried.pop(job, None)
            if queues.jobs.get(job.number) is not job:
                continue  # it was cancelled
            if error and retried:
                self._fail_again(job, retried)
                continue
            job.background = not error
            if error and not job.clients and job.worker is None:
                self._discard(job, counts.NOT_STORED)
            elif job.queued:  # it was a foreground job before
                if queues.lease_over:
                    queues.withhold_stored()
            elif job.worker is None:
                ready.append((job, due))
        for peer in answered:
            peer.release()
        for job, due in ready:
            queues.admit(job, due, self.now)

    def _find_obsolete(self, record: BrokerJob) -> list[int]:
        """The numbers of the records that are no longer needed, as this one is stored."""
        if record.function.name == RECORD_NAME:
            return self.queues.restrictions.records.note_stored(record)
        return [record.number] if parse_schedule_record(record).deleted else []

    def keep_restrictions(self, peer: Peer, function: Function) -> None:
        """Answer OK once the restrictions of a function are stored, if the queue is durable."""
        queues = self.queues
        if not queues.durable:
            return peer.send(text_protocol.OK)
        job = make_record(function, queues.next_number(), queues.restrictions.pauses)
        queues.changes.add(job)
        return queues.changes.replies[job].append(peer.defer(text_protocol.OK))

    def keep(self, failed: FailedJob) -> None:
        """Keep a failed job, for as long as there is room for it."""
        if self.queues.durable:
            self.queues.changes.rewrite(make_failed_record(failed))
        keep_failed(self.queues, failed)

    def forget_kept(self, number: int) -> None:
        """A failed job or a result is no longer kept."""
        if self.queues.durable:
            self.queues.changes.remove(number)

    def _fail_again(self, job: BrokerJob, failed: FailedJob) -> None:
        """It could not be stored that a failed job is to run again."""
        self.tell(job, response(Packet.WORK_FAIL, failed.handle))
        job.function.counts[counts.NOT_STORED] += 1
        job.function.scheduled -= 1
        self.keep(failed)
        self.queues.erase(job, stored=True)

    def cancel(self, handle: bytes) -> bool:
        """End a job for an operator: its clients get WORK_FAIL, and the result is refused."""
        job = self.queues.job(handle)
        if job is None:
            return False
        self.fail(job, counts.CANCELLED)
        return True

    def close(self) -> None:
        """Stop assigning jobs for good."""
        self.mover, self.stopping = None, True
        self.queues.close()

    # What the handlers do.

    def begin_moving(self, peer: Peer) -> None:
        """Assign no jobs while an operator moves them."""
        self.mover = peer
        self.queues.close()

    def end_moving(self, peer: Peer) -> None:
        """Assign jobs again, if it was this operator who moved them."""
        if self.mover is peer:
            self.mover = None
            self.queues.reopen(self.now)

    def lost(self, job: BrokerJob, why: str, most: int = 0) -> None:
        """A worker lost a running job: it died, exceeded the time limit or gave the function up.

        The job fails after ``most`` attempts, or after as many as --job-retries allows.
        """
        if not job.clients and not job.background:
            self._discard(job, counts.DROPPED)
        elif self._is_last_attempt(job, most):
            self._give_up(job, LOST[why])
        else:
            job.function.counts[why] += 1
            self.queues.give_back(job, self.now)

    def postpone(self, job: BrokerJob, seconds: float, reason: bytes) -> None:
        """A worker gives a running job back, to be tried again after a delay.

        It fails, for this reason if it is not empty, if --job-retries allows no more attempts.
        """
        if not job.clients and not job.background:
            self._discard(job, counts.DROPPED)
        elif self._is_last_attempt(job):
            self._give_up(job, reason or b"its worker gave it back")
        else:
            job.function.counts[counts.POSTPONED] += 1
            due = min(self.time_of_day() + seconds, MAX_EPOCH) if seconds > 0 else 0.0
            self.queues.give_back(job, self.now, due)

    def _is_last_attempt(self, job: BrokerJob, most: int = 0) -> bool:
        return 0 <= self._job_retries <= job.retries + 1 or 0 < most <= job.retries + 1

    def _give_up(self, job: BrokerJob, reason: bytes) -> None:
        """A running job has been attempted as often as is allowed."""
        self.tell(job, response(Packet.WORK_FAIL, self.queues.handle(job)))
        worker = job.worker
        self.queues.interrupt(job, self.now)
        self.end_failed(job, worker, counts.ATTEMPTS, reason)

    def end_failed(self, job: BrokerJob, worker: Peer | None, why: str, reason: bytes) -> None:
        """End a job that has failed for good and is in no queue; keep it, if in the background."""
        queues = self.queues
        job.function.counts[why] += 1
        kept = bool(job.background and queues.failed.most)
        if kept:
            self.keep(
                FailedJob(
                    *(job.number, queues.handle(job), job.function.name, job.unique),
                    *(job.priority, job.reducer, job.workload, job.retries + 1),
                    self.time_of_day(),
                    worker.address if worker else "",
                    worker.client_id if worker else b"-",
                    reason[:MAX_REASON],
                )
            )
        queues.erase(job, stored=kept)

    def fail(self, job: BrokerJob, why: str) -> None:
        """End a job; its clients are told that it failed."""
        self.tell(job, response(Packet.WORK_FAIL, self.queues.handle(job)))
        self._discard(job, why)

    def _discard(self, job: BrokerJob, why: str) -> None:
        job.function.counts[why] += 1
        self.queues.forget(job, self.now)

    def tell(self, job: BrokerJob, data: bytes, workload: bytes = b"") -> None:
        """Send a packet for each submission that waits for the job: one client may have several."""
        for client in job.clients:
            client.send(data, workload)
