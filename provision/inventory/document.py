"""YAML, read with its line numbers: every value knows where it stands, for messages."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from provision.errors import InventoryError
from provision.inventory import vault
from provision.inventory.secrets import Secret

MAX_VALUES = 1_000_000  # in one file: 20,000 hosts have fewer
EMPTY = yaml.MappingNode("tag:yaml.org,2002:map", [])
INPUT = Path("-")
BYTE_ORDER_MARK = "\ufeff"  # Windows' editors begin a file with it
TEXT = "tag:yaml.org,2002:str"
PLAIN = tuple(f"tag:yaml.org,2002:{each}" for each in ("bool", "int", "float", "timestamp"))
MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class Table(dict[str, Any]):
    """A mapping whose keys know where they stand."""

    def __init__(self, values: Mapping[str, Any], places: Mapping[str, Place]) -> None:
        super().__init__(values)
        self.places = dict(places)

    def __or__(self, other: Any) -> "Table":  # type: ignore[override]  # narrower than dict's
        """Both; of a key that both have, the other's value, and of two tables both again."""
        merged = Table(self, self.places)
        for key, value in other.items():
            mine = merged.get(key)
            both = isinstance(mine, Table) and isinstance(value, Table)
            merged[key] = mine | value if both else value
            merged.places[key] = other.places[key]
        return merged


def read_text(path: Path) -> str:
    """The text of a file; of standard input, which is read once, for ``-``."""
    try:
        return _read_input() if path == INPUT else path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return _read_text_without_comments(path)
    except OSError as error:
        raise InventoryError(f"{path}: it cannot be read: {error.strerror}") from None


def _read_text_without_comments(path: Path) -> str:
    """As Ansible has it: only in a comment may there be what is not UTF-8."""
    lines = path.read_bytes().removeprefix(BYTE_ORDER_MARK.encode()).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            if not line.lstrip().startswith((b"#", b";")):
                raise InventoryError(f"{path}:{number}: it is not UTF-8 text") from None
    return "\n".join(line.decode(errors="replace") for line in lines) + "\n"


@cache
def _read_input() -> str:
    return sys.stdin.read().removeprefix(BYTE_ORDER_MARK)


def parse_yaml(path: Path, text: str) -> yaml.Node:
    """A file's YAML as nodes, which know their lines; an empty mapping when it is empty."""
    if "\t" in text and is_json(text):
        text = text.replace("\t", " ")  # which YAML does not take between values
    try:
        node = yaml.compose(text, yaml.SafeLoader) or EMPTY
        if _expanded_size(node, {}) > MAX_VALUES:
            raise InventoryError(
                f"{path}: its aliases (*name) expand to more than {MAX_VALUES:,} values"
            )
        return node
    except RecursionError:
        raise InventoryError(f"{path}: invalid YAML: it is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(path, mark.line + 1) if mark else path
        raise InventoryError(f"{place}: invalid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InventoryError(f"{path}: invalid YAML: {error}") from None


def is_json(text: str) -> bool:
    """Whether it is a JSON object, as a whole."""
    try:
        return text.lstrip().startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are when each alias is written out; one that refers to itself is 1."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 1
        inner = node.value
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_expanded_size(each, known) for each in inner)
    return known[id(node)]


def place_of(path: Path, node: yaml.Node) -> Place:
    return Place(path, node.start_mark.line + 1)


def mapping_pairs(path: Path, node: yaml.Node) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """A mapping's keys and values; nothing where nothing is written."""
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return []
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "a string"
        raise InventoryError(f"{place_of(path, node)}: expected `name:` lines, found {found}")
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InventoryError(f"{place_of(path, key)}: a name should be a plain string")
    try:
        yaml.SafeLoader("").flatten_mapping(node)  # `<<: *other` is written out
    except yaml.MarkedYAMLError as error:
        raise InventoryError(f"{place_of(path, node)}: invalid value: {error.problem}") from None
    return list({key.value: (key, value) for key, value in node.value}.values())


def repeated_names(path: Path, node: yaml.Node) -> Iterator[str]:
    """file:line and name of what stands twice in one mapping, where the last one counts."""
    seen: set[int] = set()
    left = [node]
    while left:
        node = left.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
            continue
        names: set[str] = set()
        for key, value in node.value:
            left.append(value)
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in names:
                    yield f"{place_of(path, key)}: {key.value!r} is repeated"
                names.add(key.value)


def node_value(path: Path, node: yaml.Node) -> Any:
    """What a node means; a `!vault` text is a :class:`Secret`, opened when it is needed."""
    loader = _Loader("")
    loader.path = path
    try:
        return loader.construct_object(node, deep=True)
    except yaml.MarkedYAMLError as error:
        braces = error.problem == "found unhashable key"
        hint = "; put a value that begins with {{ in quotes" if braces else ""
        raise InventoryError(
            f"{place_of(path, node)}: invalid value: {error.problem}{hint}"
        ) from None
    except (ValueError, TypeError):
        raise InventoryError(f"{place_of(path, node)}: invalid value") from None
    finally:
        loader.dispose()


def read_tables(path: Path, node: yaml.Node) -> Any:
    """As :func:`node_value`, with each mapping a :class:`Table` of texts."""
    if not isinstance(node, yaml.MappingNode):
        return node_value(path, node)
    found = mapping_pairs(path, node)
    places = {str(key.value): place_of(path, key) for key, _ in found}
    return Table({str(key.value): read_tables(path, content) for key, content in found}, places)


def keep_written(path: Path, node: yaml.Node, name: str) -> None:
    """Make plain values texts, as they are written, in each mapping ``name`` two levels down.

    `010` and `1.10` are not the numbers 8 and 1.1 then, and `yes` is not a boolean.
    """
    for _, part in mapping_pairs(path, node) if isinstance(node, yaml.MappingNode) else ():
        for key, table in mapping_pairs(path, part) if isinstance(part, yaml.MappingNode) else ():
            if key.value == name and isinstance(table, yaml.MappingNode):
                table.value = [(each, _text_node(one)) for each, one in mapping_pairs(path, table)]


def _text_node(node: yaml.Node) -> yaml.Node:
    if node.tag not in PLAIN:
        return node
    return yaml.ScalarNode(TEXT, node.value, node.start_mark, node.end_mark)


def as_tables(value: Any, where: Place) -> Any:
    """A value that was not read from YAML, as :func:`read_tables` gives it."""
    if not isinstance(value, dict):
        return value
    found = {str(key): as_tables(each, where) for key, each in value.items()}
    return Table(found, dict.fromkeys(found, where))


class _Loader(yaml.SafeLoader):
    """Plain YAML and Ansible's tags."""

    path: Path

    def vault(self, node: yaml.ScalarNode) -> Secret:
        text, where = str(self.construct_scalar(node)), str(place_of(self.path, node))
        return Secret(lambda: vault.open_vault(text, where))

    def unsafe(self, node: yaml.ScalarNode) -> str:
        return str(self.construct_scalar(node))


_Loader.add_constructor("!vault", _Loader.vault)
_Loader.add_constructor("!vault-encrypted", _Loader.vault)
_Loader.add_constructor("!unsafe", _Loader.unsafe)
