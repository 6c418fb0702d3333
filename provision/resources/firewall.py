"""Who may reach a port: a table of nftables that is ours alone, loaded by a unit of ours.

All other tables, and other ports, are left as they are. What is loaded is state like any other: the
table tells which rules it was made of, and the unit noted how it looked then, so a table that was
flushed or changed by hand is found, and loaded again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from provision.remote.messages import Operation, Question
from provision.render import render_template
from provision.resources.base import Answers, Change, Problem, Resource, Sign
from provision.resources.files import File
from provision.resources.unit import ABSENT, FOLDER, UnitFile

UNIT = "gearman-firewall.service"
RULES = "/etc/gearman/firewall.nft"
TABLE = "gearman"


@dataclass(frozen=True)
class Firewall(Resource):
    """``rules`` as they are to be loaded at boot and now."""

    rules: File
    file: UnitFile

    def questions(self) -> Iterable[Question]:
        return [("unit", UNIT), ("table", TABLE), *self.rules.questions()]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers["unit", UNIT]
        enable = None if (found or ABSENT)["enabled"] == "enabled" else True
        if not found or found["active"] != "active":
            yield _unit_change("+", "start", enable, f"it is {(found or ABSENT)['active']}")
        elif why := self._why_due(answers):
            yield _unit_change("~", "reload", enable, why)
        elif enable:
            yield _unit_change("~", None, enable, "it would not be loaded at boot")

    def _why_due(self, answers: Answers) -> str:
        """Why the rules must be loaded again; "": they need not."""
        found = answers["table", TABLE]
        if list(self.rules.plan_changes(answers)):
            return "its rules change"
        if found["rules"] is None:
            return "its table is gone"
        if f'comment "gearman_py {_rules_digest(self.rules)}"' not in found["rules"]:
            return "other rules are loaded"
        return "" if found["rules"] == found["loaded"] else "its table was changed by hand"

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"unit:{UNIT}"})

    @property
    def needs(self) -> frozenset[str]:
        return self.file.provides | self.rules.provides | {"package:nftables"}


def rules_file(ports: Sequence[int], v4: Sequence[str], v6: Sequence[str]) -> File:
    """The file of rules that let these addresses and networks reach TCP ports, and no other."""
    known = {"ports": ports, "v4": v4, "v6": v6}
    digest = hashlib.sha256(
        render_template("firewall.nft.j2", known | {"digest": ""}).encode()
    ).hexdigest()
    text = render_template("firewall.nft.j2", known | {"digest": digest[:16]})
    return File(RULES, content=text.encode())


def firewall_unit() -> UnitFile:
    """The unit that loads them."""
    text = render_template(f"{UNIT}.j2", {"rules": RULES})
    return UnitFile(f"{FOLDER}/{UNIT}", content=text.encode())


def _rules_digest(rules: File) -> str:
    return rules.content.decode().partition('"gearman_py ')[2].partition('"')[0]


def _unit_change(sign: Sign, action: str | None, enabled: bool | None, why: str) -> Change:
    return Change(sign, f"{action or 'enable'} {UNIT}", _unit_operation(action, enabled), why)


def _unit_operation(action: str | None, enabled: bool | None) -> Operation:
    return Operation("unit", {"name": UNIT, "enabled": enabled, "action": action})
