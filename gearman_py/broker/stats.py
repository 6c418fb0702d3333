"""The text command stats: what is queued and what was counted, a function a row.

    NAME <TAB> jobs=3 <TAB> running=1 ...

Readers skip keys that they do not know: more may come.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from urllib.parse import quote_from_bytes, unquote_to_bytes

from gearman_py.broker import counts
from gearman_py.broker.counts import Counts
from gearman_py.broker.pauses import Pause
from gearman_py.broker.rules import Rules
from gearman_py.broker.sliced_sort import sort_in_slices
from gearman_py.broker.state import Function, Peer
from gearman_py.protocol.text import OTHERS, error, listed_name, unescape_name

FAILURES = counts.FAILED, counts.EXCEPTION, counts.ATTEMPTS
REQUEUES = counts.DISCONNECTED, counts.TIMEOUT, counts.UNREGISTERED, counts.POSTPONED

Pairs = Iterator[tuple[str, float | bytes]]


def list_stats(broker: Rules, peer: Peer, words: Sequence[bytes]) -> Iterator[bytes | None]:
    """All functions that there are, and those that are gone and were counted."""
    queues = broker.queues
    counted = queues.counts
    failed = queues.failed.functions()
    last = None
    for name in sort_in_slices(chain(queues.functions, counted.functions, failed), bytes):
        if name is None or name == last:
            yield None
            continue
        last = name
        function, own = queues.functions.get(name), counted.functions.get(name)
        own = Counts(name) if own is None else own  # one without events is false
        if function or name in failed or not own.unused:
            yield _format_row(broker, listed_name(name), name, function, own)
    if not counted.others.unused:
        yield _format_row(broker, OTHERS, OTHERS, None, counted.others)


def _format_row(
    broker: Rules, listed: bytes, name: bytes, function: Function | None, own: Counts
) -> bytes:
    queues = broker.queues
    pause = queues.restrictions.pauses.get(name, Pause()) if function else Pause()
    pairs = [
        *_read_queue(function, broker.now),
        *_read_counts(own),
        *_read_restrictions(function),
        *(("paused_since", pause.since), ("paused_by", pause.by.encode())),
        ("server_paused", queues.restrictions.paused),
        ("kept_failed", queues.failed.count(name) if own is not queues.counts.others else 0),
    ]
    results = queues.results.count(name) if queues.results else 0
    pairs.append(("kept_results", results))
    wanted = queues.demand.workers_wanted(function, broker.now) if function else 0
    pairs.append(("workers_wanted", wanted))
    return b"\t".join(
        [listed, *(b"%b=%b" % (key.encode(), _format(value)) for key, value in pairs)]
    )


def read_name(word: bytes) -> bytes:
    """A name in a command: percent-encoded, or as a listing has it. %00: the empty one."""
    name = unquote_to_bytes(word)
    return b"" if name == b"\0" else name


def find_counts(broker: Rules, name: bytes) -> tuple[Function | None, Counts | None]:
    """A function, and what was counted of it; one that is gone may have been counted."""
    if function := find_function(broker.queues.functions, name):
        return function, function.counts
    counted = broker.queues.counts.functions
    own = counted.get(name)
    return None, counted.get(unescape_name(name)) if own is None else own


def show_function(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes]:
    """function NAME: waiting jobs by priority, ends by reason, and times in buckets.

    NAME is percent-encoded. Each of ``waits`` and ``runs`` took at most the number of seconds at
    its place in ``bounds``; the last one is the count of all.
    """
    if len(words) != 2:
        return error(b"INVALID_ARGUMENTS", b"function NAME")
    name = read_name(words[1])
    function, counted = find_counts(broker, name)
    if counted is None:
        return error(b"UNKNOWN_FUNCTION")
    counted.settle()
    high, normal, low = function.waiting if function else (0, 0, 0)
    pairs = {"high": high, "normal": normal, "low": low}
    pairs |= {reason: counted[reason] for reason in (*FAILURES, *REQUEUES)}
    row = [listed_name(function.name if function else name)]
    row += [b"%b=%d" % pair for pair in ((key.encode(), value) for key, value in pairs.items())]
    row.append(b"bounds=" + ",".join(f"{bound:g}" for bound in counted.waits.bounds).encode())
    for key, durations in (("waits", counted.waits), ("runs", counted.runs)):
        numbers = (*durations.cumulated, durations.total)
        row.append(f"{key}={','.join(map(str, numbers))}".encode())
    return iter([b"\t".join(row)])


def find_function(functions: Mapping[bytes, Function], name: bytes) -> Function | None:
    """The function with this name, or the one that listings, or clients of them, print so."""
    return functions.get(name) or functions.get(unescape_name(name))


def _format(value: float | bytes) -> bytes:
    if isinstance(value, bytes):
        return quote_from_bytes(value, safe="").encode()
    return b"%.3f" % value if isinstance(value, float) else b"%d" % value


def _read_queue(function: Function | None, now: float) -> Pairs:
    since = function.waiting_since() if function else None
    yield "jobs", function.total if function else 0
    yield "running", function.running if function else 0
    yield "waiting", function.queued if function else 0
    yield "scheduled", function.scheduled if function else 0
    yield "workers", len(function.workers) if function else 0
    yield "oldest_seconds", 0.0 if since is None else max(0.0, now - since)


def _read_restrictions(function: Function | None) -> Pairs:
    yield "paused", function.paused if function else 0
    yield "max_running", function.max_running if function else 0
    rate = function.rate if function else None
    yield "max_started", rate.most if rate else 0
    yield "period_seconds", rate.period if rate else 0.0
    limit = function.key_limit if function else None
    yield "max_per_key", limit.most if limit else 0
    yield "key_separator", limit.separator if limit else b""


def _read_counts(counted: Counts) -> Pairs:
    counted.settle()
    yield "accepted", counted.accepted
    yield "coalesced", counted[counts.COALESCED]
    yield "started", counted.waits.total
    yield "completed", counted.completed
    yield "failed", sum(counted[how] for how in FAILURES)
    yield "requeued", sum(counted[why] for why in REQUEUES)
    yield "timed_out", counted[counts.TIMED_OUT]
    yield "retried", counted[counts.RETRIED]
    yield "cancelled", counted[counts.CANCELLED]
    yield "dropped", counted[counts.DROPPED]
    yield "wait_seconds", counted.waits.seconds
    yield "run_seconds", counted.runs.seconds
