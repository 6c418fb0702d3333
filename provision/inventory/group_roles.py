"""Which groups of an inventory have which role: job server, worker, client.

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
class GroupRoles:
    """``names``: the groups that have a role, by role."""

    names: Mapping[str, tuple[str, ...]]

    def of_host(self, groups: Iterable[str]) -> frozenset[str]:
        """The roles of a host that is in these groups (and in ``all``)."""
        within = {TOP, *groups}
        return frozenset(role for role, names in self.names.items() if within & set(names))

    def describe(self) -> str:
        """The names of those groups."""
        return ", ".join(name for names in self.names.values() for name in names)

    def rename(self, groups: Iterable[str]) -> frozenset[str]:
        """A host's groups as the rest of the toolkit has them: in ``worker`` are our workers.

        A group of that name which has no role is left out.
        """
        return frozenset(set(groups) - {REST, *self.names}) | self.of_host(groups)


def find_group_roles(groups: Groups, said: tuple[Any, Place] | None) -> GroupRoles:
    """The roles, by the value of `gearman_groups`. Warns of groups that are likely misnamed."""
    table: Table = said[0] if said else Table({}, {})
    names = {}
    for role in sorted(schema().groups):
        if role not in table:
            names[role] = (role,)
            _warn_of_empty(role, groups)
            continue
        listed = table[role] or []
        names[role] = tuple([listed] if isinstance(listed, str) else listed)
        for name in names[role]:
            if name not in groups.groups:
                near = nearest_hint(name, groups.groups)
                groups.warnings.append(
                    f"{table.places[role]}: {GROUPS}: no group is named {name!r}{near}"
                )
    return GroupRoles(names)


def _warn_of_empty(role: str, groups: Groups) -> None:
    found = groups.groups.get(role)
    if found and (found.hosts or found.children):
        return
    others = [each for each in groups.groups if each not in schema().groups]
    for near in get_close_matches(role, others, 1, SIMILAR):
        groups.warnings.append(
            f"{groups.groups[near].where}: group {role} has no hosts; did you mean {near!r}? Then "
            f"rename it, or set {GROUPS}: {{{role}: {near}}}"
        )
