"""The values of the metrics table."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from gearman_py.exposition import Distribution, Labels, Sample, Value, render_family
from gearman_py.protocol.text import OTHERS, label_of
from gearman_py.server.listener import Listener
from gearman_py.server.metric import Metric
from gearman_py.server.metrics_table import METRICS

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# A function takes some eight lines of gauges. Those beyond this number are added up as
# function="(other)", so that a client that makes up names does not fill Prometheus' database.
MAX_FUNCTIONS_SHOWN = 10_000
SLICE = 500  # functions that are read at a time; jobs are served in between
OTHER = OTHERS.decode()

Values = dict[str, dict[Labels, Value]]


async def collect(listener: Listener) -> list[tuple[Metric, list[Sample]]]:
    """Return the values of all metrics; the event loop runs between slices of functions."""
    found: Values = {metric.name: {} for metric in METRICS}
    functions = listener.broker.queues.functions
    names = list(functions)
    for start in range(0, len(names), SLICE):
        for number, name in enumerate(names[start : start + SLICE], start):
            if function := functions.get(name):  # else it was forgotten meanwhile
                label = label_of(name) if number < MAX_FUNCTIONS_SHOWN else OTHER
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
                        told = counts is not counted.others
                        label = label_of(counts.name) if told else OTHER
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
        yield from render_family(metric, values, openmetrics=openmetrics)
    if openmetrics:
        yield b"# EOF\n"
