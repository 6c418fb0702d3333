"""Who may reach a port: a table of nftables that is ours alone, loaded by a unit of ours.

All other tables, and other ports, are left as they are. What is loaded is state like any other: the
table tells which rules it was made of, and the unit noted how it looked then, so a table that was
flushed or changed by hand is found, and loaded again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from provision.remote.messages import Operation, Question
from provision.render import render
from provision.resources.base import Answers, Change, Problem, Resource, Sign
from provision.resources.files import File, removal
from provision.resources.unit import ABSENT, FOLDER, RELOAD, UnitFile

UNIT = "gearman-firewall.service"
RULES = "/etc/gearman/firewall.nft"
TABLE = "gearman"


@dataclass(frozen=True)
class Firewall(Resource):
    """``rules`` as they are to be loaded at boot and now; None: there is none of ours."""

    rules: File | None
    file: UnitFile

    def questions(self) -> Iterable[Question]:
        if self.rules is None:
            return [("unit", UNIT)]
        return [("unit", UNIT), ("table", TABLE), *self.rules.questions()]

    def steps(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers["unit", UNIT]
        if self.rules is None:
            yield from _gone() if found else ()
            return
        enable = None if (found or ABSENT)["enabled"] == "enabled" else True
        if not found or found["active"] != "active":
            yield _change("+", "start", enable, f"it is {(found or ABSENT)['active']}")
        elif why := self._due(answers):
            yield _change("~", "reload", enable, why)
        elif enable:
            yield _change("~", None, enable, "it would not be loaded at boot")

    def _due(self, answers: Answers) -> str:
        """Why the rules must be loaded again; "": they need not."""
        assert self.rules is not None  # noqa: S101  for mypy: who calls has looked
        found = answers["table", TABLE]
        if list(self.rules.steps(answers)):
            return "its rules change"
        if found["rules"] is None:
            return "its table is gone"
        if f'comment "gearman_py {_digest(self.rules)}"' not in found["rules"]:
            return "other rules are loaded"
        return "" if found["rules"] == found["loaded"] else "its table was changed by hand"

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"unit:{UNIT}"})

    @property
    def needs(self) -> frozenset[str]:
        rules = self.rules.provides if self.rules else frozenset()
        return self.file.provides | rules | {"package:nftables"}


def rules(port: int, v4: Sequence[str], v6: Sequence[str]) -> File:
    """The file of rules that let these addresses and networks reach a TCP port, and no other."""
    known = {"port": port, "v4": v4, "v6": v6}
    digest = hashlib.sha256(render("firewall.nft.j2", known | {"digest": ""}).encode()).hexdigest()
    text = render("firewall.nft.j2", known | {"digest": digest[:16]})
    return File(RULES, content=text.encode())


def unit() -> UnitFile:
    """The unit that loads them."""
    text = render(f"{UNIT}.j2", {"rules": RULES})
    return UnitFile(f"{FOLDER}/{UNIT}", content=text.encode())


def _digest(rules: File) -> str:
    return rules.content.decode().partition('"gearman_py ')[2].partition('"')[0]


def _gone() -> Iterator[Change]:
    why = "this host should have no firewall of ours"
    yield Change("-", f"stop {UNIT}", _unit("stop", False), why)
    yield removal(f"{FOLDER}/{UNIT}", "", why)
    yield removal(RULES, "", why)
    yield RELOAD


def _change(sign: Sign, action: str | None, enabled: bool | None, why: str) -> Change:
    return Change(sign, f"{action or 'enable'} {UNIT}", _unit(action, enabled), why)


def _unit(action: str | None, enabled: bool | None) -> Operation:
    return Operation("unit", {"name": UNIT, "enabled": enabled, "action": action})
