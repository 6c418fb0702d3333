"""Which hosts there are, in which groups, with which variables: an Ansible inventory, read.

sources.py finds what it is read from, groups.py collects what is said, and here hosts are made of
it: those whose groups have a role (group_roles.py). Of a variable, what is nearer to the host wins:
the sources' groups, group_vars in the same order, what the sources say of the host, host_vars. Then
what refers to other variables is followed (references.py), what says how to connect is understood
(connection.py), and secrets are opened (secrets.py, vault.py). A mistake in what is ours is told
with its file and line; what belongs to others is passed over.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from getpass import getuser
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from provision.errors import InventoryError
from provision.inventory.connection import (
    INTERPRETER,
    check_connection,
    read_connection,
)
from provision.inventory.document import Table
from provision.inventory.group_roles import find_group_roles
from provision.inventory.groups import TOP, merge_layers
from provision.inventory.host import Host, Inventory, OtherHost
from provision.inventory.patterns import choose_hosts
from provision.inventory.references import References, host_facts, referenced_variables
from provision.inventory.schedules import check_schedules
from provision.inventory.schema import (
    GROUPS,
    Variables,
    check_value,
    find_mistakes,
    refuse_mistakes,
    schema,
    to_kind,
)
from provision.inventory.secrets import Secret
from provision.inventory.sources import base_folder, read_sources
from provision.inventory.vars_files import VarsFolder
from provision.inventory.workers import find_unencrypted, workers

HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def load(path: Path | str, limit: str | None = None) -> Inventory:
    """Read an inventory: a folder, a file, or ``-`` for standard input.

    ``limit``: hosts or groups to work on, as patterns.py says. Raises :class:`InventoryError`,
    also when none of its hosts is ours.
    """
    reader = InventoryReader(Path(path))
    found = _make_inventory(reader, limit)
    if not found.everyone:
        raise InventoryError(
            f"{path}: none of its hosts is in a group that is ours ({reader.roles.describe()}): "
            "gearman_groups says which groups are (docs/inventory.md)"
        )
    return found


def read_inventory(path: Path | str, limit: str | None = None) -> Inventory:
    """As :func:`load`, of an inventory in which no host may be ours."""
    return _make_inventory(InventoryReader(Path(path)), limit)


def _make_inventory(reader: "InventoryReader", limit: str | None) -> Inventory:
    everyone = tuple(reader.make_hosts())
    for host in everyone:
        workers(host)  # raises for what only the whole can tell
    check_schedules(everyone)
    others = tuple(reader.find_others())
    reader.notes += reader.find_mistakes_of_others()
    named = everyone
    if limit is not None:
        by_name: dict[str, Host | OtherHost] = {each.name: each for each in everyone}
        by_name |= {each.name: each for each in others}
        known = [by_name[name] for name in reader.groups.hosts]
        chosen = choose_hosts(known, limit, lambda host: (host.name, TOP, *host.groups))
        named = tuple(each for each in chosen if isinstance(each, Host))
        if not named and everyone:
            raise InventoryError(
                f"--limit {limit}: {', '.join(each.name for each in chosen[:5])}: in none of the "
                f"groups that are ours ({reader.roles.describe()})"
            )
    reader.groups.warnings += _find_twins(everyone)
    warnings, notes = tuple(reader.groups.warnings), tuple(dict.fromkeys(reader.notes))
    mistakes = dict.fromkeys(chain.from_iterable(map(find_unencrypted, everyone)))
    return Inventory(named, everyone, others, warnings, notes, tuple(mistakes))


def _find_twins(hosts: Iterable[Host]) -> Iterator[str]:
    """Hosts that are reached at one place: each would find the machine locked by the other."""
    seen: dict[tuple[object, ...], Host] = {}
    for host in hosts:
        first = seen.setdefault((host.address, host.port, host.jump, host.ssh_config), host)
        if first is not host:
            yield (
                f"{host.where}: {host.name} is at {host.address}:{host.port}, as {first.name} is "
                f"({first.where}): if they are one machine, leave one out"
            )


class InventoryReader:
    """Makes hosts of what the sources and the files of variables say.

    ``memberships``: the groups of each host, as :meth:`Groups.memberships`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = base_folder(path)
        self.groups = groups = read_sources(path)
        self.memberships = groups.memberships()
        refuse_mistakes(groups.groups[TOP].variables)
        if not groups.hosts:
            told = "".join(f"\n  {each}" for each in groups.warnings)
            raise InventoryError(f"{path}: it has no hosts{told}")
        self._group_vars = VarsFolder(self._folder / "group_vars", groups.warnings)
        self._host_vars = VarsFolder(self._folder / "host_vars", groups.warnings)
        of_all = groups.groups[TOP].variables | self._group_vars.variables_of(TOP)
        refuse_mistakes(of_all)
        self._group_names = of_all.get(GROUPS)
        self.roles = find_group_roles(groups, self._group_names)
        self.notes = [
            f"{path}: this inventory has no {kind} of that name"
            for kind, files, known in (
                ("group", self._group_vars, groups.groups),
                ("host", self._host_vars, groups.hosts),
            )
            for path in files.unknown_names(known)
        ]

    def make_hosts(self) -> Iterator[Host]:
        for name in self.groups.hosts:
            if self.roles.of_host(self.memberships[name]):
                for layer in self._layers(name):
                    refuse_mistakes(layer)
                yield self._make_host(name, self.merged_variables(name))

    def find_others(self) -> Iterator[OtherHost]:
        for name, host in self.groups.hosts.items():
            if not self.roles.of_host(self.memberships[name]):
                yield OtherHost(name, frozenset(self.memberships[name]), str(host.where))

    def merged_variables(self, name: str) -> Variables:
        """What is said of a host, defaults aside; of one that is not ours too."""
        return merge_layers(self._layers(name))

    def _layers(self, name: str) -> Iterator[Variables]:
        memberships = self.memberships[name]
        by_group = {each: self._group_vars.variables_of(each) for each in (TOP, *memberships)}
        yield from self.groups.layers(name, memberships, by_group)
        yield self._host_vars.variables_of(name)

    def find_mistakes_of_others(self) -> Iterator[str]:
        """Of hosts and groups, once all hosts that are ours were made: theirs are refused."""
        layers = [each.variables for each in self.groups.groups.values()]
        layers += (each.variables for each in self.groups.hosts.values())
        for variables in layers:
            for error in find_mistakes(variables):
                yield f"{error} (passed over: no host of ours has it)"

    def _make_host(self, name: str, merged: Variables) -> Host:
        where = self.groups.hosts[name].where
        if not HOST_NAME.fullmatch(name) and not _is_address(name):
            raise InventoryError(
                f"{where}: {name!r} is not a valid name of a host of ours; use letters, digits, "
                "`.`, `_` and `-`"
            )
        names, of_all = merged.get(GROUPS), self._group_names
        if names and (of_all is None or names[0] != of_all[0]):
            raise InventoryError(
                f"{names[1]}: {GROUPS} is for the whole inventory: put it into the vars "
                "of all, or into group_vars/all.yml"
            )
        facts = host_facts(name, where)
        connection = read_connection(facts, merged)
        self.notes += connection.notes
        values = _resolve_values(facts, connection.variables)
        check_connection(values, connection.variables)
        said = connection.arguments
        key, config = (
            values.get(each) for each in ("ansible_ssh_private_key_file", "gearman_ssh_config")
        )
        return Host(
            name=name,
            address=values["ansible_host"],
            port=values["ansible_port"],
            user=values.get("ansible_user") or getuser(),
            key_file=self._find_file(key),
            become=values["ansible_become"],
            python=values[INTERPRETER],
            jump=said.jump,
            jump_key=self._find_file(said.jump_key),
            arguments=connection.arguments_name,
            ssh_config=self._find_file(config),
            signing_key=self._find_file(values.get("gearman_signing_key")),
            groups=self.roles.rename(self.memberships[name]),
            variables=MappingProxyType(values),
            where=str(where),
            folder=self._folder,
            inventory=self._path,
            _places=MappingProxyType(
                {key: place for key, (_, place) in connection.variables.items()}
            ),
        )

    def _find_file(self, name: str | None) -> Path | None:
        """A file from the inventory's folder; if it is not there, from the current one, as ssh."""
        if not name:
            return None
        path = Path(name).expanduser()
        found = self._folder / path
        return path.absolute() if not found.exists() and path.exists() else found


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _resolve_values(facts: Mapping[str, str], merged: Variables) -> dict[str, Any]:
    """Every variable's value, set or default; those that schema.yml knows are ready to be used."""
    values = {key: value for key, (value, _) in merged.items()}
    complete = schema().defaults | merged
    # As for Ansible, what is set cannot refer to what is not.
    set_, defaults = References(facts, merged), References(facts, complete)
    for key in complete.keys() & schema().kinds.keys():
        value = (set_ if key in merged else defaults).resolve(key)
        if key.startswith("ansible_"):
            value = to_kind(key, value)
        values[key] = check_value(key, value, complete[key][1])
        if isinstance(values[key], Secret):
            values[key].reveal()  # asked for now, and not when hosts are at work
    for key in _sources_of_secrets(merged) - schema().kinds.keys():
        if isinstance(values[key], str):
            values[key] = Secret(values[key])
    return values


def _sources_of_secrets(merged: Variables) -> set[str]:
    """The variables that a password, or a worker's secret, is made from."""
    said = {key: value for key, (value, _) in merged.items()}
    passwords = (value for key, value in said.items() if key.endswith("_password"))
    tables = said.get("gearman_workers")
    workers = tables.values() if isinstance(tables, Table) else ()
    secrets = (each.get("secrets") for each in workers if isinstance(each, Table))
    return referenced_variables([*passwords, *secrets], merged)
