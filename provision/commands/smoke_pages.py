"""What a smoke test looks at besides jobs: the metrics of each job server, and the dashboards.

They are asked by the client host, as an ordinary user; a dashboard on loopback by its own host.
"""

import shlex
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol

from provision.distributions import opening_advice
from provision.errors import ToolkitError
from provision.fetch_page import PROGRAM, not_a_page
from provision.inventory.drained import serving_hosts
from provision.inventory.host import Host, Inventory
from provision.inventory.places import is_page_public, metrics_url, page_url
from provision.invoke_line import invoke_line
from provision.report.events import Checked
from provision.resources.dashboard import TITLE
from provision.ssh import connection as transport

METRIC = b"\ngearman_up 1"


class CommandResult(Protocol):
    """How a command on a host ended."""

    @property
    def status(self) -> int: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


Run = Callable[[str, bytes], CommandResult]
"""Runs a shell command on a host, as its ordinary user, with these bytes as stdin."""

Judge = Callable[[bytes], str | None]
"""What is wrong with an answer; None: nothing."""


def check_pages(known: Inventory, client: Host, run: Run) -> Iterator[Checked]:
    """Fetch them one after the other. ``run``: on the client host."""
    for host in serving_hosts(known):
        if url := metrics_url(host):
            opening = opening_advice(host.variables["gearman_metrics_port"])
            logs = invoke_line("logs", "gearmand", "--limit", host.name)
            cure = f"{logs}; on {host.name}: {opening}"
            yield _check_page(f"metrics of {host.name}", cure, client, run, url, _judge_metrics)
    for host in known.group("dashboard"):
        name = f"dashboard of {host.name}"
        cure = invoke_line("logs", "gearman-web", "--limit", host.name)
        if is_page_public(host):
            yield _check_page(name, cure, client, run, page_url(host), _judge_page)
            continue
        start = monotonic()
        try:
            with transport.connect(host) as connection:
                yield _check_page(name, cure, host, connection.run, page_url(host), _judge_page)
        except ToolkitError as error:
            yield Checked(
                name, monotonic() - start, str(error), invoke_line("doctor", "--limit", host.name)
            )


def _check_page(name: str, cure: str, asker: Host, run: Run, url: str, judge: Judge) -> Checked:
    start = monotonic()
    # A login shell: its environment names the files for TLS.
    done = run(f"sh -lc {shlex.quote(shlex.join([asker.python, '-', url]))}", PROGRAM)
    if done.status:
        problem: str | None = done.stderr.decode(errors="replace").strip()
        problem = problem or f"python ended with {done.status}"
    else:
        problem = judge(done.stdout)
    return Checked(name, monotonic() - start, problem, cure if problem else "")


def _judge_metrics(content: bytes) -> str | None:
    return None if METRIC in content else f"expected metrics, got {content[:80]!r}"


def _judge_page(content: bytes) -> str | None:
    return not_a_page(TITLE, content)
