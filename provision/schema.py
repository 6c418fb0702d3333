"""What may stand in an inventory, as schema.yml shows it, and YAML read with its line numbers."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from provision.errors import InventoryError
from provision.secrets import Secret

SCHEMA = Path(__file__).parent / "schema.yml"
KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list of texts"}
SIMILAR = 0.7  # as difflib counts: `workers` is meant to be `worker`, `berlin` is not


@dataclass(frozen=True)
class Where:
    """A line of a file, for messages."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


Variables = dict[str, tuple[Any, Where]]
"""Name -> its value, and where that stands."""


@dataclass(frozen=True)
class Schema:
    """What there may be."""

    variables: Mapping[str, Any]  # name -> a value of the right kind
    groups: frozenset[str]


@cache
def schema() -> Schema:
    known = yaml.safe_load(SCHEMA.read_text())["all"]
    return Schema(known["vars"], frozenset(known["children"]))


def variables(path: Path, node: yaml.Node) -> Variables:
    """A mapping's variables, each one known and of the right kind, or InventoryError."""
    known = schema().variables
    found: Variables = {}
    for key, value in pairs(path, node):
        where = place(path, key)
        if key.value not in known:
            raise InventoryError(
                f"{where}: there is no variable {key.value!r}{hint(key.value, known)}"
            )
        checked = _checked(key.value, _value(path, value), known[key.value], where)
        found[key.value] = checked, where
    return found


def _checked(name: str, value: Any, like: Any, where: Where) -> Any:
    kind = type(like)
    secret = name.endswith("_password")
    right = type(value) is kind and (kind is not list or all(type(each) is str for each in value))
    if not right:
        shown = "nothing" if value is None else "something else" if secret else repr(value)
        more = "; put it in quotes" if kind is str and isinstance(value, (int, float)) else ""
        raise InventoryError(f"{where}: {name} should be {KINDS[kind]}, and is {shown}{more}")
    if name.endswith("_port") and not 0 < value < 65536:
        raise InventoryError(f"{where}: {name} should be from 1 to 65535, and is {value}")
    if kind is str and not value.strip():
        raise InventoryError(f"{where}: {name} is empty: give it a value, or take it out")
    return Secret(value) if secret else value


# -- YAML -------------------------------------------------------------------------------


def parse(path: Path) -> yaml.Node:
    """A file's YAML as nodes, which know their lines; an empty mapping when it is empty."""
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


def pairs(path: Path, node: yaml.Node) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """A mapping's keys and values; nothing where nothing is written."""
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return []
    if not isinstance(node, yaml.MappingNode):
        raise InventoryError(
            f"{place(path, node)}: here should be `name:` lines, and there is {_shown(node)}"
        )
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InventoryError(f"{place(path, key)}: a name should be a plain text")
        if key.value in seen:
            raise InventoryError(f"{place(path, key)}: {key.value!r} stands here twice")
        seen.add(key.value)
    return list(node.value)


def _shown(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else repr(node.value)


def _value(path: Path, node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise InventoryError(f"{place(path, node)}: this is no value: {error}") from None
    finally:
        loader.dispose()


def place(path: Path, node: yaml.Node) -> Where:
    return Where(path, node.start_mark.line + 1)


def check_name(name: str, where: Where, known: Iterable[str]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise InventoryError(
            f"{where}: {name!r} is no name: letters, digits, `.`, `_` and `-` make one"
        )
    if known and name not in known and (near := hint(name, known)):
        raise InventoryError(f"{where}: no group is named {name!r}{near}")


def hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1, SIMILAR)
    return f"; did you mean {near[0]!r}?" if near else ""
