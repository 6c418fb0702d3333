"""Metrics as text, in the two formats that Prometheus reads.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (OpenMetrics 1.0).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

SLICE = 500  # samples in one part of the text


@dataclass(frozen=True)
class Distribution:
    """A histogram: durations at most each of ``bounds`` (cumulative), their total number and sum.

    Bounds and sum are in seconds.
    """

    bounds: tuple[float, ...]
    within: tuple[int, ...]
    total: int
    seconds: float

    def __add__(self, other: "Distribution") -> "Distribution":
        within = tuple(map(sum, zip(self.within, other.within, strict=True)))
        total, seconds = self.total + other.total, self.seconds + other.seconds
        return Distribution(self.bounds, within, total, seconds)


Value = int | float | Distribution
Labels = tuple[str, ...]
Sample = tuple[Labels, Value]


class Family(Protocol):
    """A metric: ``kind`` is "gauge", "counter" or "histogram"; a counter ends in ``_total``."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


def render_family(
    metric: Family, samples: Sequence[Sample], *, openmetrics: bool = False
) -> Iterator[bytes]:
    """Yield a metric with its samples, in parts of some hundred lines."""
    family = metric.name.removesuffix("_total") if openmetrics else metric.name
    yield f"# HELP {family} {metric.help}\n# TYPE {family} {metric.kind}\n".encode()
    for start in range(0, len(samples), SLICE):
        lines = (
            line
            for labels, value in samples[start : start + SLICE]
            for line in _format_sample(metric, labels, value)
        )
        yield "".join(lines).encode()


def _format_sample(metric: Family, labels: Labels, value: Value) -> Iterator[str]:
    pairs = _format_pairs(metric.labels, labels)
    if not isinstance(value, Distribution):
        yield f"{metric.name}{_in_braces(pairs)} {_format_number(value)}\n"
        return
    bounds = [*map(str, value.bounds), "+Inf"]
    for bound, number in zip(bounds, (*value.within, value.total), strict=True):
        within = _in_braces([*pairs, f'le="{bound}"'])
        yield f"{metric.name}_bucket{within} {number}\n"
    yield f"{metric.name}_sum{_in_braces(pairs)} {value.seconds!r}\n"
    yield f"{metric.name}_count{_in_braces(pairs)} {value.total}\n"


def _format_pairs(names: Sequence[str], values: Labels) -> list[str]:
    return [f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True)]


def _in_braces(pairs: Sequence[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _format_number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(int(value))
