"""Jobs as columns of plain values: there may be millions. See gearman_py.broker.snapshot."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gearman_py.broker.failed_jobs import FailedJob
from gearman_py.broker.kept_results import KeptResult
from gearman_py.broker.queues import Queues
from gearman_py.broker.state import BrokerJob, Function, Peer

# A section has at most this many jobs, or this many bytes of workloads and one job.
SECTION_JOBS = 4096
SECTION_BYTES = 2**20
BACKGROUND, QUEUED, DIGIT = 4, 8, ord("0")  # how flags of a job add up to one character

Section = dict[str, Any]
Job = TypeVar("Job", BrokerJob, FailedJob, KeptResult)


def as_text(data: bytes) -> str:
    """Bytes, one character each."""
    return data.decode("latin-1")


def split_jobs(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """The jobs of each section."""
    part: list[Job] = []
    size = 0
    for job in jobs:
        part.append(job)
        size += len(job.result if isinstance(job, KeptResult) else job.workload)
        if len(part) == SECTION_JOBS or size >= SECTION_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def pack_jobs(
    queues: Queues,
    jobs: Sequence[BrokerJob],
    functions: Mapping[Function, int],
    peers: Mapping[Peer, int],
) -> Section:
    """These jobs, with the places of their functions and peers."""
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
        "unindexed": _find_unindexed(queues, jobs),
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
