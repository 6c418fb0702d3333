"""systemd units: that one is enabled and running, and runs what it should.

Whether a restart is due is state, not an event: the running process tells by its working
program which release it started from, by $GEARMAN_CONFIG which configuration, and by when it
began whether it missed something. So a restart that an interrupted deploy did not reach is
simply still due.

A unit is what its file says and nothing else: what changes it from outside (a mask, a drop-in,
a copy under its own name) is taken away.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from provision.agent.ours import MARKS
from provision.remote.messages import Operation, Question
from provision.render import render_template
from provision.resources.base import Answers, Change, Problem, Resource, Sign
from provision.resources.files import File, Link, removal_change
from provision.resources.private_settings import hide_settings, hide_variables
from provision.resources.release import Release
from provision.resources.secret import SecretFile
from provision.resources.unit_text import find_openings, find_variable, process_limits

FOLDER = "/etc/systemd/system"
WORKER_UNITS = "gearman-worker@*"
MOVES = "it moves to {0.address}:{0.port}; programs not restarted are refused at the old address"
RELOAD = Change("~", "daemon-reload", Operation("daemon_reload"), "unit files changed")

ACCOUNT = re.compile(r"^(User|Group)=(.*)$", re.MULTILINE)

ABSENT = {"active": "not there yet", "enabled": "disabled"}


@dataclass(frozen=True)
class UnitFile(File):
    """A unit's file, and a copy of it beside the release that it is for.

    ``config`` is the digest its processes carry in $GEARMAN_CONFIG. With the copy, ``kept``, a
    rollback brings back what the release ran with.
    """

    kind = "unit"
    config: str = ""
    kept: File | None = None

    def questions(self) -> Iterable[Question]:
        kept = self.kept.questions() if self.kept else ()
        return [*super().questions(), self._overrides_question, *kept]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        yield from self._own_steps(answers)
        if self.is_rewritten(answers):
            yield RELOAD
        for step in self.kept.plan_changes(answers) if self.kept else ():
            # Its text is that of the file.
            yield replace(step, diff="") if isinstance(step, Change) else step

    def is_rewritten(self, answers: Answers) -> bool:
        """Whether what systemd reads changes, and not only whose it is."""
        changes = (step for step in self._own_steps(answers) if isinstance(step, Change))
        return any(change.operation.kind != "attributes" for change in changes)

    def _own_steps(self, answers: Answers) -> Iterator[Change | Problem]:
        yield from super().plan_changes(answers)
        yield from _lift_overrides(answers[self._overrides_question])

    @property
    def _attributes_text(self) -> str:
        return "; ".join((super()._attributes_text, *find_openings(self.content.decode())))

    def _diff_from(self, before: bytes, name: str) -> str:
        return hide_variables(super()._diff_from(before, name), self.content.decode())

    @property
    def _overrides_question(self) -> Question:
        return ("overrides", PurePosixPath(self.path).name, self.path)

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | (self.kept.needs if self.kept else frozenset())

    @property
    def accounts(self) -> frozenset[str]:
        """Whom its processes run as."""
        pairs = ACCOUNT.findall(self.content.decode())
        return frozenset(f"{kind.lower()}:{name}" for kind, name in pairs)

    @property
    def limits(self) -> tuple[str, ...]:
        """What it says of its processes, whatever they run: account, limits, hardening, secrets."""
        return process_limits(self.content.decode())

    @property
    def reload_key(self) -> str:
        """What a process carries in $GEARMAN_RELOAD_KEY that can be reloaded into this text's."""
        return find_variable(self.content.decode(), "GEARMAN_RELOAD_KEY")

    def with_text(self, text: str) -> "UnitFile":
        """The same file with another content, but for the account: that is the host's matter.

        So a rollback needs no earlier account, and leaves files with their owners.
        """
        kept = replace(self.kept, content=text.encode()) if self.kept else None
        own = dict(ACCOUNT.findall(self.content.decode()))
        content = ACCOUNT.sub(lambda line: f"{line[1]}={own.get(line[1], line[2])}", text)
        config = find_variable(text, "GEARMAN_CONFIG")
        return replace(self, content=content.encode(), config=config, kept=kept)


