"""System accounts: groups, and users who cannot log in."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.unit import FOLDER

NOWHERE = "/nonexistent"
NOLOGIN = "/usr/sbin/nologin"
MARK = "gearman_py"  # the comment of a user that a deploy made
NO_GROUP = ("nogroup", "nobody")  # where a removal that was cut short leaves a user
PLACES = ("/etc/gearman", "/opt/gearman", "/var/lib/gearman", "/var/spool/cron")
"""Where a file of a former account may be that someone else put there."""
MAX_FILES_TOLD = 5  # files to tell of


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
        more = [f"also of group {each}" for each in missing]
        if wrong or more:
            # It may need that to read the key of its host, and runs on as it does meanwhile.
            reason = ", ".join([*wrong, *more])
            yield Change("~", f"user {self.name}", operation, reason, for_trial=not wrong)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"user:{self.name}"})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"group:{each}" for each in (self.group, *self.groups))


@dataclass(frozen=True)
class FormerAccount(Resource):
    """A user and group that ``units``, and nothing else, ran as before: gone with its last trace.

    ``places`` are more paths at which a file of theirs is a trace, unless it is in a folder that is
    ``handed_over``: systemd gives it to whom the units run as, or it goes with them.
    ``keeps_group``: the group is needed further on.
    """

    name: str
    units: tuple[str, ...]
    places: tuple[str, ...] = ()
    handed_over: tuple[str, ...] = ()
    keeps_group: bool = False

    def questions(self) -> Iterable[Question]:
        return [("user", self.name), self._traces_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        if self.is_there(answers) and not self.remaining_traces(answers):
            own = self._own_units(answers)
            needed = any(
                _is_foreign(path, own) and not self._is_handed_over(path)
                for path in answers[self._traces_question]["group"]
            )
            group = not (self.keeps_group or needed)
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
        found, own = answers[self._traces_question], self._own_units(answers)
        files = [path for path in found["files"] if not self._is_handed_over(path)]
        return [
            *(
                f"{each['command']} (pid {each['pid']}, {each['unit'] or 'no unit'}) runs as it"
                for each in found["processes"]
                if each["unit"] not in own
            ),
            *(f"{path} names it" for path in found["units"] if _is_foreign(path, own)),
            *(f"{path} is its own" for path in files[:MAX_FILES_TOLD]),
        ]

    def _is_handed_over(self, path: str) -> bool:
        return any(f"{path}/".startswith(f"{folder}/") for folder in self.handed_over)

    def _own_units(self, answers: Answers) -> Collection[str]:
        """The units that are changed to run as another, or stopped."""
        return self.units

    @property
    def _traces_question(self) -> Question:
        return ("traces", self.name, *PLACES, *self.places)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({*(f"unit:{unit}" for unit in self.units), "certificate"})


@dataclass(frozen=True)
class UnneededAccount(FormerAccount):
    """A user that a deploy made for units of ours that match ``pattern``, and that are to go."""

    pattern: str = ""
    after: frozenset[str] = frozenset()

    def questions(self) -> Iterable[Question]:
        return [*super().questions(), ("units", self.pattern)]

    def is_there(self, answers: Answers) -> bool:
        return super().is_there(answers) and answers["user", self.name]["comment"] == MARK

    def within(self, provided: frozenset[str]) -> "UnneededAccount":
        return self

    def _own_units(self, answers: Answers) -> Collection[str]:
        return [name for name, state in answers["units", self.pattern].items() if state["ours"]]

    @property
    def needs(self) -> frozenset[str]:
        return self.after


@dataclass(frozen=True)
class FormerGroup(Resource):
    """A group that only ``members`` and ``files`` of ours need, or needed."""

    name: str
    members: tuple[str, ...]
    files: tuple[str, ...]
    after: frozenset[str] = frozenset()

    def questions(self) -> Iterable[Question]:
        return [("user", self.name), self._needs_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        needs = answers[self._needs_question]
        # That it was ever ours shows only in what we made for it.
        ours = needs and {*self.members, *self.files}.issuperset(needs)
        if ours and answers["user", self.name] is None:
            operation = Operation("forget_group", {"name": self.name})
            yield Change("-", f"group {self.name}", operation, "nothing needs it any more")

    @property
    def _needs_question(self) -> Question:
        return ("group_needs", self.name, *PLACES)

    @property
    def needs(self) -> frozenset[str]:
        return self.after


def _is_foreign(path: str, units: Collection[str]) -> bool:
    """Whether it is not a file of these units."""
    files = {*units, *map(_file_name, units)}
    return files.union(f"{file}.d" for file in files).isdisjoint(path.split("/"))


def _file_name(unit: str) -> str:
    """`worker@.service` of `worker@wc.service`."""
    return re.sub(r"@.*\.", "@.", unit)
