"""Which hosts there are, in which groups, with which variables: an Ansible-style folder, read.

`hosts.yml` and every other *.yml of the folder are one inventory; group_vars/NAME.yml and
host_vars/NAME.yml add variables. Later wins, as in Ansible: the inventory's groups (all, then
parents, then children), group_vars in the same order, the host's own, host_vars. What may be
there is written in schema.yml; anything else is a mistake, told with file, line and the
nearest right name.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from getpass import getuser
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from provision.errors import InventoryError
from provision.secrets import Secret

SCHEMA = Path(__file__).parent / "schema.yml"
SECTIONS = ("hosts", "children", "vars")
KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list of texts"}
SIMILAR = 0.7  # as difflib counts: `workers` is meant to be `worker`, `berlin` is not


@dataclass(frozen=True)
class Host:
    """A host, and all that its inventory says of it."""

    name: str
    address: str
    port: int
    user: str
    key_file: Path | None
    become: bool
    groups: frozenset[str]
    variables: Mapping[str, Any] = field(hash=False)
    where: str  # file:line
    folder: Path  # of the inventory: known_hosts is there

    def where_is(self, variable: str) -> str:
        """file:line of a variable; of the host when nobody set it."""
        return str(self._places.get(variable, self.where))

    _places: Mapping[str, "Where"] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True)
class Inventory:
    """``hosts`` are those to work on; a group always is the whole group."""

    hosts: tuple[Host, ...]
    _everyone: tuple[Host, ...]

    def group(self, name: str) -> tuple[Host, ...]:
        return tuple(host for host in self._everyone if name in host.groups)


@dataclass(frozen=True)
class Where:
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


Variables = dict[str, tuple[Any, Where]]


@dataclass
class _Group:
    where: Where
    variables: Variables = field(default_factory=dict)
    children: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)


@dataclass
class _Host:
    where: Where
    variables: Variables = field(default_factory=dict)


def load(folder: Path | str, limit: str | None = None) -> Inventory:
    """Read an inventory. ``limit``: hosts or groups to work on, as in ``worker*,!worker2``.

    Raises :class:`InventoryError`.
    """
    folder = Path(folder)
    files = _files(folder)
    reader = _Reader(folder)
    for path in files:
        reader.file(path)
    everyone = tuple(reader.hosts_made())
    if not everyone:
        raise InventoryError(f"{files[0]}: there is no host in it")
    return Inventory(_limited(everyone, limit), everyone)


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        raise InventoryError(f"{folder} is a file: name the folder it is in, {folder.parent}")
    files = sorted(folder.glob("*.yml"), key=lambda path: (path.name != "hosts.yml", path.name))
    if files:
        return files
    if folder.is_dir():
        raise InventoryError(f"{folder}: there is no hosts.yml in it: copy inventory/prod's")
    beside = sorted(path.parent for path in folder.parent.glob("*/hosts.yml"))
    known = f"; there is {' and '.join(map(str, beside))}" if beside else ""
    raise InventoryError(f"{folder}: there is no such folder{known}")


def _limited(everyone: tuple[Host, ...], limit: str | None) -> tuple[Host, ...]:
    chosen: set[str] = set()
    patterns = [each.strip() for each in (limit or "all").split(",")]
    # As in Ansible: what is left out is left out wherever it stands, and of all when alone.
    for pattern in sorted(patterns, key=lambda each: each.startswith("!")):
        bare = pattern.removeprefix("!")
        named = {host.name for host in everyone if _matches(host, bare)}
        if not named:
            known = {name for host in everyone for name in (host.name, *host.groups)}
            raise InventoryError(f"--limit: no host or group is named {bare!r}{_hint(bare, known)}")
        if bare == pattern:
            chosen |= named
        else:
            chosen = (chosen or {host.name for host in everyone}) - named
    if not chosen:
        raise InventoryError(f"--limit {limit}: that leaves no host")
    return tuple(host for host in everyone if host.name in chosen)


def _matches(host: Host, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (host.name, "all", *host.groups))


class _Reader:
    """Collects what the files say, then makes hosts of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._groups: dict[str, _Group] = {}
        self._hosts: dict[str, _Host] = {}

    # -- reading ------------------------------------------------------------------------

    def file(self, path: Path) -> None:
        for key, value in _pairs(path, _parse(path)):
            self._group(path, key, value)

    def _group(self, path: Path, key: yaml.ScalarNode, value: yaml.Node) -> None:
        name, where = str(key.value), _where(path, key)
        _check_name(name, where, _schema().groups | {"all", "ungrouped"})
        group = self._groups.setdefault(name, _Group(where))
        for section, content in _pairs(path, value):
            if section.value not in SECTIONS:
                raise InventoryError(
                    f"{_where(path, section)}: a group has hosts, children and vars, and no "
                    f"{section.value!r}{_hint(section.value, SECTIONS)}"
                )
            if section.value == "vars":
                group.variables.update(_variables(path, content))
            elif section.value == "children":
                for child, below in _pairs(path, content):
                    group.children.add(child.value)
                    self._group(path, child, below)
            else:
                self._members(path, group, content)

    def _members(self, path: Path, group: _Group, content: yaml.Node) -> None:
        for name, variables in _pairs(path, content):
            where = _where(path, name)
            _check_name(name.value, where, ())
            host = self._hosts.setdefault(name.value, _Host(where))
            host.variables.update(_variables(path, variables))
            group.hosts.add(name.value)

    def _folder_vars(self, kind: str, names: Iterable[str]) -> dict[str, Variables]:
        found = {}
        for path in sorted((self._folder / f"{kind}_vars").glob("*")):
            if path.suffix != ".yml":
                raise InventoryError(f"{path}: only NAME.yml is read here")
            if path.stem not in names:
                raise InventoryError(
                    f"{path}:1: no {kind} is named {path.stem!r}{_hint(path.stem, names)}"
                )
            found[path.stem] = _variables(path, _parse(path))
        return found

    # -- making -------------------------------------------------------------------------

    def hosts_made(self) -> Iterator[Host]:
        top = self._groups.setdefault("all", _Group(Where(self._folder / "hosts.yml", 1)))
        by_group = self._folder_vars("group", self._groups.keys())
        by_host = self._folder_vars("host", self._hosts.keys())
        depths = self._depths()
        for name, host in self._hosts.items():
            groups = sorted(self._groups_of(name), key=lambda each: (depths[each], each))
            merged = dict(top.variables)
            for group in groups:
                merged |= self._groups[group].variables
            for group in ("all", *groups):
                merged |= by_group.get(group, {})
            merged |= host.variables | by_host.get(name, {})
            yield self._host(name, host.where, frozenset(groups), merged)

    def _depths(self) -> dict[str, int]:
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

    def _host(self, name: str, where: Where, groups: frozenset[str], merged: Variables) -> Host:
        roles = _schema().groups
        if not groups & roles:
            raise InventoryError(
                f"{where}: host {name!r} is in no group that says what it is for: put it into "
                f"{', '.join(sorted(roles))}"
            )
        values = {key: value for key, (value, _) in merged.items()}
        key_file = values.get("ansible_ssh_private_key_file")
        return Host(
            name=name,
            address=values.get("ansible_host", name),
            port=values.get("ansible_port", 22),
            user=values.get("ansible_user") or getuser(),
            key_file=self._folder / Path(key_file).expanduser() if key_file else None,
            become=values.get("ansible_become", True),
            groups=groups,
            variables=MappingProxyType(values),
            where=str(where),
            folder=self._folder,
            _places=MappingProxyType({key: place for key, (_, place) in merged.items()}),
        )


