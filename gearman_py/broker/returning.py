"""A draining server gives clients' jobs back, so that they submit them to another server.

A client asks for this with the option ``resubmits``. It is sent WORK_RETRY for each of its jobs
that waits here, and at last one with an empty handle: whatever it has submitted since its last
JOB_CREATED was not accepted, and the connection is closed.
"""

from heapq import nsmallest

from gearman_py.broker import counts
from gearman_py.broker.limits import SLICE
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Peer
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet

_REASON = b"the job server is being drained"
FAREWELL = response(Packet.WORK_RETRY, b"", b"0", _REASON)


def drain(broker: Rules, now: float, until: Peer | None = None) -> None:
    """Have clients leave for other servers: for good, or while this operator is connected."""
    if not broker.draining:
        broker.drain_began = now
    if broker.draining is not True:
        broker.draining = until or True
        broker.on_drain()


def may_stay(broker: Rules, peer: Peer) -> bool:
    """Whether a client has come back to a draining server: it knows no other, as far as can be
    told, and would be closed again and again."""
    # Clocks of event loops are coarse: it may be back in the same millisecond.
    return peer.since >= broker.drain_began and not peer.resubmits


def return_jobs(broker: Rules, peer: Peer) -> None:
    """Give a client the first of its jobs back that do not run; most often these are all.

    One that others wait for too stays here as well; one that is in the background stays here only.
    """
    queues = broker.queues
    waiting = (job for job in peer.waiting if job.worker is None and not job.background)
    for job in nsmallest(SLICE, waiting, key=_job_number):
        packet = response(Packet.WORK_RETRY, queues.handle(job), b"0", _REASON)
        for client in job.clients:
            if client is peer:  # once for each of its submissions
                peer.send(packet)
        job.clients = tuple(client for client in job.clients if client is not peer)
        peer.waiting.discard(job)
        if not job.clients:
            job.function.counts[counts.MOVED] += 1
            queues.forget(job, broker.now)


def _job_number(job: BrokerJob) -> int:
    return job.number


def is_settled(peer: Peer) -> bool:
    """Whether a client is owed nothing: no result, no answer, and no part of a listing."""
    return not (peer.waiting or peer.owed or peer.deferred or peer.listing)
