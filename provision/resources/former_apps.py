"""Apps that no worker of a host needs any more: removed, with all their releases."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource


@dataclass(frozen=True)
class FormerApps(Resource):
    """No app below ``root`` but those ``wanted``. Their units have been stopped before."""

    root: str
    wanted: tuple[str, ...]

    def questions(self) -> Iterable[Question]:
        return [("names", self.root)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        for name in answers["names", self.root]:
            if name not in self.wanted:
                operation = Operation("remove_app", {"root": self.root, "name": name})
                yield Change("-", f"app {name}", operation, "no worker of this host needs it")
