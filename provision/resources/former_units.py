"""Units of ours that the inventory does not name any more: stopped, disabled, removed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import removal_change
from provision.resources.unit import FOLDER, RELOAD, unit_change
from provision.wording import format_count

WHY = "the inventory does not have it"


@dataclass(frozen=True)
class FormerUnits(Resource):
    """No unit of ours whose name matches ``pattern``, but those ``wanted``, and those of ``files``.

    systemd waits for a unit that it stops: a worker finishes its job.
    """

    pattern: str
    wanted: tuple[str, ...]
    files: tuple[str, ...] = ()

    def questions(self) -> Iterable[Question]:
        return [self.question]

    @property
    def question(self) -> Question:
        return ("units", self.pattern)

    def former_units(self, answers: Answers) -> dict[str, Mapping[str, bool]]:
        """The units of ours that are there, and not wanted; workers first."""
        found = [
            name
            for name, state in answers[self.question].items()
            if state["ours"] and name not in (*self.wanted, *self.files)
        ]
        order = sorted(found, key=lambda name: "@" not in name)
        return {name: answers[self.question][name] for name in order}

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        former = self.former_units(answers)
        yield from self._stop_changes(former)
        files = [name for name, found in former.items() if found["file"]]
        for name in files:
            yield removal_change(f"{FOLDER}/{name}", "", WHY)
        if files:
            yield RELOAD

    def _stop_changes(self, former: Mapping[str, Mapping[str, bool]]) -> Iterator[Change]:
        for name, found in former.items():
            if found["active"] or found["enabled"]:
                disable = False if found["enabled"] else None
                yield unit_change("-", name, "stop" if found["active"] else None, disable, WHY)

    @property
    def needs(self) -> frozenset[str]:
        """What takes a unit's place runs first."""
        return frozenset(f"unit:{name}" for name in self.wanted)


@dataclass(frozen=True)
class FormerServer(FormerUnits):
    """No job server of ours, once no job is in its queue, the ``folder``.

    ``admin``: the socket at which it is asked.
    """

    folder: str = ""
    admin: str = ""

    def questions(self) -> Iterable[Question]:
        return [self.question, self._queue_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        queue, former = answers[self._queue_question], self.former_units(answers)
        if queue and (former or queue["kept"]) and queue["jobs"]:
            count = format_count(sum(queue["jobs"].values()), "job")
            told = ", ".join(f"{name} {number}" for name, number in sorted(queue["jobs"].items()))
            yield Problem(
                f"its job server holds {count} ({told}), which would be stranded: keep it in group "
                "job_server until workers have done them (gearadmin --status)"
            )
            return
        yield from super().plan_changes(answers)
        if queue and queue["kept"]:
            operation = Operation("remove_queue", {"folder": self.folder})
            yield Change("-", f"queue {self.folder}", operation, "no job is in it")

    def _stop_changes(self, former: Mapping[str, Mapping[str, bool]]) -> Iterator[Change]:
        if any(found["active"] or found["enabled"] for found in former.values()):
            operation = Operation("close_server", {"folder": self.folder, "admin": self.admin})
            yield Change("-", f"stop {' and '.join(sorted(former))}", operation, WHY)

    @property
    def _queue_question(self) -> Question:
        return ("queue", self.folder, self.admin)
