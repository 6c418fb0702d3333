"""The text commands that move background jobs to another server, for operators.

While an operator moves jobs, no job is assigned, so that none runs here and there. This ends when
none is left to move, or with the operator's connection.
"""

from base64 import b64encode
from collections.abc import Generator, Iterator, Sequence

from gearman_py.broker import counts
from gearman_py.broker.queues import Queues
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Function, Peer
from gearman_py.protocol.text import OK, error

# An answer has at most this many jobs, or this many bytes of workloads and one job.
MAX_JOBS = 500
MAX_BYTES = 8 * 2**20


def move_jobs(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes | None]:
    """``move jobs`` lists the first that can be moved, ``move job HANDLE`` forgets one that was."""
    match [words[1].lower() if words[1:] else b"", *words[2:]]:
        case [b"jobs"]:
            return _list_jobs(broker, peer)
        case [b"job", handle]:
            job = broker.queues.job(handle)
            if job is None or job.worker is not None:
                return error(b"UNKNOWN_JOB")
            broker.fail(job, counts.MOVED)
            return OK
        case _:
            return error(b"INVALID_ARGUMENTS", b"expected move jobs, or move job HANDLE")


def _list_jobs(broker: Rules, peer: Peer) -> bytes | Iterator[bytes | None]:
    if broker.queues.closed and broker.mover is not peer:
        return error(b"BUSY", b"another connection moves jobs, or the server stops")
    broker.begin_moving(peer)
    return _format_jobs(broker, peer)


def _format_jobs(broker: Rules, peer: Peer) -> Iterator[bytes | None]:
    """The rows of the first jobs that can be moved; None for each job that was looked at."""
    queues = broker.queues
    jobs = yield from _first_jobs(queues)
    due = yield from find_due_times(queues, jobs)
    found = False
    for job in jobs:
        if queues.jobs.get(job.number) is job:  # it was not cancelled meanwhile
            found = True
            yield _format_job(queues.handle(job), job, due.get(job.number, 0))
    if not found:
        broker.end_moving(peer)


def find_due_times(
    queues: Queues, jobs: Sequence[BrokerJob]
) -> Generator[None, None, dict[int, float]]:
    """When those that are not due yet are (seconds since 1970), by number.

    Yields None for each scheduled job that was looked at.
    """
    scheduled = {job.number for job in jobs if not job.queued}
    found = {}
    for due, number in list(queues._due) if scheduled else ():
        if number in scheduled and queues.find_scheduled(due, number):
            found[number] = due
        yield None
    return found


def _first_jobs(queues: Queues) -> Generator[None, None, list[BrokerJob]]:
    """Waiting background jobs that are acknowledged, in the order of their submission.

    Yields None for each job that was looked at.
    """
    jobs: list[BrokerJob] = []
    size = 0
    for job in queues.jobs:
        if job.background and job.worker is None and job not in queues.changes.replies:
            jobs.append(job)
            size += len(job.workload)
            if len(jobs) >= MAX_JOBS or size > MAX_BYTES:
                break
        yield None
    return jobs


def _format_job(handle: bytes, job: BrokerJob, due: float) -> bytes:
    """Handle, priority, due time, and in Base64 function, unique, reducer and workload."""
    data = job.function.name, job.unique, job.reducer, job.workload
    return b"\t".join([handle, b"%d" % job.priority, b"%d" % due, *map(b64encode, data)])


def is_moved(broker: Rules) -> bool:
    """Whether no job is left that would be lost if the server stopped now.

    A foreground job that no worker here can do, or that may not start, is not waited for.
    """
    return not any(
        job.background or job.worker or _may_start(job.function) for job in broker.queues.jobs
    )


def _may_start(function: Function) -> bool:
    return bool(function.workers) and not function.paused
