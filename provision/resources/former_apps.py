"""Apps that no worker of a host needs any more: removed with all their releases."""

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
        return [("names", self.root), self._path_question]

    @property
    def _path_question(self) -> Question:
        return ("path", self.root, "", "")

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        for name in answers["names", self.root]:
            if name not in self.wanted:
                operation = Operation("remove_app", {"root": self.root, "name": name})
                yield Change("-", f"app {name}", operation, "no worker of this host needs it")
        found = answers[self._path_question]
        if not self.wanted and found and found["kind"] == "directory":
            operation = Operation("remove", {"path": self.root})
            yield Change("-", f"directory {self.root}", operation, "no app is left")