# -- variables --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Schema:
    variables: Mapping[str, Any]  # name -> a value of the right kind
    groups: frozenset[str]


@cache
def _schema() -> _Schema:
    known = yaml.safe_load(SCHEMA.read_text())["all"]
    return _Schema(known["vars"], frozenset(known["children"]))


def _variables(path: Path, node: yaml.Node) -> Variables:
    known = _schema().variables
    found: Variables = {}
    for key, value in _pairs(path, node):
        where = _where(path, key)
        if key.value not in known:
            raise InventoryError(
                f"{where}: there is no variable {key.value!r}{_hint(key.value, known)}"
            )
        found[key.value] = (
            _checked(key.value, _value(path, value), known[key.value], where),
            where,
        )
    return found


def _checked(name: str, value: Any, like: Any, where: Where) -> Any:
    kind = type(like)
    right = type(value) is kind and (kind is not list or all(type(each) is str for each in value))
    if not right:
        shown = "nothing" if value is None else repr(value)
        more = "; put it in quotes" if kind is str and isinstance(value, (int, float)) else ""
        raise InventoryError(f"{where}: {name} should be {KINDS[kind]}, and is {shown}{more}")
    if name.endswith("_port") and not 0 < value < 65536:
        raise InventoryError(f"{where}: {name} should be from 1 to 65535, and is {value}")
    if kind is str and not value.strip():
        raise InventoryError(f"{where}: {name} is empty: give it a value, or take it out")
    return Secret(value) if name.endswith("_password") else value


# -- YAML -------------------------------------------------------------------------------


def _parse(path: Path) -> yaml.Node:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Where(path, mark.line + 1) if mark else path
        raise InventoryError(f"{place}: this is no YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InventoryError(f"{path}: this is no YAML: {error}") from None
    except OSError as error:
        raise InventoryError(f"{path}: it cannot be read: {error.strerror}") from None
    return node or yaml.MappingNode("tag:yaml.org,2002:map", [])


def _pairs(path: Path, node: yaml.Node) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """A mapping's keys and values; nothing where nothing is written."""
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return []
    if not isinstance(node, yaml.MappingNode):
        raise InventoryError(
            f"{_where(path, node)}: here should be `name:` lines, and there is {_shown(node)}"
        )
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InventoryError(f"{_where(path, key)}: a name should be a plain text")
        if key.value in seen:
            raise InventoryError(f"{_where(path, key)}: {key.value!r} stands here twice")
        seen.add(key.value)
    return list(node.value)


def _shown(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else repr(node.value)


def _value(path: Path, node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise InventoryError(f"{_where(path, node)}: this is no value: {error}") from None
    finally:
        loader.dispose()


def _where(path: Path, node: yaml.Node) -> Where:
    return Where(path, node.start_mark.line + 1)


def _check_name(name: str, where: Where, known: Iterable[str]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise InventoryError(
            f"{where}: {name!r} is no name: letters, digits, `.`, `_` and `-` make one"
        )
    if known and name not in known and (hint := _hint(name, known)):
        raise InventoryError(f"{where}: no group is named {name!r}{hint}")


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1, SIMILAR)
    return f"; did you mean {near[0]!r}?" if near else ""
