"""What is the same on many hosts is told once."""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from provision.plan import Plan
from provision.resources.base import Change

NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)")
FEWEST = 3  # hosts in a row that are told as a range


def fold_names(names: Sequence[str]) -> str:
    """The names in a few words: ``worker[2:18], db1``, where ranges are written as Ansible does.

    Names that differ by a number stand together, by that number, where the first of them stood.
    """
    alike: dict[Hashable, list[str]] = {}
    for name in names:
        found = NUMBERED.fullmatch(name)
        alike.setdefault((found[1], found[3]) if found else name, []).append(name)
    return ", ".join(told for each in alike.values() for told in _fold_numbered(each))


def fold_hosts(names: Sequence[str], of: int) -> str:
    """As :func:`fold_names`; if these are all ``of`` the inventory, that they are."""
    return "all hosts" if len(names) == of else fold_names(names)


def _fold_numbered(names: list[str]) -> Iterator[str]:
    """Names that differ by a number, or one name."""
    numbered = [found for name in names if (found := NUMBERED.fullmatch(name))]
    if not numbered:
        yield from names
    keyed = enumerate(sorted(numbered, key=lambda each: int(each[2])))
    for _, group in groupby(keyed, key=lambda each: _series(*each)):
        row = [found for _, found in group]
        if len(row) >= FEWEST:
            yield f"{row[0][1]}[{row[0][2]}:{row[-1][2]}]{row[0][3]}"
        else:
            yield from (found[0] for found in row)


def _series(place: int, found: re.Match[str]) -> Hashable:
    """Equal for names in a row that are numbered one after the other."""
    width = len(found[2]) if found[2].startswith("0") else 0
    return width, int(found[2]) - place


def fold_failures(
    failures: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Hosts with what failed there, in its first line, and its further lines.

    ``failures``: the lines of each host. Lines that were told already say of which host.
    """
    same: dict[tuple[str, ...], list[str]] = {}
    for host, lines in failures.items():
        same.setdefault(tuple(lines), []).append(host)
    told: dict[str, str] = {}  # what went wrong -> where it was told
    for (first, *more), hosts in same.items():
        alike = {first, re.sub(r"\d+", "", first.replace(hosts[0], ""))}
        known = next((told[each] for each in alike if each in told), None)
        yield fold_names(hosts), first, [f"as on {known}"] if known else more
        if not known:
            told |= dict.fromkeys(alike, hosts[0])


def tell_diffs_once(changes: Iterable[Change]) -> Iterator[Change]:
    """Of files that change alike, as those of a worker's instances, the first tells it."""
    shown = set[str]()
    for change in changes:
        *_, body = change.diff.split("\n", 2)  # the names are before it
        if change.sign == "~" and body in shown:
            yield replace(change, diff="", reason=f"{change.reason}, as above")
        else:
            shown |= {body} - {""}
            yield change


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
