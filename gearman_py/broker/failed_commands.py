"""The text commands for failed jobs, which the C server does not have.

retry job HANDLE          queue a failed job again, under its handle
retry jobs [FILTER]...    the same for all that match; lists their handles
discard job HANDLE        forget a failed job
discard jobs [FILTER]...  the same for all that match; lists their handles

A filter is function=NAME, unique=KEY, reason=TEXT, all percent-encoded, or until=SECONDS: failed
until then (since 1970). An answer has at most MAX_AT_ONCE handles; if it has that many, there may
be more to ask for. ``jobs failed`` lists failed jobs, and ``job HANDLE`` shows one (job_listing).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from gearman_py.broker.failed_jobs import FailedJob
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Peer, coalesces_on
from gearman_py.broker.stored_jobs import restore_failed
from gearman_py.protocol.text import END, OK, error, parse_pairs, unescape_name

MAX_AT_ONCE = 1000
FILTERS = {b"function", b"unique", b"reason", b"until"}


def retry(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    match [words[1].lower() if words[1:] else b"", *words[2:]]:
        case [b"job", handle]:
            failed = broker.queues.failed.get(handle)
            if failed is None:
                return error(b"UNKNOWN_JOB")
            if why := _refuses(broker, failed):
                return error(b"QUEUE_ERROR", why)
            return _answer_stored(broker, peer, OK, _queue_again(broker, failed))
        case [b"jobs", *filters] if (pairs := parse_filters(filters)) is not None:
            queued: list[BrokerJob] = []
            for failed in find_failed(broker, pairs, oldest_first=True):
                if failed and len(queued) < MAX_AT_ONCE and not _refuses(broker, failed):
                    queued.append(_queue_again(broker, failed))
            rows = [broker.queues.handle(job) + b"\n" for job in queued]
            return _answer_stored(broker, peer, b"".join([*rows, END]), *queued[-1:])
        case _:
            return error(b"INVALID_ARGUMENTS", b"expected " + USAGE % {b"what": b"retry"})


def discard(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes | None]:
    match [words[1].lower() if words[1:] else b"", *words[2:]]:
        case [b"job", handle]:
            return OK if _discard(broker, handle) else error(b"UNKNOWN_JOB")
        case [b"jobs", *filters] if (pairs := parse_filters(filters)) is not None:
            return _discard_all(broker, pairs)
        case _:
            return error(b"INVALID_ARGUMENTS", b"expected " + USAGE % {b"what": b"discard"})


USAGE = (
    b"%(what)b job HANDLE, or %(what)b jobs with any of function=NAME, unique=KEY, reason=TEXT and "
    b"until=SECONDS"
)


def parse_filters(words: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """Which failed jobs are meant; None: the words do not say so."""
    pairs = parse_pairs(words)
    until = pairs.get(b"until", b"0") if pairs else b"0"
    if pairs is None or pairs.keys() - FILTERS or not re.fullmatch(rb"\d{1,12}(\.\d{1,6})?", until):
        return None
    return {key: unquote_to_bytes(value) for key, value in pairs.items() if value}


def find_failed(
    broker: Rules, pairs: Mapping[bytes, bytes], *, oldest_first: bool = False
) -> Iterator[FailedJob | None]:
    """The failed jobs that match, those that failed last first, and None for others."""
    function, unique, reason = (pairs.get(key) for key in (b"function", b"unique", b"reason"))
    until = float(pairs.get(b"until", b"inf"))
    if function is not None and not broker.queues.failed.count(function):  # as clients show it
        function = unescape_name(function)
    jobs = broker.queues.failed.list(function)
    for failed in jobs if oldest_first else reversed(jobs):
        when = round(failed.when, 3)  # as a listing says it
        fits = failed.matches(function, unique or b"", reason or b"") and when <= until
        yield failed if fits else None


def _refuses(broker: Rules, failed: FailedJob) -> bytes:
    """Why a failed job cannot be queued now; empty: it can."""
    queues = broker.queues
    if why := queues.refuses(failed.function):
        return why
    if queues.full:
        return b"The job server has no memory left for new jobs"
    function = queues.functions.get(failed.function)
    if function is None:
        return b""
    limit = function.limits[failed.priority]
    if limit and function.total >= limit:
        return b"Job queue is full"
    key = coalesces_on(failed.unique, failed.workload)
    if key and queues.uniques.find(key, function):
        return b"a job with the same unique is queued"
    return b""


def _queue_again(broker: Rules, failed: FailedJob) -> BrokerJob:
    queues = broker.queues
    queues.failed.pop(failed.handle)
    job = restore_failed(queues, failed, broker.now)
    if queues.durable:
        job.function.scheduled += 1
        queues.changes.retry(job, failed)
    else:
        job.function.push(job)
        queues.wake(job.function, broker.now)
    return job


def _answer_stored(broker: Rules, peer: Peer, answer: bytes, *last: BrokerJob) -> bytes | None:
    """Answer once the last of the jobs is stored, and so are those before it."""
    replies = broker.queues.changes.replies
    if not last or last[0] not in replies:
        return answer
    replies[last[0]].append(peer.defer(answer))
    return None


def _discard(broker: Rules, handle: bytes) -> bool:
    failed = broker.queues.failed.pop(handle)
    if failed is None:
        return False
    broker.forget_kept(failed.number)
    return True


def _discard_all(broker: Rules, pairs: Mapping[bytes, bytes]) -> Iterator[bytes | None]:
    discarded = 0
    for failed in find_failed(broker, pairs, oldest_first=True):
        if failed is None or not _discard(broker, failed.handle):
            yield None
            continue
        yield failed.handle
        discarded += 1
        if discarded == MAX_AT_ONCE:
            return
