"""Units that the inventory does not name any more: stopped, disabled, their files removed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision.remote.messages import Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import removal_change
from provision.resources.unit import FOLDER, RELOAD, unit_change

WHY = "the inventory does not have it"


@dataclass(frozen=True)
class FormerUnits(Resource):
    """No unit whose name matches ``pattern``, but for those ``wanted``, and those of ``files``.

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

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        former = {k: v for k, v in answers[self.question].items() if k not in self.wanted}
        for name, found in former.items():
            if found["active"] or found["enabled"]:
                disable = False if found["enabled"] else None
                yield unit_change("-", name, "stop" if found["active"] else None, disable, WHY)
        files = [name for name, found in former.items() if found["file"] and name not in self.files]
        for name in files:
            yield removal_change(f"{FOLDER}/{name}", "", WHY)
        if files:
            yield RELOAD

    @property
    def needs(self) -> frozenset[str]:
        """What takes a unit's place runs first."""
        return frozenset(f"unit:{name}" for name in self.wanted)
