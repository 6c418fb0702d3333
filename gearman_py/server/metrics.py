"""The values of the metrics table, in the two formats that Prometheus reads.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (OpenMetrics 1.0).
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from gearman_py.server.listener import Listener
from gearman_py.server.metric import Distribution, Labels, Metric, Sample, Value
from gearman_py.server.metrics_table import METRICS

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# A function takes some eight lines of gauges. Those beyond this number are added up as
# function="other", so that a client that makes up names does not fill Prometheus' database.
MAX_FUNCTIONS_SHOWN = 10_000
SLICE = 500  # functions that are read at a time; jobs are served in between
OTHER = "other"

Values = dict[str, dict[Labels, Value]]


async def collect(listener: Listener) -> list[tuple[Metric, list[Sample]]]:
    """Return the values of all metrics; the event loop runs between slices of functions."""
    found: Values = {metric.name: {} for metric in METRICS}
    functions = listener.broker.queues.functions
    names = list(functions)
    for start in range(0, len(names), SLICE):
        for number, name in enumerate(names[start : start + SLICE], start):
            if function := functions.get(name):  # else it was forgotten meanwhile
                label = decode_name(name) if number < MAX_FUNCTIONS_SHOWN else OTHER
                for metric in METRICS:
                    if metric.of_function is not None:
                        samples = metric.of_function(function, listener)
                        _merge(found[metric.name], label, samples, largest=metric.largest)
        await asyncio.sleep(0)
    counted = listener.broker.queues.counts
    groups = [*counted.functions.values(), counted.others]
    for start in range(0, len(groups), SLICE):
        for counts in groups[start : start + SLICE]:
            if counts is not counted.others or not counts.unused:
                for metric in METRICS:
                    if metric.of_counts is not None:
                        label = decode_name(counts.name)
                        _merge(found[metric.name], label, metric.of_counts(counts))
        await asyncio.sleep(0)
    for metric in METRICS:
        if metric.of_server is not None:
            found[metric.name].update(metric.of_server(listener))
    return [(metric, list(found[metric.name].items())) for metric in METRICS]


def _merge(
    values: dict[Labels, Value], label: str, samples: Iterable[Sample], *, largest: bool = False
) -> None:
    """Add a function's values to those under the same label."""
    for labels, value in samples:
        key = (label, *labels)
        known = values.get(key, 0)
        if isinstance(known, Distribution) and isinstance(value, Distribution):
            values[key] = known + value
        elif isinstance(known, Distribution) or isinstance(value, Distribution):
            values[key] = value
        else:
            values[key] = max(known, value) if largest else known + value


def render(
    families: Iterable[tuple[Metric, Sequence[Sample]]], *, openmetrics: bool
) -> Iterator[bytes]:
    """Yield the values as text, in parts of some hundred lines."""
    for metric, values in families:
        family = metric.name.removesuffix("_total") if openmetrics else metric.name
        yield f"# HELP {family} {metric.help}\n# TYPE {family} {metric.kind}\n".encode()
        for start in range(0, len(values), SLICE):
            lines = (
                line
                for labels, value in values[start : start + SLICE]
                for line in _format_sample(metric, labels, value)
            )
            yield "".join(lines).encode()
    if openmetrics:
        yield b"# EOF\n"


def _format_sample(metric: Metric, labels: Labels, value: Value) -> Iterator[str]:
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


def decode_name(name: bytes) -> str:
    """Return a function's name as a label."""
    return name.decode(errors="backslashreplace")
