"""The text commands jobs and job: what a page for operators shows.

    jobs waiting function=NAME offset=100 limit=100

The jobs whose results are kept are listed too, as complete.

Names are percent-encoded, so that they may contain spaces. A page costs little however long the
queues are: jobs before it are counted, and not looked at. It may be as long as is wanted: a listing
is sent in parts.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import chain
from operator import attrgetter
from urllib.parse import unquote_to_bytes

from gearman_py.broker.failed_commands import find_failed, parse_filters
from gearman_py.broker.failed_jobs import FailedJob
from gearman_py.broker.kept_results import KeptResult
from gearman_py.broker.moving import find_due_times
from gearman_py.broker.rules import Rules
from gearman_py.broker.sliced_sort import sort_in_slices
from gearman_py.broker.state import PRIORITIES, BrokerJob, Function, Peer
from gearman_py.broker.stats import find_function, read_name
from gearman_py.protocol.text import error, listed_name, parse_pairs, printable

USUAL_ROWS = 100
# Jobs that are not due yet are looked at only so far: of one function there may be few among many.
MAX_SCHEDULED = 20_000
USUAL_BYTES, MAX_BYTES = b"4096", 2**20
PRIORITY_NAMES = b"high", b"normal", b"low"
STATES = b"waiting", b"running", b"scheduled"
FAILED, COMPLETE = b"failed", b"complete"
JOBS_USAGE = (
    b"expected: jobs waiting|running|scheduled [function=NAME] [unique=KEY] [offset=N] [limit=N], "
    b"jobs failed [function=NAME] [unique=KEY] [reason=TEXT] [until=SECONDS] [offset=N] [limit=N], "
    b"or jobs complete [function=NAME] [offset=N] [limit=N]"
)

Found = Iterator[tuple[BrokerJob, float] | None]
"""Jobs, each with when it is due (seconds since 1970; 0: now), and None for others that were
looked at."""
Rows = Iterator[bytes | None]


def list_jobs(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Rows:
    """jobs STATE [FILTER]... [offset=N] [limit=N]"""
    state, *options = words[1:] or [b""]
    state, pairs = state.lower(), parse_pairs(options)
    page = _take_page(pairs) if pairs is not None else None
    if pairs is None or page is None:
        return error(b"INVALID_ARGUMENTS", JOBS_USAGE)
    if state == FAILED:
        return _list_failed(broker, peer, pairs, *page)
    if state == COMPLETE and not pairs.keys() - {b"function"}:
        wanted = pairs.get(b"function")
        return _page_complete(broker, read_name(wanted) if wanted else None, *page)
    if state not in STATES or pairs.keys() - {b"function", b"unique"}:
        return error(b"INVALID_ARGUMENTS", JOBS_USAGE)
    offset, limit = page
    function = None
    if b"function" in pairs:
        function = find_function(broker.queues.functions, read_name(pairs[b"function"]))
        if function is None:
            return iter(())
    if b"unique" in pairs:
        found = _with_unique(broker, unquote_to_bytes(pairs[b"unique"]), function, state)
    elif state == b"waiting":
        skipped, offset = offset, 0
        found = _waiting(broker, function, skipped)
    elif state == b"running":
        found = _running(broker, function)
    else:
        found = _scheduled(broker, function, offset + limit)
    return _format_page(broker, found, offset, limit)


def _format_page(broker: Rules, found: Found, offset: int, limit: int) -> Rows:
    """The rows of at most ``limit`` jobs after the first ``offset``."""
    seen = 0
    for each in found if limit else ():
        seen += each is not None
        yield _format_job(broker, *each) if each is not None and seen > offset else None
        if seen == offset + limit:
            return


def _take_page(pairs: dict[bytes, bytes]) -> tuple[int, int] | None:
    """Take out the offset and the limit that are asked for; None: they are not numbers."""
    offset, limit = pairs.pop(b"offset", b"0"), pairs.pop(b"limit", b"%d" % USUAL_ROWS)
    if not (offset.isdigit() and limit.isdigit() and len(offset) < 20 and len(limit) < 20):
        return None
    return int(offset), int(limit)


def show_job(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Rows:
    """job HANDLE [BYTES]: as a row of jobs, with the first bytes of its workload in Base64."""
    size = words[2] if words[2:] else USUAL_BYTES
    if len(words) not in (2, 3) or not size.isdigit():
        return error(b"INVALID_ARGUMENTS", b"expected: job HANDLE [BYTES]")
    job = broker.queues.job(words[1])
    failed = broker.queues.failed.get(words[1])
    results = broker.queues.results
    kept = results.get(words[1]) if results else None
    if job is None and failed is None:
        return iter([_format_complete(kept)]) if kept else error(b"UNKNOWN_JOB")
    content = job.workload if job else failed.workload if failed else b""
    workload = b"\tworkload=" + b64encode(content[: min(MAX_BYTES, int(size[:20]))])
    if job is None:
        return iter([_format_failed(failed) + workload] if failed else [])
    if _state(job) == b"scheduled":
        return _format_scheduled(broker, job, workload)
    return iter([_format_job(broker, job, 0.0) + workload])


def _format_scheduled(broker: Rules, job: BrokerJob, workload: bytes) -> Rows:
    due = yield from find_due_times(broker.queues, [job])
    yield _format_job(broker, job, due.get(job.number, 0.0)) + workload


def _waiting(broker: Rules, function: Function | None, offset: int) -> Found:
    """Queued jobs by function, that with the oldest job first, in the order of their turn."""
    loaded = chain(broker.queues.loaded, broker.queues.restrictions.loaded)
    functions = sort_in_slices(loaded if function is None else [function], _by_age)
    for each in functions:
        if each is None:
            yield None
            continue
        for priority in PRIORITIES:
            if offset >= each.waiting[priority]:
                offset -= each.waiting[priority]
                continue
            for job in list(each.queues[priority]):
                listed = job.queued and not offset
                offset -= job.queued and offset > 0
                yield (job, 0.0) if listed else None


def _by_age(function: Function) -> tuple[float, bytes]:
    return function.waiting_since() or 0.0, function.name


def _running(broker: Rules, function: Function | None) -> Found:
    """Running jobs, those that run longest first."""
    running = chain.from_iterable(peer.running.values() for peer in broker.peers)
    for job in sort_in_slices(running, attrgetter("since")):
        own = job and job.worker and (function is None or job.function is function)
        yield (job, 0.0) if job and own else None


def _scheduled(broker: Rules, function: Function | None, wanted: int) -> Found:
    """Jobs that are not due yet, the next one first; at least ``wanted`` are looked at."""
    looked_at = 0
    for each in _by_due_time(broker):
        yield each if each and (function is None or each[0].function is function) else None
        looked_at += each is not None
        if looked_at == MAX_SCHEDULED + wanted:
            return


def _by_due_time(broker: Rules) -> Found:
    """The jobs of the heap in order; each costs little, however many there are."""
    heap = list(broker.queues._due)
    ahead = [(heap[0], 0)] if heap else []
    last: tuple[float, int] | None = None  # a job that was due at another time meanwhile is twice
    while ahead:
        entry, place = heappop(ahead)
        job = broker.queues.find_scheduled(*entry) if entry != last else None
        last = entry
        yield (job, entry[0]) if job is not None else None
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap):
                heappush(ahead, (heap[child], child))


def _with_unique(broker: Rules, unique: bytes, function: Function | None, state: bytes) -> Found:
    found = broker.queues.uniques.get(unique)
    jobs = list(filter(None, found.values() if isinstance(found, dict) else [found]))
    due: dict[int, float] = {}
    if state == b"scheduled":
        due = yield from find_due_times(broker.queues, jobs)
    for job in jobs:
        own = function is None or job.function is function
        yield (job, due.get(job.number, 0.0)) if own and _state(job) == state else None


def _list_failed(
    broker: Rules, peer: Peer, pairs: Mapping[bytes, bytes], offset: int, limit: int
) -> bytes | Rows:
    """Those that failed last first."""
    if broker.restricted and not peer.operator:  # reasons may quote workloads
        return error(b"PERMISSION", b"Only on the admin socket: jobs failed")
    filters = parse_filters([b"%b=%b" % pair for pair in pairs.items()])
    if filters is None:
        return error(b"INVALID_ARGUMENTS", JOBS_USAGE)
    return _page_failed(broker, filters, offset, limit)


def _page_failed(broker: Rules, filters: Mapping[bytes, bytes], offset: int, limit: int) -> Rows:
    for failed in find_failed(broker, filters):
        if not limit:
            return
        if failed is None or offset > 0:
            offset -= failed is not None
            yield None
        else:
            limit -= 1
            yield _format_failed(failed)


def _page_complete(broker: Rules, name: bytes | None, offset: int, limit: int) -> Rows:
    """Those whose results are kept, of a function or of all, that which was complete last first."""
    if name is not None and (known := find_function(broker.queues.functions, name)):
        name = known.name
    for kept in reversed(list(broker.queues.results or ())):
        if not limit:
            return
        if (fits := name in (None, kept.function)) is False or offset > 0:
            offset -= fits
            yield None
        else:
            limit -= 1
            yield _format_complete(kept)


def _state(job: BrokerJob) -> bytes:
    return b"running" if job.worker else b"waiting" if job.queued else b"scheduled"


def _format_job(broker: Rules, job: BrokerJob, due: float) -> bytes:
    state = _state(job)
    pairs = [
        (b"state", state),
        (b"function", listed_name(job.function.name)),
        (b"unique", printable(job.unique)),
        (b"priority", PRIORITY_NAMES[job.priority]),
        (b"background", b"%d" % job.background),
        (b"clients", b"%d" % len(job.clients)),
        (b"attempts", b"%d" % (job.retries + (job.worker is not None))),
        (b"bytes", b"%d" % len(job.workload)),
    ]
    if state == b"scheduled":
        pairs.append((b"due", b"%.3f" % due))
    else:
        pairs.append((b"seconds", b"%.3f" % max(0.0, broker.now - job.since)))
    if job.worker is not None:
        pairs.append((b"address", job.worker.address.encode()))
        pairs.append((b"client_id", printable(job.worker.client_id)))
        if progress := broker.queues.progress.get(job):
            pairs.append((b"progress", b"%b/%b" % tuple(map(printable, progress))))
    row = b"\t".join(b"%b=%b" % pair for pair in pairs)
    return broker.queues.handle(job) + b"\t" + row


def _format_failed(job: FailedJob) -> bytes:
    pairs = [
        (b"state", FAILED),
        (b"function", listed_name(job.function)),
        (b"unique", printable(job.unique)),
        (b"priority", PRIORITY_NAMES[job.priority]),
        (b"background", b"1"),
        (b"attempts", b"%d" % job.attempts),
        (b"bytes", b"%d" % len(job.workload)),
        (b"failed", b"%.3f" % job.when),
        (b"address", printable(job.address.encode())),
        (b"client_id", printable(job.client_id)),
        (b"reason", printable(job.reason)),
    ]
    return job.handle + b"\t" + b"\t".join(b"%b=%b" % pair for pair in pairs)


def _format_complete(kept: KeptResult) -> bytes:
    pairs = [
        (b"state", COMPLETE),
        (b"function", listed_name(kept.function)),
        (b"background", b"1"),
        (b"bytes", b"%d" % len(kept.result)),
        (b"completed", b"%.3f" % kept.when),
    ]
    return kept.handle + b"\t" + b"\t".join(b"%b=%b" % pair for pair in pairs)
