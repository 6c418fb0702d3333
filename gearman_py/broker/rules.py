"""What happens to jobs when peers, workers, clocks and the store do something.

The handlers of packets and commands (clients, workers, commands) are written in these terms.
"""

from collections import deque
from collections.abc import Callable
from math import inf

from gearman_py.broker import counts
from gearman_py.broker.limits import MAX_TIMEOUTS, SLICE
from gearman_py.broker.pending_changes import CommitGroup
from gearman_py.broker.queues import Queues
from gearman_py.broker.state import BrokerJob, Peer
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet


class Rules:
    """All peers, all jobs, and the rules between them.

    ``queues`` holds the jobs and decides who is given which. ``job_retries``: how often a job
    may be attempted, -1 for ever (gearmand --job-retries). ``exceptions``: every client is
    sent WORK_EXCEPTION, asked for or not. ``version`` and ``log_level`` are what the text
    commands version and verbose answer. ``restricted``: only operators may change queues by
    text commands. ``on_shutdown`` is called when an operator asks for it, with whether the
    jobs are to be done first. ``dirty``: the peers whose outboxes hold something.
    ``packets``: how many were received.
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
    ) -> None:
        self.queues = queues or Queues()
        self.peers: dict[Peer, None] = {}
        self.dirty: list[Peer] = []
        self.version = version
        self.log_level = log_level
        self.now = 0.0
        self.packets = 0
        self.restricted = restricted
        self.on_shutdown = on_shutdown
        self._job_retries = job_retries
        self._exceptions = exceptions
        self._deserted: deque[Peer] = deque()  # gone, and still to be taken from what they awaited

    # The doors.

    def join(self, number: int, address: str, *, operator: bool = False) -> Peer:
        """A connection came in: its file descriptor and where from."""
        peer = Peer(number, address, self.dirty.append, operator=operator)
        peer.exceptions = self._exceptions
        self.peers[peer] = None
        return peer

    def gone(self, peer: Peer, now: float) -> None:
        """A connection is lost: its jobs go back to their queues, what it waited for ends."""
        self.now = now
        del self.peers[peer]
        peer.listing = None
        self._deserted.append(peer)
        self._abandon_jobs()
        running = list(peer.running.values())
        self.queues.remove_worker(peer, now)
        for job in running:
            self.lost(job, counts.DISCONNECTED)

    def tick(self, now: float, wall: float) -> float:
        """Do what is due by now; return when something is due next (inf: nothing is).

        ``wall`` is the time of day (seconds since 1970): epoch jobs go by it, time limits
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
        following = queues.plan(now, wall)
        if self._deserted:
            following = queues.next_event = now
        return following

    def _abandon_jobs(self) -> None:
        """Take the peers that are gone from the jobs they waited for: a slice of them."""
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
        """The store has done it: its jobs are acknowledged, and workers may have them."""
        self.now = now
        self._settle_group(group, b"")

    def awaiting(self, group: CommitGroup) -> set[Peer]:
        """Who waits for the answers of a group."""
        pending = self.queues.changes.replies
        return {reply.peer for job, _ in group.jobs for reply in pending.get(job, ())}

    def refused(self, group: CommitGroup, why: str, now: float) -> None:
        """The store could not, and has kept nothing of it: nor does anything here.

        A job that somebody waits for goes on in the foreground.
        """
        self.now = now
        text = f"the job could not be stored: {why}".encode()
        self._settle_group(group, response(Packet.ERROR, b"QUEUE_ERROR", text))
        self.queues.changes.put_back(group.changes)

    def _settle_group(self, group: CommitGroup, error: bytes) -> None:
        queues = self.queues
        answered: dict[Peer, None] = {}
        ready = []
        if error:
            self.queues.counts.refusals[counts.NOT_STORED] += len(group.jobs)
        for job, due in group.jobs:
            for reply in queues.changes.replies.pop(job):
                reply.settled = True
                if error:
                    reply.replace(error)
                answered[reply.peer] = None
            if queues.jobs.get(job.number) is not job:
                continue  # it was cancelled
            job.background = not error
            if error and not job.clients and job.worker is None:
                self._discard(job, counts.NOT_STORED)
            elif job.queued:  # it was a foreground job until now
                if queues.lease_over:
                    queues.withhold_stored()
            elif job.worker is None:
                ready.append((job, due))
        for peer in answered:
            peer.release()
        for job, due in ready:
            queues.admit(job, due, self.now)

    def cancel(self, handle: bytes) -> bool:
        """An operator ends a job: its clients hear WORK_FAIL, its worker's result is refused."""
        job = self.queues.job(handle)
        if job is None:
            return False
        self._fail(job, counts.CANCELLED)
        return True

    # What the handlers do.

    def lost(self, job: BrokerJob, why: str, most: int = 0) -> None:
        """A worker lost a running job (died, ran out of time, gave the function up).

        It fails if it has been attempted ``most`` times, or as often as the operator allows.
        """
        if not job.clients and not job.background:
            self._discard(job, counts.DROPPED)
        elif 0 <= self._job_retries <= job.retries + 1 or 0 < most <= job.retries + 1:
            self._fail(job, counts.ATTEMPTS)
        else:
            job.function.counts[why] += 1
            self.queues.give_back(job, self.now)

    def _fail(self, job: BrokerJob, why: str) -> None:
        self.tell(job, response(Packet.WORK_FAIL, self.queues.handle(job)))
        self._discard(job, why)

    def _discard(self, job: BrokerJob, why: str) -> None:
        job.function.counts[why] += 1
        self.queues.forget(job, self.now)

    def tell(self, job: BrokerJob, data: bytes, workload: bytes = b"") -> None:
        """Send a packet for each submission that waits for the job, also two of one client."""
        for client in job.clients:
            client.send(data, workload)
