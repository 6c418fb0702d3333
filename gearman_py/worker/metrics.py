"""What a worker tells Prometheus, at an address or in a file for a collector of node_exporter.

https://github.com/prometheus/node_exporter#textfile-collector: its folder takes any number of
files, so one scrape of a host finds all of its workers.
"""

import os
import socket
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Lock

from gearman_py import __version__
from gearman_py.exposition import Distribution, Sample, render_family
from gearman_py.protocol.text import label_of
from gearman_py.worker.executor import END_REASONS
from gearman_py.worker.job import Outcome, WorkerJob
from gearman_py.worker.pool import WorkerPool
from gearman_py.worker.reload import count_reloads

# Seconds: upper bounds of how long jobs run, as those of the job server's metrics.
RUN_BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1800.0),
)
OUTCOMES = {"complete": "complete", "failed": "failed", "given back": "given_back"}
MODE = 0o644  # node_exporter is another user


class OutcomeCounts:
    """Jobs by function and outcome, and how long they took; of any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ended = Counter[tuple[str, str]]()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def note_outcome(self, job: WorkerJob, outcome: Outcome) -> None:
        """Count a job: a hook for Worker.on_outcome()."""
        with self._lock:
            self._ended[job.function, OUTCOMES[outcome.how]] += 1
            buckets = self._buckets.setdefault(job.function, [0] * (len(RUN_BOUNDS) + 1))
            buckets[bisect_left(RUN_BOUNDS, outcome.seconds)] += 1
            before = self._seconds.get(job.function, 0.0)
            self._seconds[job.function] = before + outcome.seconds

    def ended(self) -> list[Sample]:
        with self._lock:
            return [((_label(name), how), count) for (name, how), count in self._ended.items()]

    def run_times(self) -> list[Sample]:
        with self._lock:
            return [
                ((_label(function),), _distribution(buckets, self._seconds[function]))
                for function, buckets in self._buckets.items()
            ]


def _label(function: str) -> str:
    """As job servers label it."""
    return label_of(function.encode(errors="surrogateescape"))


def _distribution(buckets: list[int], seconds: float) -> Distribution:
    *within, total = accumulate(buckets)
    return Distribution(RUN_BOUNDS, tuple(within), total, seconds)


Read = Callable[["WorkerMetrics"], Iterable[Sample]]


@dataclass(frozen=True)
class WorkerMetric:
    """A row of the table; ``labels`` are those beside ``worker``."""

    name: str
    kind: str
    help: str
    read: Read
    own_labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return ("worker", *self.own_labels)


class WorkerMetrics:
    """The metrics of a running worker, and their file, if it has one.

    The label ``worker`` is the file's name without a suffix; without a file, the worker's host.
    """

    def __init__(self, path: Path | None, pool: WorkerPool, outcomes: OutcomeCounts) -> None:
        self.path = path
        self._name = path.stem if path else socket.gethostname()
        self._writing = Lock()
        self._started = time.time()
        self.pool = pool
        self.outcomes = outcomes

    @property
    def started(self) -> float:
        """In seconds since 1970."""
        return self._started

    def render(self) -> bytes:
        """The metrics as text."""
        parts: list[bytes] = []
        for metric in WORKER_METRICS:
            samples = [((self._name, *labels), value) for labels, value in metric.read(self)]
            parts += render_family(metric, samples)
        return b"".join(parts)

    def write(self) -> None:
        """Replace the file, unless it was removed for good. Raises OSError."""
        with self._writing:
            if self.path is None:
                return
            new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            with open(new, "wb", opener=_open_readable) as file:
                file.write(self.render())
            new.replace(self.path)

    def remove(self) -> None:
        """Remove the file for good: a worker that was stopped has none. Raises OSError."""
        with self._writing:  # a thread may be about to replace it
            path, self.path = self.path, None
        if path is not None:
            path.unlink(missing_ok=True)


def _open_readable(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, MODE)
    os.fchmod(descriptor, MODE)  # whatever the umask is
    return descriptor


def _one(read: Callable[[WorkerMetrics], int | float]) -> Read:
    return lambda metrics: [((), read(metrics))]


def _memory(metrics: WorkerMetrics) -> list[Sample]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = metrics.pool.members.resident_memory
    return [(("worker",), pages * os.sysconf("SC_PAGE_SIZE")), (("children",), children)]


def _ended_processes(metrics: WorkerMetrics) -> list[Sample]:
    ended = metrics.pool.members.ended_processes
    return [((why,), ended[why]) for why in END_REASONS]


WORKER_METRICS = (
    WorkerMetric(
        "gearman_worker_info",
        "gauge",
        "The worker's version.",
        lambda _: [((__version__,), 1)],
        ("version",),
    ),
    WorkerMetric(
        "gearman_worker_start_time_seconds",
        "gauge",
        "When the worker started, in seconds since 1970; a reload starts another.",
        _one(lambda metrics: metrics.started),
    ),
    WorkerMetric(
        "gearman_worker_reloads_total",
        "counter",
        "Reloads since the worker was first started.",
        _one(lambda _: count_reloads()),
    ),
    WorkerMetric(
        "gearman_worker_written_seconds",
        "gauge",
        "When this was written, in seconds since 1970.",
        _one(lambda _: time.time()),
    ),
    WorkerMetric(
        "gearman_worker_jobs_total",
        "counter",
        "Jobs by how they ended: complete, failed or given_back (to the job server).",
        lambda metrics: metrics.outcomes.ended(),
        ("function", "outcome"),
    ),
    WorkerMetric(
        "gearman_worker_job_seconds",
        "histogram",
        "How long jobs took in the worker, retries included.",
        lambda metrics: metrics.outcomes.run_times(),
        ("function",),
    ),
    WorkerMetric(
        "gearman_worker_slots",
        "gauge",
        "Jobs that the worker can run at a time.",
        _one(lambda metrics: len(metrics.pool.members.slots)),
    ),
    WorkerMetric(
        "gearman_worker_slots_busy",
        "gauge",
        "Slots that have a job, or to which one may be on its way.",
        _one(lambda metrics: metrics.pool.members.busy),
    ),
    WorkerMetric(
        "gearman_worker_healthy",
        "gauge",
        "1: each slot makes progress or runs a job; 0: the worker is stuck.",
        _one(lambda metrics: int(metrics.pool.members.is_healthy)),
    ),
    WorkerMetric(
        "gearman_worker_servers",
        "gauge",
        "Job servers that the worker is to be registered with.",
        _one(lambda metrics: metrics.pool.server_count),
    ),
    WorkerMetric(
        "gearman_worker_servers_registered",
        "gauge",
        "Job servers that the worker is registered with.",
        _one(lambda metrics: metrics.pool.members.registered_servers),
    ),
    WorkerMetric(
        "gearman_worker_processes_ended_total",
        "counter",
        "Child processes that ended: died, time_limit, max_jobs or max_memory.",
        _ended_processes,
        ("reason",),
    ),
    WorkerMetric(
        "gearman_worker_memory_bytes",
        "gauge",
        "Resident memory of the worker's own process, and of its children together.",
        _memory,
        ("process",),
    ),
)
"""docs/metrics.md is kept from this table."""
