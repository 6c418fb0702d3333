"""A job server that is drained: installed, stopped, and not started at boot."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import File
from provision.resources.former_units import format_jobs
from provision.resources.schedules import PLACED
from provision.resources.unit import UnitFile, unit_change

WHY = "it is drained"
RUNNING = ("active", "activating", "reloading", "deactivating")


@dataclass(frozen=True)
class DrainedServer(Resource):
    """No job server runs, and it holds no jobs: they were moved, or are in a shared database.

    ``files``: those of its units, the socket's first. ``marker`` says that it is drained.
    ``command`` moves the jobs in ``folder`` to ``servers``, and stops it; without one, it is only
    stopped. ``admin``: the socket at which it is asked.
    """

    units: tuple[str, str]
    files: tuple[UnitFile, UnitFile]
    marker: File
    folder: str
    admin: str
    servers: tuple[str, ...]
    command: tuple[str, ...]

    def questions(self) -> Iterable[Question]:
        return [*(("unit", name) for name in self.units), self._queue_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = {name: answers["unit", name] for name in self.units}
        runs = [name for name, unit in found.items() if unit and unit["active"] in RUNNING]
        boots = [name for name, unit in found.items() if unit and unit["enabled"] == "enabled"]
        queue = answers[self._queue_question] if self.command else None
        jobs = queue["jobs"] if queue else {}
        if jobs and not self.servers:
            yield Problem(f"its job server holds {format_jobs(jobs)}, and no other can take them")
        elif self.command and (jobs or runs):
            summary = f"stop {' and '.join(self.units)}"
            if jobs:
                summary = f"move {format_jobs(jobs)} to {', '.join(self.servers)} and {summary}"
            arguments = {"folder": self.folder, "admin": self.admin, "command": list(self.command)}
            yield Change("-", summary, Operation("drain_server", arguments), WHY)
        else:
            for name in self.units:
                if name in runs or name in boots:
                    action = "stop" if name in runs else None
                    yield unit_change("-", name, action, False if name in boots else None, WHY)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset(f"unit:{name}" for name in self.units)

    @property
    def needs(self) -> frozenset[str]:
        """The mark is there before it is stopped, so that nothing starts it again meanwhile."""
        files = frozenset[str]().union(*(each.provides for each in self.files))
        return files | self.marker.provides | {PLACED}  # its schedules are others' by then

    @property
    def _queue_question(self) -> Question:
        return ("queue", self.folder, self.admin)
