"""Files, links and folders of ours that nothing on a host needs any more: removed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import removal_change

WHY = "nothing needs it any more"


@dataclass(frozen=True)
class FormerFiles(Resource):
    """Nothing with our mark at ``places`` but the paths ``wanted``; ``after``: what comes first."""

    places: tuple[str, ...]
    wanted: frozenset[str]
    after: frozenset[str] = frozenset()

    def questions(self) -> Iterable[Question]:
        return [("marked", *self.places)]

    def former_paths(self, answers: Answers) -> dict[str, str]:
        """What is there, and not wanted, with its kind; what is in a folder comes before it."""
        found = answers["marked", *self.places]
        kept = {path for path in found if path in self.wanted}
        return {
            path: found[path]
            for path in sorted(found, reverse=True)
            if not any(f"{each}/".startswith(f"{path}/") for each in kept)
        }

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        for path, kind in self.former_paths(answers).items():
            if kind == "directory":
                remove = Operation("remove", {"path": path})
                yield Change("-", f"directory {path}", remove, WHY)
            else:
                yield removal_change(path, "", WHY, kind)

    @property
    def needs(self) -> frozenset[str]:
        return self.after


@dataclass(frozen=True)
class FormerInstallation(Resource):
    """No releases and apps below ``root``; what runs from them has been stopped before."""

    root: str

    def questions(self) -> Iterable[Question]:
        return [("path", f"{self.root}/releases", "", "")]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        if answers["path", f"{self.root}/releases", "", ""]:
            operation = Operation("remove_installation", {"root": self.root})
            yield Change("-", f"all releases in {self.root}", operation, WHY)
