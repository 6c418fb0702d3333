"""System accounts: groups, and users who cannot log in."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.unit import FOLDER

NOWHERE = "/nonexistent"
NOLOGIN = "/usr/sbin/nologin"
NO_GROUP = ("nogroup", "nobody")  # where a removal that was cut short leaves a user
PLACES = ("/etc/gearman", "/opt/gearman", "/var/lib/gearman", "/var/spool/cron")
"""Where a file of a former account may be that somebody else put there."""


@dataclass(frozen=True)
class Group(Resource):
    name: str

    def questions(self) -> Iterable[Question]:
        return [("group", self.name)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        if answers["group", self.name] is None:
            yield Change("+", f"group {self.name}", Operation("group", {"name": self.name}))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"group:{self.name}"})


@dataclass(frozen=True)
class User(Resource):
    """A system user, of ``group`` and at least of ``groups``. Its home is recorded, never made."""

    name: str
    group: str
    home: str = NOWHERE
    shell: str = NOLOGIN
    groups: tuple[str, ...] = ()

    def questions(self) -> Iterable[Question]:
        return [("user", self.name)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        wanted = asdict(self) | {"groups": list(self.groups)}
        found = answers["user", self.name]
        operation = Operation("user", wanted)
        if found is None:
            groups = " ".join((self.group, *self.groups))
            noun = "groups" if self.groups else "group"
            yield Change("+", f"user {self.name}", operation, f"{noun} {groups}, {self.shell}")
            return
        wrong = [
            f"{key} {found[key]} -> {wanted[key]}"
            for key in ("group", "home", "shell")
            if found[key] != wanted[key]
        ]
        missing = [each for each in self.groups if each not in found["groups"]]
        wrong += (f"also of group {each}" for each in missing)
        if wrong:
            yield Change("~", f"user {self.name}", operation, ", ".join(wrong))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"user:{self.name}"})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"group:{each}" for each in (self.group, *self.groups))


@dataclass(frozen=True)
class FormerAccount(Resource):
    """A user and group that ``units``, and nothing else, ran as before: gone with its last trace.

    ``places`` are more paths at which a file of theirs is a trace. ``keeps_group``: the group is
    needed further on.
    """

    name: str
    units: tuple[str, ...]
    places: tuple[str, ...] = ()
    keeps_group: bool = False

    def questions(self) -> Iterable[Question]:
        return [("user", self.name), self._traces_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        if self.is_there(answers) and not self.remaining_traces(answers):
            needed = filter(self._is_foreign, answers[self._traces_question]["group"])
            group = not (self.keeps_group or any(needed))
            operation = Operation("forget_user", {"name": self.name, "group": group})
            what = f"user {self.name}{' and its group' if group else ''}"
            yield Change("-", what, operation, "nothing runs as it any more")

    def within(self, provided: frozenset[str]) -> "FormerAccount":
        """A unit that is left as it is goes on running as this account."""

        def is_changed(unit: str) -> bool:
            return {f"unit:{unit}", f"path:{FOLDER}/{_file_name(unit)}"} <= provided

        return replace(self, units=tuple(filter(is_changed, self.units)))

    def is_there(self, answers: Answers) -> bool:
        """Whether the user is, and is as this toolkit made it: another's is not our concern."""
        found = answers["user", self.name]
        if not found or found["group"] not in (self.name, *NO_GROUP):
            return False
        return bool(found["home"] == NOWHERE and found["shell"] == NOLOGIN)

    def remaining_traces(self, answers: Answers) -> list[str]:
        """What needs the user, beside the units that are changed to run as another."""
        found = answers[self._traces_question]
        return [
            *(
                f"{each['command']} (pid {each['pid']}, {each['unit'] or 'no unit'}) runs as it"
                for each in found["processes"]
                if each["unit"] not in self.units
            ),
            *(f"{path} names it" for path in filter(self._is_foreign, found["units"])),
            *(f"{path} is its own" for path in found["files"]),
        ]

    def _is_foreign(self, path: str) -> bool:
        """Whether it is not a file of the units that are changed to run as another."""
        files = {*self.units, *map(_file_name, self.units)}
        return files.union(f"{file}.d" for file in files).isdisjoint(path.split("/"))

    @property
    def _traces_question(self) -> Question:
        return ("traces", self.name, *PLACES, *self.places)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({*(f"unit:{unit}" for unit in self.units), "certificate"})


def _file_name(unit: str) -> str:
    """`worker@.service` of `worker@wc.service`."""
    return re.sub(r"@.*\.", "@.", unit)
