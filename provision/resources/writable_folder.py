"""A folder that a worker writes to, `writes:`.

One that is missing is made, and is ours: it belongs to the worker's user and group, by which it is
known. One that belongs to others is left as it is, and used if the worker can write there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.remote.messages import Question
from provision.resources.base import Answers, Change, Problem
from provision.resources.files import Directory


@dataclass(frozen=True)
class WritableFolder(Directory):
    kind = "directory"

    @property
    def _writable_question(self) -> Question:
        return ("writable", self.path, self.owner)

    def questions(self) -> Iterable[Question]:
        return [*super().questions(), self._writable_question, ("user", self.owner)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._path_question]
        if not found or found["kind"] != "directory" or self._is_ours(found):
            yield from super().plan_changes(answers)
        elif not answers[self._writable_question]:
            yield Problem(
                f"writes: {self.path} is {found['owner']}:{found['group']} {found['mode']}, and "
                f"user {self.owner} cannot write there: let it "
                f"(setfacl -m u:{self.owner}:rwx {self.path}), or name another folder"
                f"{'' if answers['user', self.owner] else self._account_hint}"
            )

    def _is_ours(self, found: Mapping[str, Any]) -> bool:
        return (found["owner"], found["group"]) == (self.owner, self.group)

    @property
    def _account_hint(self) -> str:
        return "; the user is not there yet: `invoke deploy --tags user,group` makes it"