def unit_file(name: str, release: Release, source: str = "", /, **variables: object) -> UnitFile:
    """The file of unit ``name``, from ``templates/SOURCE.j2``, which must use ``config``.

    ``source`` is ``name`` by default.

    The digest is of everything else in the file, so a process started from any other text
    is seen to be old.
    """
    source = f"{source or name}.j2"
    known = variables | {"root": release.root}
    without = render_template(source, known | {"config": ""})
    config = hashlib.sha256(without.encode()).hexdigest()[:12]
    content = render_template(source, known | {"config": config}).encode()
    kept = File(f"{release.units}/{name}", content=content)
    return UnitFile(f"{FOLDER}/{name}", content=content, config=config, kept=kept)


@dataclass(frozen=True)
class Socket(Resource):
    """A port that systemd holds for ``service``: open when ``name`` is active and
    someone listens.

    It can only be opened while the service is stopped; :class:`Unit` starts that again.
    """

    name: str
    file: UnitFile
    service: str
    address: str
    port: int

    def questions(self) -> Iterable[Question]:
        return [
            *(("unit", self.name), ("unit", self.service), self._port_question),
            *self.file.questions(),
        ]

    def is_due(self, answers: Answers) -> bool:
        """Whether it must be opened, or reopened."""
        found = answers["unit", self.name]
        is_open = found and found["active"] == "active" and answers[self._port_question]
        return not is_open or self.file.is_rewritten(answers)

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers["unit", self.name] or ABSENT
        service = answers["unit", self.service] or ABSENT
        if found.get("stale"):
            yield RELOAD
        enable = boot_change(found)
        if self.is_due(answers):
            if service["active"] == "active":
                yield unit_change("~", self.service, "stop", None, "its port is reopened")
            if found["active"] == "active":
                why = "its file changes"
                if not answers[self._port_question]:
                    moves = self.file.is_rewritten(answers)
                    why = MOVES.format(self) if moves else "nothing listens there"
                yield unit_change("~", self.name, "restart", enable, why)
            else:
                yield unit_change("+", self.name, "start", enable, f"it is {found['active']}")
        elif enable:
            yield unit_change("~", self.name, None, enable, "it would not open at boot")

    @property
    def _port_question(self) -> Question:
        return ("port", self.address, str(self.port))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"unit:{self.name}"})

    @property
    def needs(self) -> frozenset[str]:
        return self.file.provides


