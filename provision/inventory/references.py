"""`{{ variable }}` in a value: another variable of the same host, or what Ansible tells of a host.

It may have a default, `{{ variable | default(other) }}`. All else of Jinja is refused. A value that
is one reference has the kind of what it refers to, a secret too; within a text stand texts and
whole numbers.
"""

import re
from collections.abc import Mapping
from typing import Any

from provision.errors import InventoryError
from provision.inventory.document import Place, Table
from provision.inventory.secrets import Secret
from provision.wording import nearest_hint

NAME = r"[A-Za-z_]\w*"
DEFAULT = rf"""\|\s*(?:default|d)\(\s*('[^'{{}}]*'|"[^"{{}}]*"|\d+|{NAME})\s*(,\s*[Tt]rue\s*)?\)"""
REFERENCE = re.compile(rf"\{{\{{\s*({NAME})\s*(?:{DEFAULT}\s*)?\}}\}}")
CONSTANTS = {"true": True, "True": True, "false": False, "False": False}
LONGEST_TEXT = 1 << 16  # characters
MOST_VALUES = 100_000  # of a host that have references, written out
LONG_TEXT = 100  # characters that count as a value more
DEEPEST = 50  # references, one in the other
OURS = "gearman_"
JINJA = re.compile(r"\{\{|\{%|\{#")


def has_reference(value: Any) -> bool:
    """Whether there is any Jinja in it."""
    if isinstance(value, list):
        return any(has_reference(each) for each in value)
    if isinstance(value, Table):
        return any(has_reference(each) for each in value.values())
    return isinstance(value, str) and JINJA.search(value) is not None


def is_reference(value: Any) -> bool:
    """Whether it is one reference, and nothing else."""
    return isinstance(value, str) and REFERENCE.fullmatch(value.strip()) is not None


def referenced_variables(value: Any, variables: Mapping[str, tuple[Any, Place]]) -> set[str]:
    """The names of the variables that a value refers to, and that these refer to."""
    found: set[str] = set()
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, Table):
            left += one.values()
        elif isinstance(one, str):
            said = {name for match in REFERENCE.finditer(one) for name in match.group(1, 2)}
            names = (said & variables.keys()) - found
            found |= names
            left += (variables[name][0] for name in names)
    return found


def host_facts(name: str, where: Place) -> dict[str, str]:
    """What every host has without a variable. ``where``: the source that names it."""
    file = where.path.absolute()
    return {
        "inventory_hostname": name,
        "inventory_hostname_short": name.partition(".")[0],
        "inventory_dir": str(file.parent),
        "inventory_file": str(file),
    }


class References:
    """The variables of one host with their references written out, each worked out once.

    ``facts``: as :func:`host_facts`. What that comes to is bounded: a few lines that refer to each
    other could hold up the operator. Its methods raise :class:`InventoryError`.
    """

    def __init__(
        self, facts: Mapping[str, str], variables: Mapping[str, tuple[Any, Place]]
    ) -> None:
        self._facts = facts
        self._variables = variables
        self._known: dict[str, Any] = {}
        self._left = MOST_VALUES

    def resolve(self, name: str, seen: tuple[str, ...] = ()) -> Any:
        """The value of a variable. ``seen``: those that refer to it, one by the other."""
        if name in self._known:
            return self._known[name]
        value, stands = self._variables[name]
        if name in seen:
            raise InventoryError(f"{stands}: {name} refers to itself, by {' and '.join(seen)}")
        if len(seen) == DEEPEST:
            raise InventoryError(
                f"{stands}: {name} is reached by more than {DEEPEST} references, one in the other"
            )
        if has_reference(value):
            value = self._follow(value, stands, (*seen, name), ())
            self._left -= _count_values(value, self._left)
            if self._left < 0:
                raise InventoryError(
                    f"{stands}: with {name}, the references of {self._facts['inventory_hostname']} "
                    f"come to more than {MOST_VALUES:,} values when they are written out"
                )
        self._known[name] = value
        return value

    def _follow(
        self, value: Any, where: Place, seen: tuple[str, ...], path: tuple[str, ...]
    ) -> Any:
        what = f"{where}: {_describe_setting(seen[-1], path)}"
        if isinstance(value, list):
            return [
                self._refer(each, what, seen) if isinstance(each, str) else each for each in value
            ]
        if isinstance(value, Table):
            found = {
                key: self._follow(each, value.places[key], seen, (*path, key))
                for key, each in value.items()
            }
            return Table(found, value.places)
        return self._refer(value, what, seen) if has_reference(value) else value

    def _refer(self, text: str, what: str, seen: tuple[str, ...]) -> Any:
        """What a text comes to. ``what``: file:line and the name of what it stands in."""
        if only := REFERENCE.fullmatch(text.strip()):
            return self._find(only, what, seen)
        if JINJA.search(REFERENCE.sub("", text)):
            raise InventoryError(
                f"{what}: of Jinja only {{{{ variable }}}} is read here, with a default, "
                "and no other expression: write the value itself"
            )
        length = len(REFERENCE.sub("", text))

        def within(match: re.Match[str]) -> str:
            nonlocal length
            part = self._find(match, what, seen)
            if type(part) not in (str, int):
                raise InventoryError(
                    f"{what}: {match[1]} cannot be part of a string: it is "
                    f"{'a secret' if isinstance(part, Secret) else 'not a string'}"
                )
            length += len(str(part))
            if length > LONGEST_TEXT:
                raise InventoryError(
                    f"{what}: with its references written out it is longer than "
                    f"{LONGEST_TEXT:,} characters"
                )
            return str(part)

        return REFERENCE.sub(within, text)

    def _find(self, match: re.Match[str], what: str, seen: tuple[str, ...]) -> Any:
        """What one reference comes to."""
        name, default, if_empty = match.groups()
        if default is None or name in self._facts or name in self._variables:
            found = self._value_of(name, what, seen)
            if found or not if_empty:
                return found
        if default[0] in "'\"":
            return default[1:-1]
        if default.isdecimal():
            return int(default)
        if default in CONSTANTS:
            return CONSTANTS[default]
        return self._value_of(default, what, seen)

    def _value_of(self, name: str, what: str, seen: tuple[str, ...]) -> Any:
        if name in self._facts:
            return self._facts[name]
        if name not in self._variables:
            near = nearest_hint(name, self._variables.keys() - {*seen})
            host = self._facts["inventory_hostname"]
            raise InventoryError(f"{what} refers to {name}, and {host} has no such variable{near}")
        return self.resolve(name, seen)


def _count_values(value: Any, most: int) -> int:
    """How many values it has, itself one of them; not more than one more than ``most``."""
    count, left = 0, [value]
    while left and count <= most:
        one = left.pop()
        count += 1
        if isinstance(one, list):
            left += one
        elif isinstance(one, Table):
            left += one.values()
        elif isinstance(one, str):
            count += len(one) // LONG_TEXT
    return count


def _describe_setting(variable: str, path: tuple[str, ...]) -> str:
    """`worker shop: secrets: DB` of `gearman_workers`; any other variable by its name."""
    if not path or not variable.startswith(OURS):
        return variable
    return ": ".join((f"{variable.removeprefix(OURS).removesuffix('s')} {path[0]}", *path[1:]))
