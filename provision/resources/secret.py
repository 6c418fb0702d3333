"""Secrets of services: files that root alone can read, which systemd hands to their units.

What a secret is stands in no plan, diff or log: only that it changes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar

from provision.inventory.secrets import Secret
from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource

FOLDER = "/etc/gearman/secrets"
ATTRIBUTES = {"owner": "root", "group": "root", "mode": "0600"}


@dataclass(frozen=True)
class SecretFile(Resource):
    """Secret ``name`` of a service. Its value is never compared: equal ones may differ in it."""

    kind = "secret"
    noun: ClassVar[str] = "worker "
    owner: str
    name: str
    secret: Secret = field(compare=False)

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.file_name}"

    @property
    def file_name(self) -> str:
        return f"{self.owner}.{self.name}"

    def questions(self) -> Iterable[Question]:
        return [self._path_question]

    @property
    def _path_question(self) -> Question:
        return ("path", self.path, sha256(self._content).hexdigest(), "")

    @property
    def _content(self) -> bytes:
        return self.secret.reveal().encode()

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._path_question]
        summary = f"secret {self.name} of {self.noun}{self.owner}"
        operation = Operation("secret", {"path": self.path}, self._content)
        if found is None:
            yield Change("+", summary, operation, self.path)
        elif found["kind"] == "directory":
            yield Problem(f"{self.path} is a directory: look at it, and move it away")
        elif found["digest"] != self._path_question[2]:
            yield Change("~", summary, operation, "another value")
        elif found["acl"] or any(found[key] != value for key, value in ATTRIBUTES.items()):
            yield Change("~", summary, operation, "others than root could read or change it")

    def is_due(self, answers: Answers) -> bool:
        return any(self.plan_changes(answers))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"path:{self.path}"})


@dataclass(frozen=True)
class DatabasePassword(SecretFile):
    """With which a job server logs in to the database of its queue."""

    kind = "secret"
    noun: ClassVar[str] = ""
