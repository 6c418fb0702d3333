"""A folder that a worker writes to, `writes:`.

One that is missing is made, and is ours: it belongs to the worker's user and group, by which it is
known. One that belongs to others is left as it is, and used if the worker can write there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from provision.invoke_line import invoke_line
from provision.remote.messages import Question
from provision.resources.base import Answers, Change, Problem
from provision.resources.files import Directory


@dataclass(frozen=True)
class WritableFolder(Directory):
    """``around``: further ones of its host, in which it is."""

    kind = "directory"
    around: tuple[str, ...] = ()

    @property
    def _writable_question(self) -> Question:
        return ("writable", self.path, self.owner)

    @property
    def _parent_question(self) -> Question:
        return ("path", str(PurePosixPath(self.path).parent), "", "")

    def questions(self) -> Iterable[Question]:
        more = (self._writable_question, ("user", self.owner), self._parent_question)
        return [*super().questions(), *more]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._path_question]
        parent = self._parent_question[1]
        if not found and not answers[self._parent_question] and parent not in self.around:
            yield Problem(
                f"writes: {self.path} cannot be made, for {parent} is missing: make that "
                "first, or name it in writes: too"
            )
        elif not found or found["kind"] != "directory" or self._is_ours(found):
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
        return (
            "; the user is not there yet: "
            f"`{invoke_line('deploy', '--tags', 'user,group')}` makes it"
        )
