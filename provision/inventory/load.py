"""Which hosts there are, in which groups, with which variables: an Ansible-style folder, read.

`hosts.yml` and every other *.yml, *.yaml and *.json of the folder are one inventory; group_vars/
and host_vars/ add variables, in NAME, NAME.yml or the files of a folder NAME/. Later wins, as in
Ansible: the inventory's groups (all, then parents, then children; of equals ansible_group_priority
decides, then the name), group_vars in the same order, the host's own, host_vars. Then what refers
to other variables is followed (references.py), and secrets are opened (secrets.py, vault.py). What
may be there is written in schema.yml; anything else is a mistake, told with file, line and the
nearest right name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from provision.errors import InventoryError
from provision.inventory import document, vault
from provision.inventory.document import Place, mapping_pairs, place_of
from provision.inventory.host import Host, Inventory
from provision.inventory.jump_args import ARGUMENTS, parse_jumps
from provision.inventory.patterns import choose_hosts, expand_ranges
from provision.inventory.references import resolve_variable
from provision.inventory.schema import (
    Variables,
    check_name,
    check_value,
    nearest_hint,
    overlay_variables,
    read_variables,
    read_variables_file,
    schema,
)
from provision.inventory.secrets import Secret
from provision.inventory.workers import workers

SECTIONS = ("hosts", "children", "vars")
SUFFIXES = (".yml", ".yaml", ".json")


@dataclass
class _Group:
    where: Place
    variables: Variables = field(default_factory=dict)
    children: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)

    @property
    def priority(self) -> int:
        value, _ = (schema().defaults | self.variables)["ansible_group_priority"]
        return int(value)


@dataclass
class _Host:
    where: Place
    variables: Variables = field(default_factory=dict)


def load(folder: Path | str, limit: str | None = None) -> Inventory:
    """Read an inventory. ``limit``: hosts or groups to work on, as patterns.py says.

    Raises :class:`InventoryError`.
    """
    folder = Path(folder)
    files = _inventory_files(folder)
    reader = _Reader(folder)
    for path in files:
        reader.read_file(path)
    everyone = tuple(reader.hosts_made())
    if not everyone:
        raise InventoryError(f"{files[0]}: it has no hosts")
    for host in everyone:
        workers(host)  # raises for what only the whole can tell
    limit = "all" if limit is None else limit
    named = choose_hosts(everyone, limit, lambda host: (host.name, "all", *host.groups))
    return Inventory(tuple(named), everyone)


def _inventory_files(folder: Path) -> list[Path]:
    if folder.is_file():
        raise InventoryError(f"{folder} is a file: name the folder it is in, {folder.parent}")
    # In Ansible's order: of what two files say of a group, the later file's holds.
    files = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    if files:
        return files
    if ini := [path for path in sorted(folder.glob("hosts*")) if path.is_file()]:
        raise InventoryError(
            f"{ini[0]}: only YAML is read; `ansible-inventory -i {ini[0]} --list --yaml` makes "
            "YAML of it, to be saved as hosts.yml"
        )
    if folder.is_dir():
        raise InventoryError(f"{folder}: it has no hosts.yml: copy inventory/prod's")
    beside = sorted(path.parent for path in folder.parent.glob("*/hosts.yml"))
    known = f"; there is {' and '.join(map(str, beside))}" if beside else ""
    raise InventoryError(f"{folder}: no such folder{known}")


class _Reader:
    """Collects what the files say, then makes hosts of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._groups: dict[str, _Group] = {}
        self._hosts: dict[str, _Host] = {}

    # -- reading ------------------------------------------------------------------------

    def read_file(self, path: Path) -> None:
        text = document.read_text(path)
        if vault.is_encrypted(text):
            raise InventoryError(
                f"{path}: the list of hosts cannot be encrypted: write it in plain text, and "
                "what is secret into an encrypted file of group_vars"
            )
        for key, value in mapping_pairs(path, document.parse_yaml(path, text)):
            self._read_group(path, key, value)

    def _read_group(self, path: Path, key: yaml.ScalarNode, value: yaml.Node) -> None:
        name, where = str(key.value), place_of(path, key)
        check_name(name, where, schema().groups | {"all", "ungrouped"})
        group = self._groups.setdefault(name, _Group(where))
        for section, content in mapping_pairs(path, value):
            if section.value not in SECTIONS:
                raise InventoryError(
                    f"{place_of(path, section)}: a group has hosts, children and vars, and no "
                    f"{section.value!r}{nearest_hint(section.value, SECTIONS)}"
                )
            if section.value == "vars":
                group.variables.update(read_variables(path, content))
            elif section.value == "children":
                for child, below in mapping_pairs(path, content):
                    group.children.add(child.value)
                    self._read_group(path, child, below)
            else:
                self._read_members(path, group, content)

    def _read_members(self, path: Path, group: _Group, content: yaml.Node) -> None:
        for key, own in mapping_pairs(path, content):
            where = place_of(path, key)
            try:
                names = expand_ranges(key.value)
            except ValueError as error:
                raise InventoryError(f"{where}: {error}") from None
            for name in names:
                check_name(name, where, ())
                host = self._hosts.setdefault(name, _Host(where))
                host.variables.update(read_variables(path, own))
                group.hosts.add(name)

    def _folder_vars(self, kind: str, names: Iterable[str]) -> dict[str, Variables]:
        folder = self._folder / f"{kind}_vars"
        for path in sorted(folder.glob("[!.]*")):
            name = path.stem if path.suffix in SUFFIXES else path.name
            if name not in names and not path.name.endswith("~"):
                raise InventoryError(
                    f"{path}:1: no {kind} is named {name!r}{nearest_hint(name, names)}"
                )
        found = {}
        for name in names:
            found[name] = {
                key: value
                for path in _vars_files(folder, name)
                for key, value in read_variables_file(path).items()
            }
        return found

    # -- making -------------------------------------------------------------------------

    def hosts_made(self) -> Iterator[Host]:
        top = self._groups.setdefault("all", _Group(Place(self._folder / "hosts.yml", 1)))
        by_group = self._folder_vars("group", self._groups.keys())
        by_host = self._folder_vars("host", self._hosts.keys())
        depths = self._group_depths()
        for name, host in self._hosts.items():
            groups = sorted(
                self._groups_of(name),
                key=lambda each: (depths[each], self._groups[each].priority, each),
            )
            merged = dict(top.variables)
            for group in groups:
                merged = overlay_variables(merged, self._groups[group].variables)
            for group in ("all", *groups):
                merged = overlay_variables(merged, by_group.get(group, {}))
            for own in (host.variables, by_host.get(name, {})):
                merged = overlay_variables(merged, own)
            yield self._make_host(name, host.where, frozenset(groups), merged)

    def _group_depths(self) -> dict[str, int]:
        """How far each group is below ``all``, by the longest way."""
        depths = dict.fromkeys(self._groups, 0)
        for _ in self._groups:
            for name, group in self._groups.items():
                for child in group.children:
                    depths[child] = max(depths[child], depths[name] + 1)
        for name, depth in depths.items():
            if depth >= len(self._groups):
                where = self._groups[name].where
                raise InventoryError(f"{where}: group {name!r} is among its own children")
        return depths

    def _groups_of(self, host: str) -> set[str]:
        found = {name for name, group in self._groups.items() if host in group.hosts}
        while (
            more := {name for name, group in self._groups.items() if group.children & found} - found
        ):
            found |= more
        return found - {"all", "ungrouped"}

    def _make_host(
        self, name: str, where: Place, groups: frozenset[str], merged: Variables
    ) -> Host:
        roles = schema().groups
        if not groups & roles:
            raise InventoryError(
                f"{where}: host {name!r} is in no group that says what it is for: put it into "
                f"{', '.join(sorted(roles))}"
            )
        values = _resolve_values(name, merged)
        key_file = values.get("ansible_ssh_private_key_file")
        ssh_config = values.get("ssh_config")
        return Host(
            name=name,
            address=values["ansible_host"],
            port=values["ansible_port"],
            user=values.get("ansible_user") or getuser(),
            key_file=self._folder / Path(key_file).expanduser() if key_file else None,
            become=values["ansible_become"],
            jump=_parse_jump(values, merged[ARGUMENTS][1] if ARGUMENTS in merged else None),
            ssh_config=self._folder / Path(ssh_config).expanduser() if ssh_config else None,
            groups=groups,
            variables=MappingProxyType(values),
            where=str(where),
            folder=self._folder,
            _places=MappingProxyType({key: place for key, (_, place) in merged.items()}),
        )


