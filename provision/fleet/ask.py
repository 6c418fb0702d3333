"""The same asked of every host of an inventory: answers in its order, failures told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from provision.errors import ToolkitError
from provision.fleet import pool
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.options import Options
from provision.report.events import Failed
from provision.report.reporter import reporter

Answer = TypeVar("Answer")


class AskAll:
    """``status``: the worst of the hosts that failed, as an exit status."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.hosts = inventory.load(folder, options.limit).hosts
        self.report = reporter(options, [host.name for host in self.hosts])
        self.status = 0
        self._parallel = options.parallel

    def answers(self, ask: Callable[[Host], Answer]) -> Iterator[tuple[Host, Answer]]:
        """Every host that answered; of the others the failure is shown instead."""
        found = dict(pool.each(self.hosts, ask, self._parallel))
        for host in self.hosts:
            answer = found[host]
            if isinstance(answer, ToolkitError):
                self.report.show(Failed(host.name, answer, 0))
                self.status = max(self.status, answer.status)
            else:
                yield host, answer
