"""What may stand in an inventory, and what a host has by default, as schema.yml shows it.

Variables whose names begin with `gearman_` are ours: each is checked where it is read, and one that
schema.yml does not show is refused. Those of Ansible's that it shows are checked when a host is
made (connection.py). All others are someone else's, and let through.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from provision.errors import InventoryError
from provision.inventory import document, vault
from provision.inventory.document import Place, Table, mapping_pairs, place_of
from provision.inventory.references import OURS, has_reference, is_reference
from provision.inventory.secrets import Secret, make_secret
from provision.inventory.worker_settings import MEMORY, PACKAGE, check_groups, check_table
from provision.inventory.writable_folders import why_refused
from provision.wording import SIMILAR, nearest_hint

SCHEMA = Path(__file__).parent / "schema.yml"
EXAMPLE = "!example"  # the tag of a value that is not a default
KINDS = {str: "a string", int: "a whole number", bool: "true or false", list: "a list of strings"}
GROUPS = "gearman_groups"
# Whose parts know their lines, and are merged.
TABLES = ("gearman_apps", "gearman_workers", "gearman_schedules")
USERS = "gearman_dashboard_users"  # with hashes of their passwords
PASSWORDS = (  # which are never shown, whosever they are
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ansible_private_key_passphrase",
    "ansible_ssh_private_key_passphrase",
)
TRUE = ("true", "yes", "on", "1", "y", "t")
FALSE = ("false", "no", "off", "0", "n", "f")

KEPT = r"([A-Za-z0-9_.:-]+=)?\d+"
# What a text, or each of a list, has to look like, where a host would find out too late.
FORMS = {
    "gearman_memory": MEMORY,
    "gearman_worker_memory": MEMORY,
    "gearman_functions": (
        r"[A-Za-z0-9_][A-Za-z0-9_.:-]*",
        "letters, digits, `_.:-`",
    ),
    "gearman_packages": PACKAGE,
    "gearman_release_keys": (
        r"(sk-)?(ssh|ecdsa)-[\w@.-]+ [A-Za-z0-9+/]+=*( .*)?",
        "a line of an SSH public key, such as `ssh-ed25519 AAAA... ana`",
    ),
    "gearman_keep_results": (
        rf"{KEPT}(\s+{KEPT})*",
        "seconds, or FUNCTION=SECONDS, with spaces between",
    ),
    "gearman_queue": ("memory|sqlite|postgres|redis", "memory, sqlite, postgres or redis"),
}
RANGES = {"gearman_certificate_days": (1, 3650), "gearman_metrics_port": (0, 65535)}
PORTS = (1, 65535)

Variables = dict[str, tuple[Any, Place]]
"""Name -> its value, and where that stands."""


@dataclass(frozen=True)
class Mistake:
    """In place of a value that is refused, if a host of ours has it."""

    error: InventoryError


@dataclass(frozen=True)
class Schema:
    """What there may be."""

    kinds: Mapping[str, type[Any]]  # of every variable's value
    parts: Mapping[str, Mapping[str, Any]]  # of a table: setting -> an example of the right kind
    defaults: Variables
    groups: frozenset[str]


@cache
def schema() -> Schema:
    ((_, everything),) = mapping_pairs(
        SCHEMA, document.parse_yaml(SCHEMA, document.read_text(SCHEMA))
    )
    sections = {key.value: section for key, section in mapping_pairs(SCHEMA, everything)}
    kinds: dict[str, type[Any]] = {}
    parts: dict[str, dict[str, Any]] = {}
    defaults: Variables = {}
    for key, node in mapping_pairs(SCHEMA, sections["vars"]):
        if key.value == GROUPS:
            kinds[key.value] = dict
        elif key.value in TABLES:
            kinds[key.value] = dict
            shown = document.read_tables(SCHEMA, node).values()
            parts[key.value] = {name: each for one in shown for name, each in one.items()}
        elif node.tag == EXAMPLE:
            kinds[key.value] = str
        else:
            value = document.node_value(SCHEMA, node)
            kinds[key.value] = type(value)
            defaults[key.value] = value, place_of(SCHEMA, key)
    groups = frozenset(key.value for key, _ in mapping_pairs(SCHEMA, sections["children"]))
    return Schema(kinds, parts, defaults, groups)


def default_of(name: str) -> Any:
    """What a variable is where an inventory does not set it."""
    return schema().defaults[name][0]


def read_variables_file(path: Path, warnings: list[str]) -> Variables:
    """The variables of a file, which may be encrypted as a whole: then each is a secret.

    ``warnings`` grows by what to say of names that are repeated.
    """
    text = document.read_text(path)
    encrypted = vault.is_encrypted(text)
    node = document.parse_yaml(path, vault.open_vault(text, str(path)) if encrypted else text)
    warnings += (f"{each}: the last one counts" for each in document.repeated_names(path, node))
    return read_variables(path, node, encrypted=encrypted)


def read_variables(path: Path, node: yaml.Node, *, encrypted: bool = False) -> Variables:
    """A mapping's variables, or InventoryError. What refers to another is checked later."""
    found = []
    for key, content in mapping_pairs(path, node):
        name, where = str(key.value), place_of(path, key)
        if name in (*TABLES, GROUPS):
            repeated = next(iter(document.repeated_names(path, content)), None)
            document.keep_written(path, content, "environment")
            value = document.read_tables(path, content)
            if repeated is not None:
                value = Mistake(InventoryError(repeated))
        else:
            value = document.node_value(path, content)
        if encrypted and not _is_password(name) and not is_reference(value):
            value = _hide_values(value)
        found.append((name, value, where))
    return check_variables(found)


