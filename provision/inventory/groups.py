"""Groups and hosts as the sources of an inventory name them, and what each says of a host.

Which variable wins is Ansible's rule: groups before the host, of groups the less deep first (all,
then parents, then children), of equally deep ones `ansible_group_priority` decides, then the name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provision.errors import InventoryError
from provision.inventory.document import Place
from provision.inventory.patterns import expand_ranges, split_port
from provision.inventory.schema import Variables, overlay_variables

TOP, REST = "all", "ungrouped"  # every host; those that are in no other group
PRIORITY = "ansible_group_priority"
PORT = "ansible_port"


@dataclass
class InventoryGroup:
    """A group, its own hosts and its child groups."""

    where: Place
    variables: Variables = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)

    @property
    def priority(self) -> int:
        value, where = self.variables.get(PRIORITY, (1, self.where))
        try:
            return int(value)
        except (TypeError, ValueError):
            raise InventoryError(
                f"{where}: {PRIORITY} should be a whole number, and is {value!r}"
            ) from None


@dataclass
class NamedHost:
    """A host, and what the sources say of it alone."""

    where: Place
    variables: Variables = field(default_factory=dict)


class Groups:
    """What all sources of an inventory say.

    ``warnings``: what was passed over, or is likely not meant so; file:line and a sentence each.
    """

    def __init__(self, where: Path) -> None:
        top = Place(where, 1)
        self.groups = {TOP: InventoryGroup(top), REST: InventoryGroup(top)}
        self.hosts: dict[str, NamedHost] = {}
        self.warnings: list[str] = []

    # -- for who reads a source ---------------------------------------------------------------

    def add_group(self, name: str, where: Place) -> InventoryGroup:
        return self.groups.setdefault(name, InventoryGroup(where))

    def add_hosts(self, group: str, pattern: str, where: Place, variables: Variables) -> None:
        """Hosts of a group, by a name that may have ranges and a port."""
        bare, port = split_port(pattern)
        try:
            names = expand_ranges(bare)
        except ValueError as error:
            raise InventoryError(f"{where}: {error}") from None
        for name in names:
            self.add_host(group, name, where, variables, port)

    def add_host(
        self, group: str, name: str, where: Place, variables: Variables, port: int | None = None
    ) -> None:
        """A host of a group. As in Ansible, only who first names a host can add a port to it."""
        if name not in self.hosts:
            self.hosts[name] = NamedHost(where, {PORT: (port, where)} if port else {})
        self.hosts[name].variables.update(variables)
        self.groups[group].hosts[name] = None

    # -- for who makes hosts of it --------------------------------------------------------------

    def depths(self) -> dict[str, int]:
        """How far each group is below ``all``, by the longest way."""
        depths = {name: int(name != TOP) for name in self.groups}
        for name, group in self.groups.items():
            if TOP in group.children:
                raise InventoryError(f"{group.where}: group {name!r} has all among its children")
        for _ in self.groups:
            for name, group in self.groups.items():
                for child in group.children:
                    depths[child] = max(depths[child], depths[name] + 1)
        for name, depth in depths.items():
            if depth > len(self.groups):
                where = self.groups[name].where
                raise InventoryError(f"{where}: group {name!r} is among its own children")
        return depths

    def memberships(self) -> dict[str, list[str]]:
        """The groups of each host, without ``all``, the one whose variables win last."""
        depths = self.depths()
        order = sorted(
            self.groups, key=lambda each: (depths[each], self.groups[each].priority, each)
        )
        above: dict[str, set[str]] = {}  # a group -> itself and all that it is within
        for name in sorted(self.groups, key=lambda each: depths[each]):
            above.setdefault(name, set()).add(name)
            for child in self.groups[name].children:
                above.setdefault(child, set()).update(above[name])
        found: dict[str, set[str]] = {name: set() for name in self.hosts}
        for name, group in self.groups.items():
            for host in group.hosts:
                found[host] |= above[name]
        ranks = {name: number for number, name in enumerate(order)}
        return {
            host: sorted((names - {TOP, REST}) or {REST}, key=lambda each: ranks[each])
            for host, names in found.items()
        }

    def layers(
        self, host: str, memberships: list[str], by_group: Mapping[str, Variables]
    ) -> Iterator[Variables]:
        """What is said of a host, the weakest first; without host_vars.

        ``by_group``: what group_vars says.
        """
        for name in (TOP, *memberships):
            yield self.groups[name].variables
        for name in (TOP, *memberships):
            yield by_group.get(name, {})
        yield self.hosts[host].variables


def merge_layers(layers: Iterator[Variables]) -> Variables:
    merged: Variables = {}
    for layer in layers:
        merged = overlay_variables(merged, layer)
    return merged
