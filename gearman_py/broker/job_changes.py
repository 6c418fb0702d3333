"""The text commands that change when a waiting job runs, which the C server does not have.

prioritize job HANDLE PRIORITY   high, normal or low
reschedule job HANDLE SECONDS    do not run it before then (seconds since 1970)
reschedule job HANDLE now        it is due, and the next one of its priority

With a durable queue the answer waits until the change is stored.
"""

import re
from collections.abc import Sequence
from copy import copy

from gearman_py.broker.queues import Queues
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import HIGH, LOW, NORMAL, BrokerJob, Peer
from gearman_py.protocol.numbers import MAX_EPOCH
from gearman_py.protocol.text import OK, error

PRIORITIES = {b"high": HIGH, b"normal": NORMAL, b"low": LOW}
NOW = b"now"


def prioritize(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    match [words[1].lower() if words[1:] else b"", *words[2:]]:
        case [b"job", handle, name] if (priority := PRIORITIES.get(name.lower())) is not None:
            job = broker.queues.job(handle)
            if job is None:
                return error(b"UNKNOWN_JOB")
            if why := _refuses(broker.queues, job):
                return error(b"QUEUE_ERROR", why)
            if job.queued:
                job = _take_out(broker.queues, job)
                job.priority = priority
                job.function.push(job)
            else:
                job.priority = priority
            return _answer_stored(broker, peer, job)
        case _:
            return error(b"INVALID_ARGUMENTS", b"expected prioritize job HANDLE high|normal|low")


def reschedule(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    match [words[1].lower() if words[1:] else b"", *words[2:]]:
        case [b"job", handle, when] if (due := _parse_time(when)) is not None:
            job = broker.queues.job(handle)
            if job is None:
                return error(b"UNKNOWN_JOB")
            if why := _refuses(broker.queues, job):
                return error(b"QUEUE_ERROR", why)
            if due and not job.background:
                return error(b"QUEUE_ERROR", b"only background jobs wait for their time")
            return _answer_stored(broker, peer, _wait_until(broker, job, due))
        case _:
            text = b"expected reschedule job HANDLE now, or SECONDS since 1970"
            return error(b"INVALID_ARGUMENTS", text)


def _parse_time(text: bytes) -> float | None:
    """Seconds since 1970; 0: now. None: it is not a time."""
    if text.lower() == NOW:
        return 0.0
    if not re.fullmatch(rb"\d{1,12}(\.\d{1,6})?", text):
        return None
    return min(float(text), MAX_EPOCH) or None


def _refuses(queues: Queues, job: BrokerJob) -> bytes:
    """Why a job cannot be changed now; empty: it can."""
    if job.worker is not None:
        return b"the job runs"
    if job in queues.changes.replies:
        return b"the job is not stored yet"
    if queues.lease_over and job.background:
        return b"another server may have the job by now"
    if not (job.queued or job.background):
        return b"the job is held back, as its client does not read"
    return b""


def _wait_until(broker: Rules, job: BrokerJob, due: float) -> BrokerJob:
    """Have a waiting job wait for a time, or be the next one; return what takes its place."""
    queues, function = broker.queues, job.function
    if job.queued:
        job = _take_out(queues, job)
    else:
        function.scheduled -= 1
    if due:
        queues.add_later(job, due)
    else:
        job.since = broker.now
        function.push_first(job)
        queues.wake(function, broker.now)
    return job


def _take_out(queues: Queues, job: BrokerJob) -> BrokerJob:
    """Take a job out of its queue, which may skip its place later; return what takes its place."""
    job.function.drop(job)
    new = copy(job)
    queues.jobs.replace(new)
    if key := new.key:
        queues.uniques.replace(key, job, new)
    for client in new.clients:
        client.waiting.discard(job)
        client.waiting.add(new)
    return new


def _answer_stored(broker: Rules, peer: Peer, job: BrokerJob) -> bytes | None:
    if not (broker.queues.durable and job.background):
        return OK
    due = 0.0 if job.queued else job.since
    broker.queues.changes.change(job, due).append(peer.defer(OK))
    return None
