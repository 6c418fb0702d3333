"""Lines of history as SVG, drawn by the server: they need no script and no library.

A drawing is stretched to the width of its place, so it has no text; labels are HTML around it. A
script adds the values under the pointer, from ``data-values``.
"""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gearman_py.web.formats import format_moment
from gearman_py.web.history import DAY, Resolution, Step

WIDTH, HEIGHT = 600, 100  # of the drawing, in units of its own
MARKS = 4  # labels of time, at equal distances

Values = list[float | None]


class Line(NamedTuple):
    """A line of a chart: its name, the class that gives it its color, and its values."""

    name: str
    kind: str
    values: Values
    line: str
    area: str


class Chart(NamedTuple):
    """A chart: ``top`` is the value at its upper edge; ``marks`` are times along its lower one."""

    title: str
    lines: list[Line]
    top: str
    marks: list[str]
    summary: str
    data: str
    width: int = WIDTH
    height: int = HEIGHT


class Series(NamedTuple):
    """What a line shows: how its value is read from a step, given the seconds of a step."""

    name: str
    kind: str
    read: Callable[[Step, float], float | None]


def draw_chart(
    title: str,
    series: Sequence[Series],
    steps: Sequence[Step],
    resolution: Resolution,
    now: float,
    form: Callable[[float], str],
    *,
    ceiling: float | None = None,
) -> Chart:
    """A chart of the steps up to ``now``. ``form`` words a value; ``ceiling`` is the least top."""
    step = resolution.step
    last = int(now) // step * step
    first = last - resolution.span + step
    by_time = {each.at: each for each in steps}
    times = range(first, last + 1, step)
    found: list[Values] = [
        [one.read(by_time[at], _length(at, step, now)) if at in by_time else None for at in times]
        for one in series
    ]
    largest = max((value for values in found for value in values if value is not None), default=0)
    top = max(largest, ceiling or 0) or 1
    lines = [
        Line(one.name, one.kind, values, *_draw(values, top))
        for one, values in zip(series, found, strict=True)
    ]
    marks = [first + (last - first) * number // MARKS for number in range(MARKS + 1)]
    summary = "; ".join(_summarize(line, form) for line in lines)
    data = {
        "first": first,
        "step": step,
        "lines": [
            {
                "name": line.name,
                "kind": line.kind,
                "texts": [None if value is None else form(value) for value in line.values],
            }
            for line in lines
        ],
    }
    pattern = "%a %d" if resolution.span > DAY else "%H:%M"
    return Chart(
        title,
        lines,
        form(top) if largest or ceiling else "",
        [format_moment(at, pattern) for at in marks],
        f"{title}, {resolution.label}: {summary}",
        json.dumps(data, separators=(",", ":"), ensure_ascii=False),
    )


def _length(at: int, step: int, now: float) -> float:
    """The seconds of a step so far."""
    return max(1.0, min(step, now - at))


def _summarize(line: Line, form: Callable[[float], str]) -> str:
    values = [value for value in line.values if value is not None]
    if not values:
        return f"{line.name}: no values yet"
    return f"{line.name} {form(values[-1])} now, {form(min(values))} to {form(max(values))}"


def _draw(values: Values, top: float) -> tuple[str, str]:
    """The paths of the line and of the area below it; where values are missing they have gaps."""
    distance = WIDTH / max(1, len(values) - 1)
    line, area = [], []
    run: list[tuple[float, float]] = []
    for number, value in enumerate([*values, None]):
        if value is not None:
            run.append((number * distance, HEIGHT - 2 - (HEIGHT - 6) * value / top))
        elif run:
            if len(run) == 1:  # a line of no length is not drawn
                run.append((run[0][0] + distance / 2, run[0][1]))
            points = "L".join(f"{x:.1f} {y:.1f}" for x, y in run)
            line.append(f"M{points}")
            area.append(f"M{run[0][0]:.1f} {HEIGHT}L{points}L{run[-1][0]:.1f} {HEIGHT}Z")
            run = []
    return "".join(line), "".join(area)
