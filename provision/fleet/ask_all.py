"""The same asked of every host of an inventory: answers in its order, failures told."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from provision.errors import ToolkitError
from provision.fleet import pool
from provision.fleet.host_run import HostRun
from provision.fleet.run import Connect, Run
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.options import Options
from provision.report.events import Event, Failed
from provision.report.reporter import make_reporter

Answer = TypeVar("Answer")


def host_failed(host: Host, error: ToolkitError) -> Event:
    return Failed(host.name, error, 0)


class AskAll:
    """Many hosts, asked with sessions that are closed at the end, by an interrupt too.

    ``status``: the worst of the hosts that failed, as an exit status.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        *,
        connect: Connect = pool.connect,
        to_event: Callable[[Host, ToolkitError], Event] = host_failed,
    ) -> None:
        self.inventory = inventory.load(folder, options.limit)
        self.hosts = self.inventory.hosts
        self.report = make_reporter(options, [host.name for host in self.hosts])
        for text in self.inventory.warnings:
            self.report.say(text)
        self.failed: list[Host] = []
        self.status = 0
        self.connect = connect
        self._to_event = to_event
        self._parallel = options.parallel

    def answers(
        self, ask: Callable[[Host, Connect], Answer], *, in_order: bool = True
    ) -> Iterator[tuple[Host, Answer]]:
        """Every host that answered; of the others the failure is shown instead.

        ``ask`` gets a host and how to connect to it.
        """
        results = self.results(ask)
        if in_order:
            found = dict(results)
            results = ((host, found[host]) for host in self.hosts)
        for host, result in results:
            if isinstance(result, ToolkitError):
                self.fail(host, result)
            else:
                yield host, result

    def results(
        self, ask: Callable[[Host, Connect], Answer]
    ) -> Iterator[tuple[Host, Answer | ToolkitError]]:
        """The answer or the failure of every host, as they come; nothing is shown."""
        with pool.open_sessions(self.connect) as connect:
            yield from pool.run_on_each(self.hosts, lambda host: ask(host, connect), self._parallel)

    def fail(self, host: Host, error: ToolkitError) -> None:
        """Show that a host failed, and let it count."""
        self.failed.append(host)
        self.report.show(self._to_event(host, error))
        self.status = max(self.status, error.status)


def ask_each(
    run: Run, host_runs: Sequence[HostRun], ask: Callable[[HostRun], Answer]
) -> dict[str, Answer]:
    """What hosts of a run answer, by name and in this order; of one that fails that is told."""
    found = dict(pool.run_on_each(host_runs, ask, run.options.parallel))
    answers: dict[str, Answer] = {}
    for host_run in host_runs:
        result = found[host_run]
        if isinstance(result, ToolkitError):
            run.fail(host_run.name, result)
        else:
            answers[host_run.name] = result
    return answers
