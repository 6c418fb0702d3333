"""The text commands that steer functions, which the C server does not have.

pause FUNCTION               its jobs are queued and not given out
resume FUNCTION
limit FUNCTION running=N     at most N of its jobs run at a time; 0: any number
purge FUNCTION               cancel all of its jobs that do not run; lists their handles
"""

from collections.abc import Iterator, Sequence

from gearman_py.broker.rules import Rules
from gearman_py.broker.state import Peer
from gearman_py.protocol.text import error

MAX_RUNNING = 10**9


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
        return _wrong_usage(b"limit FUNCTION running=N")
    what, _, number = words[2].partition(b"=")
    if what != b"running" or not number.isdigit() or int(number[:20]) > MAX_RUNNING:
        return _wrong_usage(b"limit FUNCTION running=N")
    if why := broker.queues.refuses_settings(words[1]):
        return error(b"QUEUE_ERROR", why)
    function = broker.queues.function(words[1])
    broker.queues.limit_running(function, int(number), broker.now)
    broker.keep_restrictions(peer, function)
    return None


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
