"""The panels of figures with a line of history each, for all functions or for one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from gearman_py.web.charts import Chart, Series, draw_chart
from gearman_py.web.counters import Counters
from gearman_py.web.fleet import Fleet, FunctionRow
from gearman_py.web.formats import (
    format_count,
    format_number,
    format_rate,
    format_seconds,
    format_share,
)
from gearman_py.web.history import Resolution, Step

Read = Callable[[Step, float], float | None]

# The panels of what C gearmand does not tell, as it counts no jobs.
NOT_OF_C = ("Jobs in", "Done", "Failing", "Oldest", "Wait", "Run time")


class Panel(NamedTuple):
    """A figure, what it is, what belongs to it, and its line."""

    title: str
    figure: str
    unit: str
    note: str
    chart: Chart


def _per_second(name: str) -> Read:
    return lambda step, seconds: getattr(step, name) / seconds


def _gauge(name: str) -> Read:
    return lambda step, seconds: float(getattr(step, name))


def _failed_share(step: Step, seconds: float) -> float:
    ended = step.completed + step.failed
    return step.failed / ended if ended else 0.0


def _mean_run(step: Step, seconds: float) -> float | None:
    ended = step.completed + step.failed
    return step.run_seconds / ended if ended else None


def _mean_wait(step: Step, seconds: float) -> float | None:
    return step.wait_seconds / step.started if step.started else None


def add_up(steps: Sequence[Step]) -> Counters:
    """What happened within all of the steps."""
    names = (
        "accepted",
        "started",
        "completed",
        "failed",
        "requeued",
        "wait_seconds",
        "run_seconds",
    )
    sums = {name: sum(getattr(step, name) for step in steps) for name in names}
    return Counters(**sums)


def make_panels(
    fleet: Fleet, row: FunctionRow, steps: Sequence[Step], resolution: Resolution
) -> list[Panel]:
    """The panels of a function, or of all of them together."""
    told = fleet.counts(row.name)
    draw = partial(_draw_line, steps=steps, resolution=resolution, now=fleet.when)
    count = draw if told else partial(draw, steps=())
    stats, minute, past = row.stats, row.minute, add_up(steps)
    within = f"in the {resolution.label}"
    return [
        Panel(
            *("Jobs in", format_rate(fleet.rate(minute.accepted)), "a second"),
            f"{format_number(past.accepted)} {within}",
            count("Jobs in, a second", "in", _per_second("accepted"), format_rate, 0),
        ),
        Panel(
            *("Done", format_rate(fleet.rate(minute.completed)), "a second"),
            f"{format_number(past.completed)} {within}",
            count("Jobs done, a second", "done", _per_second("completed"), format_rate, 0),
        ),
        Panel(
            *("Failing", format_share(row.recent.failed_share), "in 15 min"),
            f"{format_number(past.failed)} failed {within}",
            count("Share of jobs that failed", "failed", _failed_share, format_share, 0.01),
        ),
        Panel(
            *("Waiting", format_number(stats.waiting), "job" if stats.waiting == 1 else "jobs"),
            f"{format_number(stats.running)} running"
            + (f", {format_number(stats.scheduled)} for later" if told else ""),
            draw("Jobs waiting", "waiting", _gauge("waiting"), format_number, 4),
        ),
        Panel(
            *("Oldest", format_seconds(stats.oldest_seconds or None), ""),
            f"{format_seconds(past.mean_wait)} average wait"
            if past.started
            else "waiting for a worker",
            count("Age of the oldest job", "oldest", _gauge("oldest_seconds"), format_seconds, 1),
        ),
        _worker_panel(fleet, row, draw),
    ]


def mark_untold(fleet: Fleet, row: FunctionRow, panels: Sequence[Panel]) -> list[Panel]:
    """The panels, which say what is not known: what happens at job servers that count nothing."""
    untold = len(fleet.of_c(row.name))
    if not untold:
        return list(panels)
    if fleet.counts(row.name):
        note = f"without {format_count(untold, 'C gearmand')}"
        return [
            each._replace(note=f"{each.note}, {note}") if each.title in NOT_OF_C else each
            for each in panels
        ]
    return [
        each._replace(figure=format_seconds(None), unit="", note="not known: C gearmand")
        if each.title in NOT_OF_C
        else each
        for each in panels
    ]


def _worker_panel(fleet: Fleet, row: FunctionRow, draw: Callable[..., Chart]) -> Panel:
    hosts = len({worker.address for worker in fleet.workers})
    busy = f"{format_number(row.stats.running)} run a job"
    note = busy if row.name else f"on {format_count(hosts, 'host')}"
    chart = draw("Workers", "workers", _gauge("workers"), format_number, 2)
    one = row.stats.workers == 1
    unit = ("slot" if one else "slots") if row.name else ("process" if one else "processes")
    return Panel("Workers", format_number(row.stats.workers), unit, note, chart)


def time_panels(
    fleet: Fleet, row: FunctionRow, steps: Sequence[Step], resolution: Resolution
) -> list[Panel]:
    """How long the jobs of a function wait and run, as panels."""
    known = steps if fleet.counts(row.name) else ()
    draw = partial(_draw_line, steps=known, resolution=resolution, now=fleet.when)
    past = add_up(steps)
    within = f"in the {resolution.label}"
    return [
        Panel(
            *("Wait", format_seconds(row.minute.mean_wait), "on average"),
            f"{format_seconds(past.mean_wait)} {within}",
            draw("Wait before the start", "oldest", _mean_wait, format_seconds, 0.001),
        ),
        Panel(
            *("Run time", format_seconds(row.minute.mean_run), "on average"),
            f"{format_seconds(past.mean_run)} {within}",
            draw("Run time", "run", _mean_run, format_seconds, 0.001),
        ),
    ]


def _draw_line(
    title: str,
    kind: str,
    read: Read,
    form: Callable[[float], str],
    ceiling: float,
    steps: Sequence[Step],
    resolution: Resolution,
    now: float,
) -> Chart:
    line = Series(title, kind, read)
    return draw_chart(title, [line], steps, resolution, now, form, ceiling=ceiling)
