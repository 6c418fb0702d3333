"""The text commands that steer functions, which the C server does not have.

pause FUNCTION               its jobs are queued and not given out
resume FUNCTION
pauses                       lists paused functions: since when (seconds since 1970), and by whom
limit FUNCTION running=N     at most N of its jobs run at a time; 0: any number
limit FUNCTION rate=N/PERIOD at most N are started in a period, such as 100/s, 10/30m; 0: any number
limit FUNCTION per-key=N     at most N run at a time of those with the same key, which is the unique
                             up to a colon, or with separator=TEXT up to that; 0: any number
purge FUNCTION               cancel all of its jobs that do not run; lists their handles
server pause                 no job of any function is given out
server resume
server                       what the server says about itself

Several limits may be set at once. Names and separators are percent-encoded, so that they may
contain spaces.
"""

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import unquote_to_bytes

from gearman_py.broker.key_limits import MAX_SEPARATOR, KeyLimit
from gearman_py.broker.pauses import Pause
from gearman_py.broker.queues import Queues
from gearman_py.broker.rates import MAX_STARTS, MAX_UNITS, RateLimit
from gearman_py.broker.restriction_records import SERVER
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Function, Peer
from gearman_py.broker.stats import find_function, read_name
from gearman_py.protocol.text import error, listed_name, parse_pairs, printable

MAX_RUNNING = 10**9
LIMIT_USAGE = (
    b"limit FUNCTION running=N, N being at most %d, rate=N/PERIOD such as 100/s or 10/30m, N being "
    b"1 to %d and PERIOD at most %dd, or per-key=N [separator=TEXT], TEXT having 1 to %d bytes"
    % (MAX_RUNNING, MAX_STARTS, MAX_UNITS, MAX_SEPARATOR)
)


def _read_name(broker: Rules, word: bytes) -> bytes:
    """The name that a word gives, as clients do, or as listings print that of a known function."""
    name = read_name(word)
    function = find_function(broker.queues.functions, name)
    return function.name if function else name


def pause(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if len(words) != 2:
        return _wrong_usage(b"pause FUNCTION")
    name = _read_name(broker, words[1])
    if why := broker.queues.refuses_settings(name):
        return error(b"QUEUE_ERROR", why)
    function = broker.queues.function(name)
    broker.queues.pause(function, broker.now, _note_pause(broker, peer))
    broker.keep_restrictions(peer, function)
    return None


def _note_pause(broker: Rules, peer: Peer) -> Pause:
    return Pause(broker.time_of_day(), broker.name_peer(peer))


def list_pauses(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes]:
    if words[1:]:
        return _wrong_usage(b"pauses")
    pauses = sorted(broker.queues.restrictions.pauses.items())
    return (
        b"%b\t%.0f\t%b" % (listed_name(name), pause.since, printable(pause.by.encode()))
        for name, pause in pauses
        if name != SERVER
    )


def resume(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if len(words) != 2:
        return _wrong_usage(b"resume FUNCTION")
    name = _read_name(broker, words[1])
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
        queues.pause_server(_note_pause(broker, peer))
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
    facts["admin_only"] = f"{broker.restricted:d}"
    facts["paused"] = f"{broker.queues.restrictions.paused:d}"
    if pause := broker.queues.restrictions.pauses.get(SERVER):
        facts |= {"paused_since": f"{pause.since:.0f}", "paused_by": pause.by}
    return (b"%b\t%b" % (key.encode(), printable(value.encode())) for key, value in facts.items())


def limit(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    if (limits := parse_pairs(words[2:])) is None:
        return _wrong_usage(LIMIT_USAGE)
    separator = limits.pop(b"separator", None)
    try:
        rules = [_LIMITS[what](value, separator) for what, value in limits.items()]
    except (KeyError, ValueError):
        return _wrong_usage(LIMIT_USAGE)
    if not rules or (separator is not None and limits.get(b"per-key", b"0") == b"0"):
        return _wrong_usage(LIMIT_USAGE)
    name = _read_name(broker, words[1])
    if why := broker.queues.refuses_settings(name):
        return error(b"QUEUE_ERROR", why)
    function = broker.queues.function(name)
    for rule in rules:
        rule(broker.queues, function, broker.now)
    broker.keep_restrictions(peer, function)
    return None


SetLimit = Callable[[Queues, Function, float], None]


def _parse_running(value: bytes, _: bytes | None) -> SetLimit:
    most = _parse_number(value)
    return lambda queues, function, now: queues.limit_running(function, most, now)


def _parse_rate(value: bytes, _: bytes | None) -> SetLimit:
    rate = RateLimit(value.decode()) if value != b"0" else None
    return lambda queues, function, now: queues.limit_rate(function, rate, now)


def _parse_per_key(value: bytes, separator: bytes | None) -> SetLimit:
    most, mark = _parse_number(value), unquote_to_bytes(separator or b":")
    limit = KeyLimit[BrokerJob](most, mark) if most else None
    return lambda queues, function, now: queues.limit_per_key(function, limit, now)


_LIMITS = {b"running": _parse_running, b"rate": _parse_rate, b"per-key": _parse_per_key}


def _parse_number(number: bytes) -> int:
    if not number.isdigit() or int(number[:20]) > MAX_RUNNING:
        raise ValueError(number)
    return int(number)


def purge(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes | None]:
    if len(words) != 2:
        return _wrong_usage(b"purge FUNCTION")
    name = _read_name(broker, words[1])
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
    return error(b"UNKNOWN_FUNCTION", b"unknown function " + listed_name(name))