def check_variables(found: Iterable[tuple[str, Any, Place]]) -> Variables:
    """Variables as they were read; see refuse_mistakes() for what may not be so."""
    checked: Variables = {}
    for name, value, where in found:
        if name.startswith(OURS):
            value = _checked_or_mistake(name, value, where)
        elif name in PASSWORDS and isinstance(value, str) and value and not has_reference(value):
            value = Secret(value)
        checked[name] = value, where
    return checked


def _checked_or_mistake(name: str, value: Any, where: Place) -> Any:
    if isinstance(value, Mistake):
        return value
    try:
        _check_name_of_variable(name, where)
        return value if has_reference(value) else check_value(name, value, where)
    except InventoryError as error:
        return Mistake(error)


def find_mistakes(variables: Variables) -> Iterator[InventoryError]:
    return (value.error for value, _ in variables.values() if isinstance(value, Mistake))


def refuse_mistakes(variables: Variables) -> None:
    """Raises :class:`InventoryError` for the first mistake."""
    for error in find_mistakes(variables):
        raise error


def to_kind(name: str, value: Any) -> Any:
    """A value in the kind that schema.yml has of it, where that says it in other words.

    >>> to_kind("ansible_become", "yes"), to_kind("ansible_port", "2222")
    (True, 2222)
    """
    kind = schema().kinds.get(name)
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if kind is bool and word in (*TRUE, *FALSE):
        return word in TRUE
    if kind is int and isinstance(value, str) and word.isdecimal():
        return int(word)
    if kind is str and type(value) in (int, float) and not _is_password(name):
        return str(value)
    return value


def overlay_variables(below: Variables, above: Variables) -> Variables:
    """Both: of a variable that both have, the value above; tables are merged."""
    merged = {**below, **above}
    for name in TABLES:
        tables = [each[name][0] for each in (below, above) if name in each]
        if len(tables) == 2 and all(isinstance(each, Table) for each in tables):
            merged[name] = tables[0] | tables[1], above[name][1]
    return merged


def _hide_values(value: Any) -> Any:
    match value:
        case Table():
            return Secret("")  # which is refused as a whole
        case dict():
            return {key: _hide_values(each) for key, each in value.items()}
        case list():
            return [_hide_values(each) for each in value]
        case None | Secret():
            return value
    return Secret(str(value))


def _is_password(name: str) -> bool:
    return name == USERS or (name.endswith("_password") and name in schema().kinds)


def _check_name_of_variable(name: str, where: Place) -> None:
    known = [each.removeprefix(OURS) for each in schema().kinds if each.startswith(OURS)]
    bare = name.removeprefix(OURS)
    if bare in known:
        return
    near = get_close_matches(bare, known, 1, SIMILAR)
    hint = f"; did you mean {OURS + near[0]!r}?" if near else ""
    raise InventoryError(f"{where}: unknown variable {name!r}{hint}")


def check_value(name: str, value: Any, where: Place) -> Any:
    """A variable's value, if it may be that; a password as :class:`Secret`."""
    if name not in (known := schema().kinds):
        return value
    if _is_password(name):
        return make_secret(name, value, where)
    kind = known[name]
    if isinstance(value, Secret):
        raise InventoryError(
            f"{where}: {name} is shown to whoever deploys, so it cannot be a secret: write it "
            "where it is not encrypted"
        )
    if name == GROUPS:
        check_groups(value, where, schema().groups)
        return value
    if name in TABLES:
        check_table(name, value, where, schema().parts[name], nearest_hint)
        return value
    if type(value) is not kind or (kind is list and not all(type(each) is str for each in value)):
        raise _wrong_kind(name, value, where)
    least, most = RANGES.get(name, PORTS if name.endswith("_port") else (value, value))
    if kind is int and not least <= value <= most:
        raise InventoryError(f"{where}: {name} should be from {least} to {most}, and is {value}")
    if kind is str and not value.strip():
        raise InventoryError(f"{where}: {name} is empty: give it a value, or take it out")
    if name == "gearman_worker_metrics" and (why := why_refused(value)):
        raise InventoryError(f"{where}: {name}: {value} {why}")
    form, like = FORMS.get(name, ("", ""))
    for text in (value if kind is list else [value]) if form else ():
        if not re.fullmatch(form, text, re.ASCII):
            raise InventoryError(f"{where}: {name}: {text!r} should be {like}")
    return value


def _wrong_kind(name: str, value: Any, where: Place) -> InventoryError:
    kind = schema().kinds[name]
    shown = "nothing" if value is None else repr(value)
    more = "; put it in quotes" if kind is str and isinstance(value, (int, float)) else ""
    return InventoryError(f"{where}: {name} should be {KINDS[kind]}, and is {shown}{more}")