@dataclass(frozen=True)
class Unit(Resource):
    """A unit that runs and starts at boot.

    ``current`` is the link it runs from: where that points is where its process must have begun.
    One that ``reloads`` puts a new process beside the old one, and needs no restart to run
    another release.
    """

    name: str
    file: UnitFile
    current: Link
    reloads: bool = False
    socket: Socket | None = None
    secrets: tuple[SecretFile, ...] = ()

    def questions(self) -> Iterable[Question]:
        socket = self.socket.questions() if self.socket else ()
        secrets = (question for each in self.secrets for question in each.questions())
        outside = [
            self._overrides_question,
            ("releases", self._releases_root),
            *self.file.questions(),
        ]
        return [("unit", self.name), *socket, *secrets, *outside]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers["unit", self.name] or ABSENT
        overrides = answers[self._overrides_question] if self._has_own_name else {}
        yield from _lift_overrides(overrides)
        if overrides or found.get("stale"):
            yield RELOAD
        if found["active"] == "active" and self.socket and self.socket.is_due(answers):
            yield self._own_change("~", "restart", None, f"{self.socket.name} is reopened")
        elif found["active"] == "active" and any(each.is_due(answers) for each in self.secrets):
            yield self._own_change("~", "restart", boot_change(found), "a secret of it changes")
        else:
            changes = self.file.is_rewritten(answers) or any(overrides.values())
            kept = answers["releases", self._releases_root]["kept"]
            yield from self._run_changes(
                found, changes, PurePosixPath(self._release_folder).name in kept
            )

    @property
    def _overrides_question(self) -> Question:
        return ("overrides", self.name, self.file.path)

    @property
    def _has_own_name(self) -> bool:
        """Whether it is one of a template's, so that its file does not speak of its overrides."""
        return PurePosixPath(self.file.path).name != self.name

    def _run_changes(
        self, found: Mapping[str, Any], changes: bool, whole: bool
    ) -> Iterator[Change]:
        current = (found.get("program") or "").startswith(f"{self._release_folder}/")
        enable = boot_change(found)
        if found["active"] in ("activating", "deactivating"):
            # To start it would be to wait for a process that was started from something older. One
            # that fails again and again is in these states by turns: its plan stays the same.
            fails = found.get("result", "success") != "success"
            why = f"it fails ({found['result']})" if fails else "it has not come up yet"
            yield self._own_change("~", "restart", enable, why)
        elif found["active"] != "active":
            yield self._start_change(found)
        elif found["config"] != self.file.config:
            action = self._action_for_settings(found)
            yield self._own_change("~", action, enable, "it runs with another configuration")
        elif found["outdated"]:
            yield self._own_change("~", "restart", enable, found["outdated"])
        elif changes or (current and not whole):
            yield self._own_change("~", "restart", enable, "what it was started from is replaced")
        elif not current:
            action = self._action_for_release(found)
            yield self._own_change("~", action, enable, f"it runs {_release_of(found['program'])}")
        elif enable:
            yield self._own_change("~", None, enable, "it would not start at boot")

    def _start_change(self, found: Mapping[str, Any]) -> Change:
        result = found.get("result") or "success"
        why = "" if result == "success" else f" ({result})"
        return self._own_change("+", "start", boot_change(found), f"it is {found['active']}{why}")

    def _action_for_release(self, found: Mapping[str, Any]) -> str:
        return "reload" if self.reloads else "restart"

    def _action_for_settings(self, found: Mapping[str, Any]) -> str:
        return "restart"

    def _own_change(self, sign: Sign, action: str | None, enabled: bool | None, why: str) -> Change:
        return unit_change(sign, self.name, action, enabled, why)

    @property
    def _releases_root(self) -> str:
        return str(PurePosixPath(self.current.path).parent)

    @property
    def _release_folder(self) -> str:
        return f"{self._releases_root}/{self.current.target}"

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"unit:{self.name}"})

    @property
    def needs(self) -> frozenset[str]:
        socket = self.socket.provides if self.socket else frozenset()
        return self._own_needs | self.current.provides | socket

    @property
    def _own_needs(self) -> frozenset[str]:
        secrets = frozenset().union(*(each.provides for each in self.secrets))
        return self.file.provides | self.file.accounts | secrets


class FormerWorker(Unit):
    """A unit that ran, whatever it runs: it is started if it does not run any more."""

    kind = "unit"

    def _run_changes(
        self, found: Mapping[str, Any], changes: bool, whole: bool
    ) -> Iterator[Change]:
        if found["active"] != "active":
            yield self._start_change(found)


def boot_change(found: Mapping[str, Any]) -> bool | None:
    """True for a unit that does not start at boot, and has to; None where nothing is to change."""
    return None if found["enabled"] == "enabled" else True


def unit_change(
    sign: Sign, name: str, action: str | None, enabled: bool | None, why: str
) -> Change:
    operation = Operation("unit", {"name": name, "enabled": enabled, "action": action})
    verb = action or ("enable" if enabled else "disable")
    return Change(sign, f"{verb} {name}", operation, why)


def _lift_overrides(overrides: Mapping[str, str | None]) -> Iterator[Change]:
    for path, content in overrides.items():
        yield removal_change(path, content and hide_settings(content), _why_lifted(path, content))


def _why_lifted(path: str, content: str | None) -> str:
    if content is None:
        return "it masks the unit"
    own = str(PurePosixPath(path).parent) == FOLDER  # and not a drop-in
    if own and content.encode().startswith(MARKS):
        return "the inventory gives it no settings of its own"
    return "it changes the unit from outside"


def _release_of(program: str | None) -> str:
    """The release that a program is of; the program itself when it is of none."""
    found = re.search(r"/releases/([^/]+)/", program or "")
    return found[1] if found else program or "nothing that can be seen"
