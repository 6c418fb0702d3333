"""Which groups of an inventory play our parts: job server, worker, client.

Those of these names, or those that `gearman_groups` names. Hosts in none of them are not ours.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from provision.inventory.document import Place, Table
from provision.inventory.groups import REST, TOP, Groups
from provision.inventory.schema import GROUPS, schema
from provision.wording import SIMILAR, nearest_hint


@dataclass(frozen=True)
class Parts:
    """``names``: the groups that play a part, by part."""

    names: Mapping[str, tuple[str, ...]]

    def of_host(self, groups: Iterable[str]) -> frozenset[str]:
        """The parts of a host that is in these groups (and in ``all``)."""
        within = {TOP, *groups}
        return frozenset(part for part, names in self.names.items() if within & set(names))

    def describe(self) -> str:
        """The names of those groups."""
        return ", ".join(name for names in self.names.values() for name in names)

    def rename(self, groups: Iterable[str]) -> frozenset[str]:
        """A host's groups as the rest of the toolkit has them: in ``worker`` are our workers.

        A group of that name which plays no part is left out.
        """
        return frozenset(set(groups) - {REST, *self.names}) | self.of_host(groups)


def find_parts(groups: Groups, said: tuple[Any, Place] | None) -> Parts:
    """The parts, by the value of `gearman_groups`. Warns of those that are likely not meant so."""
    table: Table = said[0] if said else Table({}, {})
    names = {}
    for part in sorted(schema().groups):
        if part not in table:
            names[part] = (part,)
            _warn_of_empty(part, groups)
            continue
        listed = table[part] or []
        names[part] = tuple([listed] if isinstance(listed, str) else listed)
        for name in names[part]:
            if name not in groups.groups:
                near = nearest_hint(name, groups.groups)
                groups.warnings.append(
                    f"{table.places[part]}: {GROUPS}: no group is named {name!r}{near}"
                )
    return Parts(names)


def _warn_of_empty(part: str, groups: Groups) -> None:
    found = groups.groups.get(part)
    if found and (found.hosts or found.children):
        return
    others = [each for each in groups.groups if each not in schema().groups]
    for near in get_close_matches(part, others, 1, SIMILAR):
        groups.warnings.append(
            f"{groups.groups[near].where}: group {part} has no hosts; did you mean {near!r}? Then "
            f"rename it, or set {GROUPS}: {{{part}: {near}}}"
        )
