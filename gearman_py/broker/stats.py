"""The text command stats: what is queued and what was counted, a function a row.

    NAME <TAB> jobs=3 <TAB> running=1 ...

Readers skip keys that they do not know: more may come.
"""

from collections.abc import Iterator, Sequence

from gearman_py.broker import counts
from gearman_py.broker.counts import Counts
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import Function, Peer
from gearman_py.protocol.text import printable

Pairs = Iterator[tuple[str, float]]


def list_stats(broker: Rules, peer: Peer, words: Sequence[bytes]) -> Iterator[bytes]:
    """All functions that there are, and those that are gone and were counted."""
    queues = broker.queues
    counted = queues.counts
    for name in sorted({*queues.functions, *counted.functions, counted.others.name}):
        function = queues.functions.get(name)
        own = counted.others if name == counted.others.name else counted.functions.get(name)
        own = Counts(name) if own is None else own  # one without events is false
        if function or not own.unused:
            pairs = [*_read_queue(function, broker.now), *_read_counts(own)]
            pairs += _read_restrictions(function)
            row = [b"%b=%b" % (key.encode(), _format(value)) for key, value in pairs]
            yield b"\t".join([printable(name), *row])


def _format(value: float) -> bytes:
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


def _read_counts(counted: Counts) -> Pairs:
    counted.settle()
    yield "accepted", counted.accepted
    yield "coalesced", counted[counts.COALESCED]
    yield "started", counted.waits.total
    yield "completed", counted.completed
    failed = (counts.FAILED, counts.EXCEPTION, counts.ATTEMPTS)
    yield "failed", sum(counted[how] for how in failed)
    requeued = (counts.DISCONNECTED, counts.TIMEOUT, counts.UNREGISTERED)
    yield "requeued", sum(counted[why] for why in requeued)
    yield "timed_out", counted[counts.TIMED_OUT]
    yield "cancelled", counted[counts.CANCELLED]
    yield "dropped", counted[counts.DROPPED]
    yield "wait_seconds", counted.waits.seconds
    yield "run_seconds", counted.runs.seconds
