"""Directories, files and links: what is at a path, whose it is, and with which mode.

A file is compared by the digest of its content, and its attributes by value. What is in the
way is replaced when the plan can say so in one line (a file by a link, a link by a file); a
directory in the way may hold anything, so that is a problem for a person.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from provision.remote.messages import Operation, Question
from provision.render import render_template
from provision.resources.base import Answers, Change, Problem, Resource


@cache  # the hosts of a fleet have the same paths
def _folders_above(path: str) -> frozenset[str]:
    return frozenset(f"path:{parent}" for parent in PurePosixPath(path).parents)


@dataclass(frozen=True)
class _Entry(Resource):
    """Something at a path."""

    path: str

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"path:{self.path}"})

    @property
    def needs(self) -> frozenset[str]:
        return _folders_above(self.path)

    @property
    def _path_question(self) -> Question:
        return ("path", self.path, "", "")

    def questions(self) -> Iterable[Question]:
        return [self._path_question]


@dataclass(frozen=True)
class _Owned(_Entry):
    """Something at a path that has an owner and a mode of its own."""

    owner: str = "root"
    group: str = "root"
    mode: str = "0644"

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {f"user:{self.owner}", f"group:{self.group}"}

    @property
    def _file_arguments(self) -> dict[str, str]:
        return {"path": self.path, "owner": self.owner, "group": self.group, "mode": self.mode}

    @property
    def _attributes_text(self) -> str:
        return f"{self.owner}:{self.group} {self.mode}"

    def _wrong_attributes(self, found: Mapping[str, Any]) -> str:
        wanted = self._file_arguments
        wrong = [
            f"{key} {found[key]} -> {wanted[key]}"
            for key in ("owner", "group", "mode")
            if found[key] != wanted[key]
        ]
        return ", ".join([*wrong, "without an access list"] if found["acl"] else wrong)


@dataclass(frozen=True)
class Directory(_Owned):
    mode: str = "0755"

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._path_question]
        summary = f"directory {self.path}"
        operation = Operation("directory", self._file_arguments)
        if found is None:
            yield Change("+", summary, operation, self._attributes_text)
        elif found["kind"] != "directory":
            yield _in_the_way(self.path, found, "a directory")
        elif wrong := self._wrong_attributes(found):
            yield Change("~", summary, operation, wrong)


@dataclass(frozen=True)
class File(_Owned):
    content: bytes = b""

    @property
    def _path_question(self) -> Question:
        return ("path", self.path, hashlib.sha256(self.content).hexdigest(), "text")

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._path_question]
        summary = f"file {self.path}"
        write = Operation("file", self._file_arguments, self.content)
        if found is None:
            yield Change(
                "+", summary, write, self._attributes_text, self._diff_from(b"", "/dev/null")
            )
        elif found["kind"] == "link":
            yield Change("~", summary, write, f"replaces a link to {found['target']}")
        elif found["kind"] != "file":
            yield _in_the_way(self.path, found, "a file")
        elif found["digest"] != self._path_question[2]:
            yield self._rewrite_change(summary, write, found)
        elif wrong := self._wrong_attributes(found):
            yield Change("~", summary, Operation("attributes", self._file_arguments), wrong)

    def current_text(self, answers: Answers) -> str:
        """The text that the file has, as far as that was told; else the one that it should have."""
        found = answers[self._path_question]
        return (found or {}).get("content") or self.content.decode()

    def _rewrite_change(self, summary: str, write: Operation, found: Mapping[str, Any]) -> Change:
        reasons = ["content", self._wrong_attributes(found)]
        diff = (
            ""
            if found["content"] is None
            else self._diff_from(found["content"].encode(), self.path)
        )
        return Change("~", summary, write, ", ".join(filter(None, reasons)), diff)

    def _diff_from(self, before: bytes, name: str) -> str:
        try:
            old, new = before.decode(), self.content.decode()
        except UnicodeDecodeError:
            return ""
        return _text_diff(old, new, name, self.path)


@dataclass(frozen=True)
class Link(_Entry):
    """A symbolic link; a relative ``target`` starts from the link's own directory."""

    target: str = ""

    @property
    def needs(self) -> frozenset[str]:
        target = PurePosixPath(self.path).parent / self.target
        return super().needs | {f"path:{target}"}

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._path_question]
        summary = f"link {self.path}"
        operation = Operation("link", {"path": self.path, "target": self.target})
        if found is None:
            yield Change("+", summary, operation, f"-> {self.target}")
        elif found["kind"] == "file":
            yield Change("~", summary, operation, f"replaces a file; -> {self.target}")
        elif found["kind"] != "link":
            yield _in_the_way(self.path, found, "a link")
        elif found["target"] != self.target:
            yield Change("~", summary, operation, f"{found['target']} -> {self.target}")


def template_file(path: str, name: str, *, mode: str = "0644", **variables: object) -> File:
    """A file of root's made from ``templates/NAME``: a mistake in it shows before any host does.

    Raises :class:`~provision.render.TemplateError`.
    """
    return File(path, mode=mode, content=render_template(name, variables).encode())


def removal_change(path: str, content: str | None, why: str, kind: str = "file") -> Change:
    """Take a file away, or a link, whose ``content`` is None; ``kind`` is what it is called."""
    diff = _text_diff(content or "", "", path, "/dev/null")
    return Change("-", f"{kind} {path}", Operation("remove", {"path": path}), why, diff)


def _text_diff(old: str, new: str, before: str, after: str) -> str:
    lines = unified_diff(old.splitlines(True), new.splitlines(True), before, after, n=2)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _in_the_way(path: str, found: Mapping[str, Any], wanted: str) -> Problem:
    kind = "something else" if found["kind"] == "other" else f"a {found['kind']}"
    return Problem(f"{path} should be {wanted} and is {kind}: look at it, and move it away")
