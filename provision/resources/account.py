"""System accounts: groups, and users who cannot log in."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from provision.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource


@dataclass(frozen=True)
class Group(Resource):
    name: str

    def questions(self) -> Iterable[Question]:
        return [("group", self.name)]

    def steps(self, answers: Answers) -> Iterator[Change | Problem]:
        if answers["group", self.name] is None:
            yield Change("+", f"group {self.name}", Operation("group", {"name": self.name}))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"group:{self.name}"})


@dataclass(frozen=True)
class User(Resource):
    """A system user. Its home is recorded, never made."""

    name: str
    group: str
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"

    def questions(self) -> Iterable[Question]:
        return [("user", self.name)]

    def steps(self, answers: Answers) -> Iterator[Change | Problem]:
        wanted = asdict(self)
        found = answers["user", self.name]
        operation = Operation("user", wanted)
        if found is None:
            yield Change("+", f"user {self.name}", operation, f"group {self.group}, {self.shell}")
            return
        wrong = [
            f"{key} {found[key]} -> {wanted[key]}"
            for key in ("group", "home", "shell")
            if found[key] != wanted[key]
        ]
        if wrong:
            yield Change("~", f"user {self.name}", operation, ", ".join(wrong))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"user:{self.name}"})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"group:{self.group}"})
