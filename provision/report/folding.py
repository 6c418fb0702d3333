"""What is the same on many hosts is told once."""

import re
from collections.abc import Hashable, Sequence
from itertools import groupby

from provision.plan import Plan
from provision.resources.base import Change

NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)")
FEWEST = 3  # hosts in a row that are told as a range


def fold_names(names: Sequence[str]) -> str:
    """The names in a few words: ``worker[2:18], db1``, where ranges are written as Ansible does."""
    parted = (NUMBERED.fullmatch(name) for name in names)
    keyed = [(name, found, n) for n, (name, found) in enumerate(zip(names, parted, strict=True))]
    told: list[str] = []
    for _, group in groupby(keyed, key=lambda each: _series(*each)):
        row = [(name, found) for name, found, _ in group]
        (first, start), (_, end) = row[0], row[-1]
        if len(row) >= FEWEST and start and end:
            told.append(f"{start[1]}[{start[2]}:{end[2]}]{start[3]}")
        else:
            told += [first, *(name for name, _ in row[1:])]
    return ", ".join(told)


def _series(name: str, found: re.Match[str] | None, place: int) -> Hashable:
    """Equal for names in a row that are numbered one after the other."""
    if found is None:
        return name
    width = len(found[2]) if found[2].startswith("0") else 0
    return found[1], found[3], width, int(found[2]) - place


def shown_alike(host: str, plan: Plan, *, verbose: bool) -> list[Hashable]:
    """One of these is equal for plans of which the same is shown, but for the name of the host."""
    own = re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w)|GEARMAN_CONFIG=\w+")

    def told(change: Change, without: re.Pattern[str]) -> Hashable:
        reason, diff = change.reason, change.diff
        if change.summary.startswith("certificate "):
            reason = re.sub(r"for .*, ", "", reason)  # its host's name and addresses
        shown = diff if verbose or change.sign != "+" else ""
        return change.sign, *(without.sub("", text) for text in (change.summary, reason, shown))

    ways = (own, re.compile("GEARMAN_CONFIG=\\w+"))
    return [(tuple(told(each, way) for each in plan.changes), plan.problems) for way in ways]
