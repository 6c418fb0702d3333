"""The state of a broker as plain values, for a broker in another process that takes its place.

A snapshot is a sequence of sections, each an object that JSON can represent; bytes are text of
Latin-1 characters. Jobs are columns, since there may be millions. Times are those of the system's
monotonic clock, which both processes read. What is computed from settings or from other values is
left out. See gearman_py.broker.restore for the inverse.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from gearman_py.broker.adopted_jobs import WHEN_READ
from gearman_py.broker.copy_ahead import AheadCopy
from gearman_py.broker.counts import BrokerCounts, Counts, Durations
from gearman_py.broker.job_columns import Section, as_text, pack_jobs, split_jobs
from gearman_py.broker.queues import Queues
from gearman_py.broker.restriction_records import SERVER
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import PRIORITIES, BrokerJob, Function, Peer

FORMAT = 5  # to be increased when a reader of the previous format would misunderstand a snapshot
SECTION_PEERS = 256


def take_snapshot(
    broker: Rules, peers: Sequence[Peer], now: float, ahead: AheadCopy | None = None
) -> Iterator[Section]:
    """The sections, in which ``peers`` are numbered in this order; others are taken for gone.

    ``ahead``: a copy that has been passed on before. No answer may wait for a commit, and the
    broker must not be used until the last section.
    """
    _finish_slices(broker, now)
    queues = broker.queues
    ahead = ahead or AheadCopy(broker, now)
    changed = ahead.finish()
    rest, orders = _find_rest(queues, ahead)
    functions = {function: place for place, function in enumerate(queues.functions.values())}
    places = {peer: place for place, peer in enumerate(peers)}
    leaving = [peer for peer in broker.peers if peer not in places]
    for peer in leaving:
        places[peer] = len(places)
    yield {
        "format": FORMAT,
        "prefix": as_text(queues._prefix),
        "durable": queues.durable,
        "paused": queues.restrictions.paused,
        "pauses": [[as_text(name), *each] for name, each in queues.restrictions.pauses.items()],
        "schedules": [schedule.pack() for schedule in queues.schedules],
        "pause_record": queues.restrictions.records.get(SERVER),
        "functions": [
            {
                "name": as_text(each.name),
                "limits": each.limits,
                "paused": each.paused,
                "max_running": each.max_running,
                "rate": str(each.rate or ""),
                "key_limit": str(each.key_limit or ""),
                "record": queues.restrictions.records.get(each.name),
                "among_others": each.counts is queues.counts.others,
            }
            for each in functions
        ],
        "peers": len(peers),
        "leaving": len(leaving),
        "handles": [
            (number, as_text(handle)) for number, handle in queues._foreign_handles.items()
        ],
        "jobs": len(queues.jobs),
        "changed": changed,
        "counts": _pack_counts(queues.counts),
    }
    for start in range(0, len(places), SECTION_PEERS):
        part = list(places)[start : start + SECTION_PEERS]
        yield {"peers": [_pack_peer(peer, functions) for peer in part]}
    for jobs in split_jobs(chain(rest, _find_others(queues, places))):
        yield pack_jobs(queues, jobs, functions, places)
    for failed in split_jobs(queues.failed):
        yield {"failed": [_pack_fields(job) for job in failed]}
    for results in split_jobs(queues.results or ()):  # beside no failed jobs: see `Restorer.read`
        yield {"failed": [], "results": [_pack_fields(result) for result in results]}
    yield _pack_queues(queues, functions, places) | {"orders": orders}


def _pack_fields(fields: Iterable[Any]) -> list[Any]:
    return [as_text(value) if isinstance(value, bytes) else value for value in fields]


def _finish_slices(broker: Rules, now: float) -> None:
    """Finish what is done in slices while peers are served."""
    queues = broker.queues
    while queues._leaving or broker._deserted or broker.lost_jobs:
        broker.lost_jobs.give_back_some()
        queues.unregister_gone(now)
        broker._abandon_jobs()
    for peer in broker.peers:
        while peer.listing is not None:
            peer.continue_listing()


def _pack_counts(counts: BrokerCounts) -> Section:
    counts.settle()
    return {
        "functions": [_pack_count(each) for each in counts.functions.values()],
        "others": _pack_count(counts.others),
        "wakeups": counts.wakeups,
        "empty_grabs": counts.empty_grabs,
        "refusals": counts.refusals,
        "packets": counts.received_packets(),
    }


def _pack_count(counts: Counts) -> Section:
    return {
        "name": as_text(counts.name),
        "accepted": counts.accepted,
        "events": dict(counts),
        "waits": pack_durations(counts.waits),
        "runs": pack_durations(counts.runs),
    }


def pack_durations(durations: Durations) -> list[Any]:
    """What was counted, settled."""
    durations.settle()
    return [durations.total, durations.seconds, list(durations.bounds), list(durations.cumulated)]


def _pack_peer(peer: Peer, functions: Mapping[Function, int]) -> Section:
    return {
        "number": peer.number,
        "address": peer.address,
        "operator": peer.operator,
        "since": peer.since,
        "client_id": as_text(peer.client_id),
        "exceptions": peer.exceptions,
        "retries": peer.retries,
        "results": peer.results,
        "resubmits": peer.resubmits,
        "abilities": [
            [functions[each], limit, peer.turns[each]] for each, limit in peer.abilities.items()
        ],
        "absent": [functions[function] for function in peer.absent],
        "overdue": [as_text(handle) for handle in peer.overdue],
        "excepted": None if peer.excepted is None else as_text(peer.excepted),
        "sleeping": peer.sleeping,
        "woken": peer.woken,
        "owed": as_text(b"".join(peer.ready)),
        "sent": peer.sent,
    }


def _find_rest(queues: Queues, ahead: AheadCopy) -> tuple[list[BrokerJob], list[list[Any]]]:
    """The queued jobs that were not copied, and the orders of queues in which they are not last."""
    rest: list[BrokerJob] = []
    orders: list[list[Any]] = []
    for place, function in enumerate(queues.functions.values()):
        for priority in PRIORITIES:
            jobs, are_last = ahead.rest_of(function, priority)
            rest += jobs
            if not are_last:
                live = dict.fromkeys(job for job in function.queues[priority] if job.queued)
                orders.append([place, priority, [job.number for job in live]])
    return rest, orders


def _find_others(queues: Queues, peers: Iterable[Peer]) -> Iterator[BrokerJob]:
    """The jobs that are not queued; those of a worker in the order of its grabs."""
    for peer in peers:
        yield from peer.running.values()
    if any(function.scheduled for function in queues.functions.values()):
        for job in queues.jobs:
            if not job.queued and job.worker is None:
                yield job


def _pack_queues(
    queues: Queues, functions: Mapping[Function, int], peers: Mapping[Peer, int]
) -> Section:
    changes = queues.changes
    return {
        "number": queues._number,
        "turn": queues.turn,
        "lease": queues.lease,
        "lease_over": queues.lease_over,
        "pages": list(queues.jobs.pages),
        "limits": [(job.number, deadline) for job, deadline in queues._time_limits.items()],
        "due": [entry for entry in queues._due if queues.find_scheduled(*entry)],
        "withheld": [job.number for job in queues._withheld if queues._is_set_aside(job)],
        "adopted": [
            number for number in queues.adopted.numbers if queues.find_scheduled(WHEN_READ, number)
        ],
        "reading": queues.adopted.reading,
        "progress": [
            (job.number, *map(as_text, reported)) for job, reported in queues.progress.items()
        ],
        "uniques": sorted(
            [job.number for job in found.values()]
            for found in map(queues.uniques.get, queues.uniques.shared)
            if isinstance(found, dict)
        ),
        "unused": [functions[each] for each in queues._unused if each in functions],
        "unserved": _pack_times(queues._unserved, functions),
        "freed": _pack_times(queues.restrictions.freed, functions),
        "workers": [[peers[worker] for worker in each.workers] for each in functions],
        "sleepers": [[peers[worker] for worker in each.sleepers] for each in functions],
        "starts": [
            (when, functions[each])
            for when, _, each, rate in sorted(queues.restrictions.starts)
            if each.rate is rate
        ],
        "removed": list(changes._removed),
        "rewritten": [_pack_fields(record) for record in changes.rewritten.values()],
        "delivered": list(changes._delivered.items()),
    }


def _pack_times(
    times: Mapping[Function, float], functions: Mapping[Function, int]
) -> list[tuple[int, float]]:
    return [(functions[each], since) for each, since in times.items() if each in functions]
