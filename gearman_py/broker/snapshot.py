"""The state of a broker as plain values, for a broker in another process that takes its place.

A snapshot is a sequence of sections, each an object that JSON can represent; bytes are text of
Latin-1 characters. Jobs are columns, since there may be millions. Times are those of the system's
monotonic clock, which both processes read. What is computed from settings or from other values is
left out. See gearman_py.broker.restore for the inverse.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from gearman_py.broker.counts import BrokerCounts, Counts, Durations
from gearman_py.broker.failed_jobs import FailedJob
from gearman_py.broker.queues import Queues
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Function, Peer

FORMAT = 2  # to be increased when a reader of the previous format would misunderstand a snapshot
# A section has at most this many jobs, or this many bytes of workloads and one job.
SECTION_JOBS = 4096
SECTION_BYTES = 2**20
SECTION_PEERS = 256
BACKGROUND, QUEUED, DIGIT = 4, 8, ord("0")  # how flags of a job add up to one character

Section = dict[str, Any]
Job = TypeVar("Job", BrokerJob, FailedJob)


def as_text(data: bytes) -> str:
    """Bytes, one character each."""
    return data.decode("latin-1")


def take_snapshot(broker: Rules, peers: Sequence[Peer], now: float) -> Iterator[Section]:
    """The sections, in which ``peers`` are numbered in this order; others are taken for gone.

    No answer may wait for a commit, and the broker must not be used until the last section.
    """
    _finish_slices(broker, now)
    queues = broker.queues
    functions = {function: place for place, function in enumerate(queues.functions.values())}
    places = {peer: place for place, peer in enumerate(peers)}
    leaving = [peer for peer in broker.peers if peer not in places]
    for peer in leaving:
        places[peer] = len(places)
    yield {
        "format": FORMAT,
        "prefix": as_text(queues._prefix),
        "durable": queues.durable,
        "functions": [
            {
                "name": as_text(each.name),
                "limits": each.limits,
                "paused": each.paused,
                "max_running": each.max_running,
                "rate": str(each.rate or ""),
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
        "counts": _pack_counts(queues.counts),
    }
    for start in range(0, len(places), SECTION_PEERS):
        part = list(places)[start : start + SECTION_PEERS]
        yield {"peers": [_pack_peer(peer, functions) for peer in part]}
    for jobs in _split_jobs(_ordered_jobs(queues)):
        yield _pack_jobs(jobs, functions, places) | {"unindexed": _find_unindexed(queues, jobs)}
    for failed in _split_jobs(queues.failed):
        yield {"failed": [_pack_fields(job) for job in failed]}
    yield _pack_queues(queues, functions, places)


def _pack_fields(fields: Iterable[Any]) -> list[Any]:
    return [as_text(value) if isinstance(value, bytes) else value for value in fields]


def _finish_slices(broker: Rules, now: float) -> None:
    """Finish what is done in slices while peers are served."""
    queues = broker.queues
    while queues._leaving or broker._deserted:
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
        "client_id": as_text(peer.client_id),
        "exceptions": peer.exceptions,
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


def _ordered_jobs(queues: Queues) -> Iterator[BrokerJob]:
    """All jobs: those of a queue in its order, those of a worker in the order of its grabs."""
    for function in queues.functions.values():
        for job in chain(*function.queues):
            if job.queued:
                yield job
    for worker in dict.fromkeys(job.worker for job in queues.jobs if job.worker):
        yield from worker.running.values()
    for job in queues.jobs:
        if not job.queued and job.worker is None:
            yield job


def _split_jobs(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    part: list[Job] = []
    size = 0
    for job in jobs:
        part.append(job)
        size += len(job.workload)
        if len(part) == SECTION_JOBS or size >= SECTION_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _pack_jobs(
    jobs: Sequence[BrokerJob], functions: Mapping[Function, int], peers: Mapping[Peer, int]
) -> Section:
    times: dict[float, int] = {}  # many jobs share one
    return {
        "numbers": [job.number for job in jobs],
        "function": [functions[job.function] for job in jobs],
        "flags": bytes(
            [
                DIGIT + job.priority + BACKGROUND * job.background + QUEUED * job.queued
                for job in jobs
            ]
        ).decode(),
        "since": [times.setdefault(job.since, len(times)) for job in jobs],
        "times": list(times),
        "unique": [len(job.unique) for job in jobs],
        "uniques": as_text(b"".join([job.unique for job in jobs])),
        "workload": [len(job.workload) for job in jobs],
        "workloads": as_text(b"".join([job.workload for job in jobs])),
        "retries": [(place, job.retries) for place, job in enumerate(jobs) if job.retries],
        "reducers": [
            (place, as_text(job.reducer)) for place, job in enumerate(jobs) if job.reducer
        ],
        "workers": [(place, peers[job.worker]) for place, job in enumerate(jobs) if job.worker],
        "clients": [
            (place, [peers[client] for client in job.clients])
            for place, job in enumerate(jobs)
            if job.clients
        ],
    }


def _find_unindexed(queues: Queues, jobs: Sequence[BrokerJob]) -> list[int]:
    """Those that later submissions do not join: others have their uniques (Queues.restore)."""
    if not queues.durable:
        return []
    find = queues.uniques.find
    return [
        place
        for place, job in enumerate(jobs)
        if (key := job.key) and find(key, job.function) is not job
    ]


def _pack_queues(
    queues: Queues, functions: Mapping[Function, int], peers: Mapping[Peer, int]
) -> Section:
    live = queues.jobs.get
    changes = queues.changes
    return {
        "number": queues._number,
        "turn": queues.turn,
        "lease": queues.lease,
        "lease_over": queues.lease_over,
        "pages": list(queues.jobs.pages),
        "limits": [(job.number, deadline) for job, deadline in queues._time_limits.items()],
        "due": [(due, number) for due, number in queues._due if live(number)],
        "withheld": [job.number for job in queues._withheld if queues._is_set_aside(job)],
        "progress": [
            (job.number, *map(as_text, reported)) for job, reported in queues.progress.items()
        ],
        "uniques": sorted(
            [job.number for job in found.values()]
            for found in queues.uniques.values()
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
