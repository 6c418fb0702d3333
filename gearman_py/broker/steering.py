"""The text commands that steer functions, which the C server does not have.

pause FUNCTION               its jobs are queued and not given out
resume FUNCTION
limit FUNCTION running=N     at most N of its jobs run at a time; 0: any number
limit FUNCTION rate=N/PERIOD at most N are started in a period, such as 100/s, 10/30m; 0: any number
purge FUNCTION               cancel all of its jobs that do not run; lists their handles
"""

from collections.abc import Iterator, Sequence

from gearman_py.broker.rates import RateLimit
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import Peer
from gearman_py.protocol.text import error

MAX_RUNNING = 10**9
LIMIT_USAGE = b"limit FUNCTION running=N, or rate=N/PERIOD such as 100/s or 10/30m"


def pause(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if len(words) != 2:
        return _wrong_usage(b"pause FUNCTION")
    if why := broker.queues.refuses_settings(words[1]):
        return error(b"QUEUE_ERROR", why)
    function = broker.queues.function(words[1])
    broker.queues.pause(function, broker.now)
    broker.keep_restrictions(peer, function)
    return None


def resume(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if len(words) != 2:
        return _wrong_usage(b"resume FUNCTION")
    function = broker.queues.functions.get(words[1])
    if function is None:
        return _unknown_function(words[1])
    broker.queues.resume(function, broker.now)
    broker.keep_restrictions(peer, function)
    return None


def limit(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if len(words) != 3:
        return _wrong_usage(LIMIT_USAGE)
    what, _, most = words[2].partition(b"=")
    rate, running = None, 0
    try:
        if what == b"rate":
            rate = RateLimit(most.decode()) if most != b"0" else None
        elif what == b"running":
            running = _parse_running(most)
        else:
            return _wrong_usage(LIMIT_USAGE)
    except ValueError:
        return _wrong_usage(LIMIT_USAGE)
    if why := broker.queues.refuses_settings(words[1]):
        return error(b"QUEUE_ERROR", why)
    function = broker.queues.function(words[1])
    if what == b"rate":
        broker.queues.limit_rate(function, rate, broker.now)
    else:
        broker.queues.limit_running(function, running, broker.now)
    broker.keep_restrictions(peer, function)
    return None


def _parse_running(number: bytes) -> int:
    if not number.isdigit() or int(number[:20]) > MAX_RUNNING:
        raise ValueError(number)
    return int(number)


def purge(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes | None]:
    if len(words) != 2:
        return _wrong_usage(b"purge FUNCTION")
    if words[1] not in broker.queues.functions:
        return _unknown_function(words[1])
    return _cancel_waiting(broker, words[1])


def _cancel_waiting(broker: Rules, name: bytes) -> Iterator[bytes | None]:
    """Cancel the jobs of a function that do not run: their handles, and None for other jobs."""
    queues = broker.queues
    for job in queues.jobs:
        if (
            job.function.name != name
            or job.worker is not None
            or queues.jobs.get(job.number) is not job
        ):
            yield None
            continue
        handle = queues.handle(job)
        broker.cancel(handle)
        yield handle


def _wrong_usage(expected: bytes) -> bytes:
    return error(b"INVALID_ARGUMENTS", b"expected: " + expected)


def _unknown_function(name: bytes) -> bytes:
    return error(b"UNKNOWN_FUNCTION", b"unknown function " + name)
