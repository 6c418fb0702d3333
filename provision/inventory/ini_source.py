"""A source in Ansible's INI form.

Hosts of a group stand under `[group]`, its child groups under `[group:children]`, its variables
under `[group:vars]`; hosts above all sections are in no group. A value is a Python literal where
it reads as one (`22`, `True`, `['a', 'b']`), otherwise a text. A variable of ours is made of the
kind that it has in schema.yml: `yes` is true where that is asked.
"""

import ast
import io
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

from provision.errors import InventoryError
from provision.inventory.document import Place, as_tables
from provision.inventory.groups import REST, Groups
from provision.inventory.references import OURS
from provision.inventory.schema import (
    PASSWORDS,
    Variables,
    check_variables,
    schema,
    to_kind,
)

SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
GROUP = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
COMMENTS = ("#", ";")
HOSTS, CHILDREN, VARS = KINDS = ("hosts", "children", "vars")


def has_sections(text: str) -> bool:
    """Whether a line looks like `[web]`, as only lines of this form do."""
    return re.search(r"^\[.*\][^\S\n]*([#;].*)?$", text, re.MULTILINE) is not None


def starts_with_section(text: str) -> bool:
    """Whether the first line that is not a comment is such a line."""
    return SECTION.fullmatch(first_line(text)) is not None


def first_line(text: str, *passed: str) -> str:
    """The first line that is neither a comment nor starts with one of ``passed``."""
    starts = ("#", ";", "---", *passed)
    lines = (line.strip() for line in io.StringIO(text))
    return next((line for line in lines if line and not line.startswith(starts)), "")


def read_ini(path: Path, text: str, groups: Groups) -> None:
    """Add what it says. Raises :class:`InventoryError`."""
    _INIReader(path, groups).read(text)


class _INIReader:
    def __init__(self, path: Path, groups: Groups) -> None:
        self._path = path
        self._groups = groups
        self._group = REST
        self._kind = HOSTS
        self._undeclared: dict[str, InventoryError] = {}  # groups that only :vars or :children name

    def read(self, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            line, where = line.strip(), Place(self._path, number)
            if not line or line.startswith(COMMENTS):
                continue
            if section := SECTION.fullmatch(line):
                self._begin_section(where, section[1], section[2] or HOSTS)
            elif line.startswith("[") and (line.endswith("]") or "]" not in line):
                raise InventoryError(
                    f"{where}: {line} is not a section: write [GROUP], [GROUP:children] or "
                    "[GROUP:vars], without spaces"
                )
            elif self._kind == HOSTS:
                self._read_host(where, line)
            elif self._kind == VARS:
                name, value = _split_variable(where, line)
                found = self._variables(where, [(name.strip(), value.strip())])
                self._groups.groups[self._group].variables.update(found)
            else:
                self._read_child(where, line)
        for error in self._undeclared.values():
            raise error

    def _begin_section(self, where: Place, group: str, kind: str) -> None:
        if kind not in KINDS:
            raise InventoryError(
                f"{where}: [{group}:{kind}]: unknown kind of section; expected [{group}], "
                f"[{group}:children] or [{group}:vars]"
            )
        if kind == VARS and group not in self._groups.groups:
            self._undeclared[group] = InventoryError(
                f"{where}: [{group}:vars]: no group is named {group!r}; write [{group}] too"
            )
        if kind != VARS:
            self._undeclared.pop(group, None)
        self._groups.add_group(group, where)
        self._group, self._kind = group, kind

    def _read_child(self, where: Place, line: str) -> None:
        found = GROUP.fullmatch(line)
        if found is None:
            raise InventoryError(f"{where}: {line!r} is not the name of a group")
        child = found[1]
        if child not in self._groups.groups:
            self._undeclared[child] = InventoryError(
                f"{where}: [{self._group}:children]: no group is named {child!r}"
            )
        self._groups.add_group(child, where)
        self._groups.groups[self._group].children[child] = None

    def _read_host(self, where: Place, line: str) -> None:
        try:
            name, *words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InventoryError(f"{where}: {str(error).lower()} ({line})") from None
        if name.endswith(":") or name == "---":
            raise InventoryError(f"{where}: {name!r} is not a host: is this a file in YAML?")
        found = self._variables(where, [_split_variable(where, word) for word in words])
        self._groups.add_hosts(self._group, name, where, found)

    def _variables(self, where: Place, pairs: list[tuple[str, str]]) -> Variables:
        return check_variables((name, _value(name, text, where), where) for name, text in pairs)


def _value(name: str, text: str, where: Place) -> Any:
    value = _literal(text)
    ours = name.startswith(OURS)
    if name in PASSWORDS or (ours and schema().kinds.get(name) is str):
        return value if isinstance(value, str) else text  # a password may be 0x12
    return as_tables(to_kind(name, value), where) if ours else value


def _split_variable(where: Place, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InventoryError(f"{where}: {text!r} should be NAME=VALUE")
    return name, value


def _literal(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return _plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _plain(value: Any) -> Any:
    """As Ansible makes it of what YAML has not: sets, tuples, bytes, complex numbers."""
    match value:
        case list() | tuple() | set():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case bytes():
            return value.decode()
        case complex():
            return str(value)
    return "..." if value is ... else value
