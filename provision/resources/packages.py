"""Debian packages. Only whether one is installed matters; its version is the host's own."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource


@dataclass(frozen=True)
class Packages(Resource):
    names: tuple[str, ...]

    def questions(self) -> Iterable[Question]:
        return [("package", name) for name in self.names]

    def steps(self, answers: Answers) -> Iterator[Change | Problem]:
        missing = [name for name in self.names if answers["package", name] is None]
        if missing:
            operation = Operation("packages", {"names": missing})
            yield Change("+", f"packages {' '.join(missing)}", operation)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset(f"package:{name}" for name in self.names)
