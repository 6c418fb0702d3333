"""systemd units: that one is enabled and running, and runs what it should.

Whether a restart is due is state, not an event: the running process tells by its working
directory which release it started from, and by $GEARMAN_CONFIG which configuration. So a
restart that an interrupted deploy did not reach is simply still due.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from provision.messages import Operation, Question
from provision.render import render
from provision.resources.base import Answers, Change, Problem, Resource, Sign
from provision.resources.files import File, Link

FOLDER = "/etc/systemd/system"
RELOAD = Change("~", "daemon-reload", Operation("daemon_reload"), "a unit file is new to systemd")

ABSENT = {"active": "not there yet", "enabled": "disabled"}


@dataclass(frozen=True)
class UnitFile(File):
    """A unit's file. ``config`` is the digest its processes carry in $GEARMAN_CONFIG."""

    config: str = ""

    def steps(self, answers: Answers) -> Iterator[Change | Problem]:
        changed = False
        for step in super().steps(answers):
            changed = changed or isinstance(step, Change)
            yield step
        if changed:
            yield RELOAD


def unit_file(name: str, **variables: object) -> UnitFile:
    """The file of unit ``name``, from ``templates/NAME.j2``, which must use ``config``.

    The digest is of everything else in the file, so a process started from any other text
    is seen to be old.
    """
    source = f"{name}.j2"
    config = hashlib.sha256(render(source, variables | {"config": ""}).encode()).hexdigest()[:12]
    content = render(source, variables | {"config": config}).encode()
    return UnitFile(f"{FOLDER}/{name}", content=content, config=config)


@dataclass(frozen=True)
class Unit(Resource):
    """A unit that runs and starts at boot; or, not ``wanted``, does neither.

    ``current`` is the link it runs from: where that points is where its process must have begun.
    """

    name: str
    file: UnitFile
    current: Link
    wanted: bool = True

    def questions(self) -> Iterable[Question]:
        return [("unit", self.name)]

    def steps(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers["unit", self.name] or ABSENT
        if found.get("stale"):
            yield RELOAD
        yield from self._run(found) if self.wanted else self._stop(found)

    def _run(self, found: Mapping[str, Any]) -> Iterator[Change]:
        enable = None if found["enabled"] == "enabled" else True
        if found["active"] != "active":
            result = found.get("result") or "success"
            why = "" if result == "success" else f" ({result})"
            yield self._change("+", "start", enable, f"it is {found['active']}{why}")
        elif found["cwd"] != self._folder:
            yield self._change("~", "restart", enable, f"it runs from {found['cwd']}")
        elif found["config"] != self.file.config:
            yield self._change("~", "restart", enable, "it runs with another configuration")
        elif enable:
            yield self._change("~", None, enable, "it would not start at boot")

    def _stop(self, found: Mapping[str, Any]) -> Iterator[Change]:
        disable = False if found["enabled"] == "enabled" else None
        if found["active"] not in ("inactive", "failed", "not there yet"):
            yield self._change("-", "stop", disable, "this host should not run it")
        elif disable is False:
            yield self._change("-", None, disable, "this host should not run it")

    def _change(self, sign: Sign, action: str | None, enabled: bool | None, why: str) -> Change:
        operation = Operation("unit", {"name": self.name, "enabled": enabled, "action": action})
        verb = action or ("enable" if enabled else "disable")
        return Change(sign, f"{verb} {self.name}", operation, why)

    @property
    def _folder(self) -> str:
        return str(PurePosixPath(self.current.path).parent / self.current.target)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"unit:{self.name}"})

    @property
    def needs(self) -> frozenset[str]:
        return self.file.provides | self.current.provides
