"""The text commands for schedules, which the C server does not have.

schedules                     list them
schedule set NAME FACT...     add or replace one; function=NAME and cron=EXPRESSION are needed, and
                              there may be zone=, unique=, workload=, priority=high|normal|low,
                              missed=once|all|none, overlap=allow|skip and owner=TEXT
schedule replace NAME FACT... the same, if there is one with this name
schedule pause NAME           submit none of its jobs
schedule resume NAME
schedule run NAME             submit its job now; answers with the handle
schedule delete NAME

All words are percent-encoded. With a durable queue the answer waits until the change is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from urllib.parse import quote_from_bytes, unquote_to_bytes

from gearman_py.broker.job_changes import PRIORITIES
from gearman_py.broker.job_listing import PRIORITY_NAMES
from gearman_py.broker.limits import MAX_ARGUMENT, MAX_UNIQUE
from gearman_py.broker.rules import Rules
from gearman_py.broker.schedule_runs import submit_run
from gearman_py.broker.schedules import (
    MAX_SCHEDULES,
    MISSED,
    NoSchedules,
    Schedule,
    make_schedule_job,
)
from gearman_py.broker.state import Peer
from gearman_py.protocol.text import OK, error, parse_pairs, printable, value

FACTS = {
    *(b"function", b"cron", b"zone", b"unique", b"workload", b"priority"),
    *(b"missed", b"overlap", b"owner"),
}
OVERLAP = {b"allow": False, b"skip": True}
USAGE = (
    b"schedule set|replace NAME function=NAME cron=EXPRESSION [zone=NAME] [unique=KEY] "
    b"[workload=DATA] [priority=high|normal|low] [missed=once|all|none] [overlap=allow|skip] "
    b"[owner=TEXT], or schedule pause|resume|run|delete NAME"
)
CLEAR = "*/,:-+?#"  # not encoded in listings


def list_schedules(broker: Rules, peer: Peer, words: Sequence[bytes]) -> Iterator[bytes]:
    """A row for each, by name."""
    names = sorted(schedule.name for schedule in broker.queues.schedules)
    found = (broker.queues.schedules.get(name) for name in names)
    return (_format_schedule(schedule) for schedule in found if schedule)


def _format_schedule(schedule: Schedule) -> bytes:
    pairs: list[tuple[str, bytes]] = [
        ("function", schedule.function),
        ("cron", schedule.cron.encode()),
        ("zone", schedule.zone.encode()),
        ("unique", schedule.unique),
        ("workload", schedule.workload),
        ("priority", PRIORITY_NAMES[schedule.priority]),
        ("missed", schedule.missed.encode()),
        ("overlap", b"skip" if schedule.skip else b"allow"),
        ("owner", schedule.owner),
        ("paused", b"%d" % schedule.paused),
        ("next", b"0" if schedule.next == inf else b"%.3f" % schedule.next),
        ("last", b"%.3f" % schedule.last),
        ("handle", schedule.handle),
    ]
    row = [quote_from_bytes(schedule.name, CLEAR)]
    row += [f"{key}={quote_from_bytes(content, CLEAR)}" for key, content in pairs]
    return "\t".join(row).encode()


def schedule(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | None:
    match [words[1].lower() if words[1:] else b"", *map(unquote_to_bytes, words[2:])]:
        case [b"set" | b"replace" as what, name, *facts] if 0 < len(name) <= MAX_ARGUMENT:
            if what == b"replace" and broker.queues.schedules.get(name) is None:
                return error(b"UNKNOWN_SCHEDULE")
            return _set_schedule(broker, peer, name, facts)
        case [b"pause" | b"resume" | b"run" | b"delete" as what, name]:
            found = broker.queues.schedules.get(name)
            if found is None:
                return error(b"UNKNOWN_SCHEDULE")
            if what == b"run":
                return _run_now(broker, peer, found)
            if what == b"delete":
                broker.queues.schedules.pop(name)
                found.deleted = True
            else:
                found.paused = what == b"pause"
                if what == b"resume":
                    found.next = broker.next_run(found.cron, found.zone, broker.time_of_day())
                broker.queues.schedules.put(found)
                broker.queues.next_event = -inf
            return _answer_stored(broker, peer, found)
        case _:
            return error(b"INVALID_ARGUMENTS", b"expected: " + USAGE)


def _set_schedule(broker: Rules, peer: Peer, name: bytes, words: Sequence[bytes]) -> bytes | None:
    schedules = broker.queues.schedules
    if (facts := parse_pairs(words)) is None:
        return error(b"INVALID_ARGUMENTS", b"expected: " + USAGE)
    old = schedules.get(name)
    try:
        new = _read_facts(name, facts)
        new.next = broker.next_run(new.cron, new.zone, broker.time_of_day())
    except NoSchedules as why:
        return error(b"NO_SCHEDULES", printable(str(why).encode()))
    except ValueError as why:
        return error(b"INVALID_ARGUMENTS", printable(str(why).encode()))
    if new.next == inf:
        return error(b"INVALID_ARGUMENTS", b"it would never run: " + facts[b"cron"])
    if old is None and len(schedules) >= MAX_SCHEDULES:
        return error(b"QUEUE_ERROR", b"there are %d schedules, and no more can be" % MAX_SCHEDULES)
    if old is not None:
        new.paused, new.last, new.handle = old.paused, old.last, old.handle
    new.number = old.number if old else broker.queues.next_number()
    schedules.put(new)
    broker.queues.next_event = -inf
    return _answer_stored(broker, peer, new, is_new=old is None)


def _read_facts(name: bytes, facts: Mapping[bytes, bytes]) -> Schedule:
    """Raises ValueError."""
    function, unique = facts.get(b"function", b""), facts.get(b"unique", b"")
    priority, missed = facts.get(b"priority", b"normal"), facts.get(b"missed", b"once").decode()
    overlap = facts.get(b"overlap", b"allow")
    known = priority in PRIORITIES and missed in MISSED and overlap in OVERLAP
    if facts.keys() - FACTS or not known or not function or not facts.get(b"cron"):
        raise ValueError(f"expected: {USAGE.decode()}")
    if len(function) > MAX_ARGUMENT or len(unique) > MAX_UNIQUE or b"\0" in function + unique:
        raise ValueError(
            f"a function has at most {MAX_ARGUMENT} bytes and a unique {MAX_UNIQUE}, without NUL"
        )
    return Schedule(
        name,
        function,
        facts[b"cron"].decode(),
        facts.get(b"zone", b"UTC").decode(),
        unique,
        facts.get(b"workload", b""),
        PRIORITIES[priority],
        missed,
        OVERLAP[overlap],
        facts.get(b"owner", b""),
    )


def _run_now(broker: Rules, peer: Peer, schedule: Schedule) -> bytes | None:
    queues = broker.queues
    handle = submit_run(broker, schedule)
    job = queues.job(handle)
    if job is None:
        return error(b"QUEUE_ERROR", b"the job was refused: the queue is full, or cannot be stored")
    schedule.handle = handle
    if job not in queues.changes.replies:
        return value(handle)
    queues.changes.replies[job].append(peer.defer(value(handle)))
    return None


def _answer_stored(
    broker: Rules, peer: Peer, schedule: Schedule, *, is_new: bool = False
) -> bytes | None:
    """Answer OK once a schedule is stored as it is now."""
    queues = broker.queues
    if not queues.durable:
        return OK
    job = make_schedule_job(schedule, queues.counts.others)
    if is_new:
        queues.changes.add(job)
        queues.changes.replies[job].append(peer.defer(OK))
    else:
        queues.changes.change(job, 0).append(peer.defer(OK))
    return None
