"""What a job server tells of itself to Prometheus: one table of metrics, and its two formats.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (OpenMetrics 1.0). The first six names are
those of bakins/gearman-exporter, so that dashboards made for it go on working.
"""

import asyncio
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gearman_py import __version__
from gearman_py.broker.state import Function
from gearman_py.server import memory
from gearman_py.server.listener import Listener

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Each function is some eight lines. Those beyond are added up as function="other", so that a
# client that makes names up does not fill the database of the scraper.
MOST_FUNCTIONS = 10_000
SLICE = 500  # functions that are read at a time: jobs go on in between
OTHER = "other"

Value = int | float
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """A metric of the job server as a whole, or of each function where ``of_function`` reads it.

    ``kind`` is "gauge" or "counter"; a counter's name ends in ``_total``.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    of_server: Callable[[Listener], Iterable[tuple[Labels, Value]]] | None = None
    of_function: Callable[[Function], Iterable[tuple[Labels, Value]]] | None = None


def _single(read: Callable[[Listener], Value]) -> Callable[[Listener], list[tuple[Labels, Value]]]:
    return lambda listener: [((), read(listener))]


def _count(read: Callable[[Function], int]) -> Callable[[Function], list[tuple[Labels, Value]]]:
    return lambda function: [((), read(function))]


def _waiting_by_priority(function: Function) -> list[tuple[Labels, Value]]:
    high, normal, low = function.waiting
    return [(("high",), high), (("normal",), normal), (("low",), low)]


def _cpu_seconds(listener: Listener) -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _start_time(listener: Listener) -> float:
    """proc(5): field 22 of /proc/self/stat is in clock ticks since the system's boot."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK")


METRICS = (
    Metric("gearman_up", "gauge", "1: the job server answers.", (), _single(lambda _: 1)),
    Metric(
        "gearman_version_info",
        "gauge",
        "The job server's version.",
        ("version",),
        lambda _: [((__version__,), 1)],
    ),
    Metric(
        "gearman_jobs",
        "gauge",
        "Jobs that are queued or running.",
        ("function",),
        of_function=_count(lambda function: function.total),
    ),
    Metric(
        "gearman_jobs_running",
        "gauge",
        "Jobs that workers have.",
        ("function",),
        of_function=_count(lambda function: function.running),
    ),
    Metric(
        "gearman_jobs_waiting",
        "gauge",
        "Jobs that wait for a worker, or to become due.",
        ("function",),
        of_function=_count(lambda function: function.total - function.running),
    ),
    Metric(
        "gearman_workers",
        "gauge",
        "Workers that can do the function.",
        ("function",),
        of_function=_count(lambda function: len(function.workers)),
    ),
    Metric(
        "gearman_jobs_waiting_by_priority",
        "gauge",
        "Jobs that wait for a worker.",
        ("function", "priority"),
        of_function=_waiting_by_priority,
    ),
    Metric(
        "gearman_jobs_scheduled",
        "gauge",
        "Jobs that are not due yet, or not stored yet.",
        ("function",),
        of_function=_count(lambda function: function.scheduled),
    ),
    Metric(
        "gearman_functions",
        "gauge",
        "Functions that the job server knows.",
        (),
        _single(lambda listener: len(listener.broker.queues.functions)),
    ),
    Metric(
        "gearman_connections",
        "gauge",
        "Connections of clients, workers and operators.",
        (),
        _single(lambda listener: len(listener.connections)),
    ),
    Metric(
        "gearman_accepting_jobs",
        "gauge",
        "1: new jobs are taken; 0: they are refused, see /healthz.",
        (),
        _single(lambda listener: not problem(listener)),
    ),
    Metric(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        (),
        _single(lambda _: memory.resident_bytes()),
    ),
    Metric(
        "process_cpu_seconds_total",
        "counter",
        "CPU time, user and system.",
        (),
        _single(_cpu_seconds),
    ),
    Metric(
        "process_start_time_seconds",
        "gauge",
        "When the process started, in seconds since 1970.",
        (),
        _single(_start_time),
    ),
    Metric(
        "process_open_fds",
        "gauge",
        "Open files and sockets.",
        (),
        _single(lambda _: len(os.listdir("/proc/self/fd"))),
    ),
    Metric(
        "process_max_fds",
        "gauge",
        "The limit of open files and sockets.",
        (),
        _single(lambda _: resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ),
)


def problem(listener: Listener) -> str:
    """Why the job server takes no new jobs; empty when it does."""
    queues = listener.broker.queues
    if listener.store_writer is not None and (
        listener.store_writer.broken or listener.store_writer.refusing
    ):
        return "background jobs cannot be stored"
    if queues.closed:
        return "the job server is stopping"
    if queues.full:
        return "the limit of memory is reached (--max-memory)"
    return ""


async def collect(listener: Listener) -> list[tuple[Metric, list[tuple[Labels, Value]]]]:
    """The values of all metrics; the event loop serves others between slices of functions."""
    queues = listener.broker.queues
    per_function = [metric for metric in METRICS if metric.of_function]
    found: dict[str, dict[Labels, Value]] = {metric.name: {} for metric in METRICS}
    names = list(queues.functions)
    for start in range(0, len(names), SLICE):
        for number, name in enumerate(names[start : start + SLICE], start):
            function = queues.functions.get(name)
            if function is None:  # forgotten meanwhile
                continue
            label = _text(name) if number < MOST_FUNCTIONS else OTHER
            for metric in per_function:
                assert metric.of_function is not None  # noqa: S101  # for mypy: chosen by it
                values = found[metric.name]
                for labels, value in metric.of_function(function):
                    key = (label, *labels)
                    values[key] = values.get(key, 0) + value
        await asyncio.sleep(0)
    for metric in METRICS:
        if metric.of_server is not None:
            found[metric.name].update(metric.of_server(listener))
    return [(metric, list(found[metric.name].items())) for metric in METRICS]


def render(
    families: Iterable[tuple[Metric, Sequence[tuple[Labels, Value]]]], *, openmetrics: bool
) -> Iterator[bytes]:
    """The values as text, in parts of some hundred lines."""
    for metric, values in families:
        family = metric.name.removesuffix("_total") if openmetrics else metric.name
        yield f"# HELP {family} {metric.help}\n# TYPE {family} {metric.kind}\n".encode()
        for start in range(0, len(values), SLICE):
            yield "".join(
                f"{metric.name}{_pairs(metric.labels, labels)} {_number(value)}\n"
                for labels, value in values[start : start + SLICE]
            ).encode()
    if openmetrics:
        yield b"# EOF\n"


def _pairs(names: Sequence[str], values: Labels) -> str:
    if not names:
        return ""
    pairs = zip(names, values, strict=True)
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: Value) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
