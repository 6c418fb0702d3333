"""The text commands that steer functions, which the C server does not have.

pause FUNCTION               its jobs are queued and not given out
resume FUNCTION
limit FUNCTION running=N     at most N of its jobs run at a time; 0: any number
limit FUNCTION rate=N/PERIOD at most N are started in a period, such as 100/s, 10/30m; 0: any number
purge FUNCTION               cancel all of its jobs that do not run; lists their handles
server pause                 no job of any function is given out
server resume
server                       what the server says about itself

Names are percent-encoded, so that they may contain spaces.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import unquote_to_bytes

from gearman_py.broker.rates import MAX_STARTS, RateLimit
from gearman_py.broker.restriction_records import SERVER
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import Function, Peer
from gearman_py.protocol.text import error, printable

MAX_RUNNING = 10**9
LIMIT_USAGE = (
    b"limit FUNCTION running=N, N being at most %d, or rate=N/PERIOD such as 100/s or 10/30m, "
    b"N being 1 to %d" % (MAX_RUNNING, MAX_STARTS)
)


def pause(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if len(words) != 2:
        return _wrong_usage(b"pause FUNCTION")
    name = unquote_to_bytes(words[1])
    if why := broker.queues.refuses_settings(name):
        return error(b"QUEUE_ERROR", why)
    function = broker.queues.function(name)
    broker.queues.pause(function, broker.now)
    broker.keep_restrictions(peer, function)
    return None


def resume(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if len(words) != 2:
        return _wrong_usage(b"resume FUNCTION")
    name = unquote_to_bytes(words[1])
    function = broker.queues.functions.get(name)
    if function is None:
        return _unknown_function(name)
    broker.queues.resume(function, broker.now)
    broker.keep_restrictions(peer, function)
    return None


def server(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes] | None:
    change = b" ".join(words[1:]).lower()
    if not change:
        return list_facts(broker)
    if change not in (b"pause", b"resume"):
        return _wrong_usage(b"server, server pause or server resume")
    if broker.restricted and not peer.operator:
        return error(b"PERMISSION", b"Only on the admin socket: server " + change)
    queues = broker.queues
    if change == b"pause":
        queues.pause_server()
    else:
        queues.resume_server(broker.now)
    stored = Function(SERVER, set(), queues.counts.others)
    stored.paused = queues.restrictions.paused
    broker.keep_restrictions(peer, stored)
    broker.on_change(peer, b"server " + change)
    return None


def list_facts(broker: Rules) -> Iterator[bytes]:
    """What the server is, a key and a value in each row."""
    facts = broker.describe() if broker.describe else {}
    facts["paused"] = f"{broker.queues.restrictions.paused:d}"
    return (b"%b\t%b" % (key.encode(), printable(value.encode())) for key, value in facts.items())


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
    name = unquote_to_bytes(words[1])
    if why := broker.queues.refuses_settings(name):
        return error(b"QUEUE_ERROR", why)
    function = broker.queues.function(name)
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
    name = unquote_to_bytes(words[1])
    if name not in broker.queues.functions:
        return _unknown_function(name)
    return _cancel_waiting(broker, name)


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
    return error(b"UNKNOWN_FUNCTION", b"unknown function " + printable(name))
