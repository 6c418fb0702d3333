"""A release on a host: unpacked beside the older ones, with a venv of its own, not yet in use.

What uses it is a link, ``ROOT/current``: staging a release changes nothing that runs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision.messages import Operation, Question
from provision.release import Artifact
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import Link

# The tar, its wheels unpacked beside it and installed: measured at 4.7 times the tar.
ROOM = 6
FILES = 2000  # counted: 400, twice that once compiled
MB = 2**20


@dataclass(frozen=True)
class Release(Resource):
    """``artifact`` unpacked as ``ROOT/releases/ID``, and complete."""

    root: str
    artifact: Artifact

    @property
    def current(self) -> Link:
        """The link that says which release is in use, pointing to this one."""
        return Link(f"{self.root}/current", f"releases/{self.artifact.id}")

    @property
    def question(self) -> Question:
        return ("release", self.root, self.artifact.id)

    def questions(self) -> Iterable[Question]:
        return [self.question, ("disk", self.root)]

    def steps(self, answers: Answers) -> Iterator[Change | Problem]:
        if answers[self.question]["complete"]:
            return
        disk = answers["disk", self.root]
        room = self.artifact.size * ROOM
        if disk["free"] < room:
            yield Problem(
                f"{self.root} has {disk['free'] // MB} MB free, and a release needs "
                f"{room // MB} MB: make room there"
            )
        elif disk["inodes"] < FILES:
            yield Problem(
                f"{self.root} has {disk['inodes']} inodes free, and a release needs {FILES}: "
                "remove small files there"
            )
        arguments = {"root": self.root, "id": self.artifact.id, "digest": self.artifact.digest}
        yield Change(
            "+",
            f"release {self.artifact.id}",
            Operation("release", arguments, self.artifact.path),
            f"{self.artifact.size / MB:.1f} MB",
        )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"path:{self.root}/releases/{self.artifact.id}"})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"path:{self.root}", f"path:{self.root}/releases"})
