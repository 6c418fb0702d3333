"""The schedules of a job server that an inventory declares; an operator's own are left alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import shorten

from provision.inventory.schedules import OWNER, ScheduleDefinition
from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource

SHOWN = 60  # characters of a fact in a plan
PLACED = "schedules"  # what it provides


@dataclass(frozen=True)
class ServerSchedules(Resource):
    """A job server has these schedules, and no others that a deploy set.

    ``admin``: the socket at which it is asked; nothing is changed before ``unit`` runs, if one is
    to run. A pause is the operator's matter, and stays.
    """

    kind = "schedules"
    admin: str
    unit: str
    wanted: tuple[ScheduleDefinition, ...]

    def questions(self) -> Iterable[Question]:
        return [self._question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found: Mapping[str, Mapping[str, str]] = answers[self._question] or {}
        for each in self.wanted:
            facts, old = dict(each.facts), found.get(each.name)
            words = [f"{key}={text}" for key, text in facts.items() if text]
            arguments = {"admin": self.admin, "name": each.name, "facts": words}
            change = Operation("set_schedule", arguments)
            if old is None:
                reason = f"{facts['cron']} {facts['zone']}: {facts['function']}"
                yield Change("+", f"schedule {each.name}", change, reason)
            elif reason := "; ".join(_differences(old, facts)):
                yield Change("~", f"schedule {each.name}", change, reason)
        kept = {each.name for each in self.wanted}
        for name, old in found.items():
            if name not in kept and old["owner"] == OWNER:
                gone = Operation("delete_schedule", {"admin": self.admin, "name": name})
                yield Change("-", f"schedule {name}", gone, "this job server is not to have it")

    @property
    def provides(self) -> frozenset[str]:
        return frozenset([PLACED])

    @property
    def needs(self) -> frozenset[str]:
        return frozenset([f"unit:{self.unit}"] if self.unit else ())

    @property
    def _question(self) -> Question:
        return ("schedules", self.admin)


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for key, text in new.items():
        if key == "owner" and not old.get(key):
            yield "it was set by hand"
        elif old.get(key, "") != text:
            yield f"{key} {_show(old.get(key, ''))} -> {_show(text)}"


def _show(text: str) -> str:
    return shorten(text, SHOWN, placeholder="...") or "none"
