"""Metrics: their names, kinds and help, and how their values are read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gearman_py.broker.counts import Counts, Durations
from gearman_py.broker.state import Function
from gearman_py.exposition import Distribution, Sample, Value
from gearman_py.server.listener import Listener


def distribution_of(durations: Durations) -> Distribution:
    """What was measured so far."""
    durations.settle()
    within = tuple(durations.cumulated)
    return Distribution(tuple(durations.bounds), within, durations.total, durations.seconds)


@dataclass(frozen=True)
class Metric:
    """A metric of the job server as a whole, or of each function where ``of_function`` or
    ``of_counts`` reads it.

    ``kind`` is "gauge", "counter" or "histogram"; a counter's name ends in ``_total``. Values of
    functions that share a label are added up, or their ``largest`` is taken.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    of_server: Callable[[Listener], Iterable[Sample]] | None = None
    of_function: Callable[[Function, Listener], Iterable[Sample]] | None = None
    of_counts: Callable[[Counts], Iterable[Sample]] | None = None
    largest: bool = False

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its time series in Prometheus."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


def in_queue(
    name: str, help_: str, read: Callable[[Function], int], *, zero: bool = True
) -> Metric:
    """A gauge of each function; with ``zero=False``, of those where it is not 0."""

    def of_function(function: Function, _: Listener) -> list[Sample]:
        value = read(function)
        return [((), value)] if value or zero else []

    return Metric(name, "gauge", help_, ("function",), of_function=of_function)


def per_function(
    name: str, help_: str, read: Callable[[Counts], Value] | str, kind: str = "counter"
) -> Metric:
    """A metric of each function: the count of an event, or what ``read`` returns."""
    if isinstance(read, str):
        event = read
        return Metric(name, kind, help_, ("function",), of_counts=lambda all_: [((), all_[event])])
    return Metric(name, kind, help_, ("function",), of_counts=lambda all_: [((), read(all_))])


def by_reason(name: str, help_: str, *reasons: str) -> Metric:
    return Metric(
        name,
        "counter",
        help_,
        ("function", "reason"),
        of_counts=lambda all_: [((reason,), all_[reason]) for reason in reasons],
    )


def per_server(
    name: str, kind: str, help_: str, read: Callable[[Listener], Value | None]
) -> Metric:
    """A metric of the job server as a whole; without a sample where ``read`` returns None."""

    def of_server(listener: Listener) -> list[Sample]:
        value = read(listener)
        return [] if value is None else [((), value)]

    return Metric(name, kind, help_, (), of_server)