def _resolve_values(host: str, merged: Variables) -> dict[str, Any]:
    """Every variable's value, set or default; those that schema.yml knows are ready to be used."""
    values = {key: value for key, (value, _) in merged.items()}
    complete = schema().defaults | merged
    for key in complete.keys() & schema().kinds.keys():
        # As for Ansible, what is set cannot refer to what is not.
        known = merged if key in merged else complete
        values[key] = check_value(key, resolve_variable(host, known, key), known[key][1])
        if isinstance(values[key], Secret):
            values[key].reveal()  # asked for now, and not when hosts are at work
    return values


def _parse_jump(values: Mapping[str, Any], where: Place | None) -> tuple[str, ...]:
    arguments = values.get(ARGUMENTS, "-J none")
    try:
        return parse_jumps(arguments)
    except ValueError as error:
        raise InventoryError(f"{where}: {ARGUMENTS}: {error}, and not {arguments!r}") from None


def _vars_files(folder: Path, name: str) -> Iterator[Path]:
    """Where Ansible finds the variables of ``name``: the first of NAME, NAME.yml ... that is."""
    for path in (folder / f"{name}{suffix}" for suffix in ("", *SUFFIXES)):
        if path.is_dir() and path.name == name:
            yield from _files_within(path)
            return
        if path.is_file():
            yield path
            return


def _files_within(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir() and not path.suffix:
            yield from _files_within(path)
        elif path.is_file() and path.suffix in ("", *SUFFIXES):
            yield path
