"""A job server that was restarted has its workers again before the next one is touched.

A reload keeps all connections. A restart ends them, and workers come back by themselves within
seconds; if the next job server were restarted before that, they would have none for a moment.
Clients come back with their next submission, and go to a server that answers.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from provision.fleet.health_check import health_resources, server_units
from provision.fleet.host_run import HostRun
from provision.remote.messages import Question, Unknown
from provision.resources.health import ServerHealth, split_server
from provision.wording import format_count

RETURN_TIMEOUT = 30.0  # seconds: those that are not back by then may have been stopped
LOOK_INTERVAL = 0.5  # seconds
TELL_AFTER = 2.0  # seconds: what takes longer is told


@contextmanager
def awaiting_workers(host_run: HostRun) -> Iterator[None]:
    """Wait for the workers of its job server, if the plan that the block applies restarts it.

    After RETURN_TIMEOUT it is told how many are missing, and the run goes on.
    """
    restarts = "restart" in server_units(host_run).values()
    before = _count_workers(host_run) if restarts else {}
    yield
    began, told = time.monotonic(), False
    while missing := _find_missing(before, host_run):
        waited = time.monotonic() - began
        workers = format_count(sum(missing.values()), "worker")
        if waited >= RETURN_TIMEOUT:
            text = ", ".join(f"{name} ({count})" for name, count in missing.items())
            host_run.report.say(
                f"{host_run.name}: {workers} did not come back to its job server within "
                f"{RETURN_TIMEOUT:g} s: {text}; going on"
            )
            return
        if waited >= TELL_AFTER and not told:
            told = True
            host_run.report.say(f"{host_run.name}: waiting for {workers} to come back")
        host_run.stopping.wait(LOOK_INTERVAL)
        host_run.go_on()


def _find_missing(before: Mapping[str, int], host_run: HostRun) -> dict[str, int]:
    """How many workers of each function are missing."""
    now = _count_workers(host_run) if before else {}
    missing = {name: count - now.get(name, 0) for name, count in before.items()}
    return {name: count for name, count in missing.items() if count > 0}


def _count_workers(host_run: HostRun) -> dict[str, int]:
    """The workers of each function, as its job server says; none if it does not answer."""
    found = dict[str, int]()
    for health in health_resources(host_run):
        if isinstance(health, ServerHealth):
            question: Question = ("server", *split_server(health.server))
            answer = host_run.session.survey([question])[question]
            if not isinstance(answer, Unknown):
                functions = answer.get("functions", {})
                found |= {name: row["workers"] for name, row in functions.items()}
    return {name: count for name, count in found.items() if count}
