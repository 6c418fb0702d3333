"""A release on a host: unpacked beside the older ones, with a venv of its own, not yet in use.

What uses it is a link, ``ROOT/current``: staging a release changes nothing that runs. Older
ones are kept for a rollback, up to a number; never removed is one that something runs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gearman_py.config import format_size
from provision.invoke_line import invoke_line
from provision.release.build import ON_HOSTS, Artifact
from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import Link

# The tar, its wheels unpacked beside it and installed: measured at 4.7 times the tar.
SIZE_FACTOR = 6
RELEASES_KEPT = 5
INODES_NEEDED = 2000  # counted: 400, twice that once compiled


@dataclass(frozen=True)
class Release(Resource):
    """``artifact`` unpacked as ``ROOT/releases/ID``, and complete."""

    root: str
    artifact: Artifact
    again: bool = False  # though it is marked as bad
    bad: str = field(default="", compare=False)  # why another host of the fleet gave it up

    @property
    def current(self) -> Link:
        """The link that says which release is in use, pointing to this one."""
        return Link(f"{self.root}/current", f"releases/{self.artifact.id}")

    @property
    def folder(self) -> str:
        return f"{self.root}/releases/{self.artifact.id}"

    @property
    def units(self) -> str:
        """Where it keeps the unit files that it ran with."""
        return f"{self.folder}/units"

    def questions(self) -> Iterable[Question]:
        return [("releases", self.root), ("disk", self.root)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        if kept := answers["releases", self.root]["kept"].get(self.artifact.id):
            if kept["bad"]:
                yield self._tried_again(kept["bad"])
            elif refused := self._refusal(answers):
                yield refused
            return
        if refused := self._refusal(answers):
            yield refused
            return
        if self.artifact.path is None:
            yield Problem(
                f"it has no whole release {self.artifact.id}, and this machine has none to send: "
                f"`{invoke_line('upgrade')}` brings another"
            )
            return
        disk = answers["disk", self.root]
        room = self.artifact.size * SIZE_FACTOR
        if disk["readonly"]:
            yield Problem(
                f"{self.root} is on a file system that is read-only: look at its mount and at the "
                "disk (findmnt, dmesg)"
            )
        elif disk["free"] < room:
            yield Problem(
                f"{self.root} has {format_size(disk['free'])} free, and a release needs "
                f"{format_size(room)}: make room there"
            )
        elif disk["inodes"] < INODES_NEEDED:
            yield Problem(
                f"{self.root} has {disk['inodes']} inodes free, and a release needs "
                f"{INODES_NEEDED}: remove small files there"
            )
        arguments = {"root": self.root, "id": self.artifact.id, "digest": self.artifact.sent_digest}
        size = format_size(self.artifact.size)
        damage = answers["releases", self.root]["damaged"].get(self.artifact.id)
        yield Change(
            "~" if damage else "+",
            f"release {self.artifact.id}",
            Operation("release", arguments, self.artifact.path),
            f"{damage} is not as it was; {size}" if damage else size,
        )

    def _refusal(self, answers: Answers) -> Problem | None:
        """That the fleet gave it up; a host that runs it already may go on."""
        if self.again or not self.bad:
            return None
        if answers["releases", self.root]["current"] == self.artifact.id:
            return None
        return self._given_up(self.bad)

    def _given_up(self, why: str) -> Problem:
        app = () if self.root == ON_HOSTS else ("--app", self.root.rpartition("/")[2])
        return Problem(
            f"release {self.artifact.id} was given up ({why}): mend what was wrong, or "
            f"`{invoke_line('upgrade', *app, '--again')}`"
        )

    def _tried_again(self, why: str) -> Change | Problem:
        id = self.artifact.id
        if self.again:
            arguments = {"root": self.root, "id": id}
            return Change("~", f"release {id}", Operation("acquit", arguments), f"bad: {why}")
        return self._given_up(why)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"path:{self.folder}"})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"path:{self.root}", f"path:{self.root}/releases"})


@dataclass(frozen=True)
class ReleaseLeftOut(Resource):
    """``release``, which others need, where tags leave it out; ``in_use``: and its link too."""

    kind = "release"
    release: Release
    in_use: bool

    def questions(self) -> Iterable[Question]:
        return [("releases", self.release.root)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        id, known = self.release.artifact.id, answers["releases", self.release.root]
        if id not in known["kept"] or (self.in_use and known["current"] != id):
            yield Problem(
                f"this needs release {id}, and {known['current'] or 'none'} is in use: --tags "
                "leaves it out; deploy without --tags, or add release and link to them"
            )


@dataclass(frozen=True)
class OldReleases(Resource):
    """No more than ``RELEASES_KEPT``, ``wanted`` among them: those that are bad go first."""

    wanted: Release

    @property
    def is_of_app(self) -> bool:
        """Whether they are those of an app."""
        return self.wanted.root != ON_HOSTS

    def questions(self) -> Iterable[Question]:
        return [("releases", self.wanted.root)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        root, known = self.wanted.root, answers["releases", self.wanted.root]
        needed = {self.wanted.artifact.id, known["current"], *known["running"]}
        spare = [id for id in known["kept"] if id not in needed]
        spare.sort(key=lambda id: (known["kept"][id]["bad"] is None, known["kept"][id]["at"]))
        surplus = len({self.wanted.artifact.id, *known["kept"]}) - RELEASES_KEPT
        for id in spare[: max(surplus, 0)]:
            oldest = f"the oldest of more than {RELEASES_KEPT}"
            why = "it is bad" if known["kept"][id]["bad"] else oldest
            yield Change("-", f"release {id}", Operation("prune", {"root": root, "id": id}), why)

    @property
    def needs(self) -> frozenset[str]:
        return self.wanted.provides | self.wanted.current.provides
