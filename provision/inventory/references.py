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


def resolve_variable(
    facts: Mapping[str, str],
    variables: Mapping[str, tuple[Any, Place]],
    name: str,
    seen: tuple[str, ...] = (),
) -> Any:
    """The value of a host's variable. Raises :class:`InventoryError`."""
    whole, stands = variables[name]
    if name in seen:
        raise InventoryError(f"{stands}: {name} refers to itself, by {' and '.join(seen)}")

    def variable(other: str, what: str) -> Any:
        if other in facts:
            return facts[other]
        if other not in variables:
            near = nearest_hint(other, variables.keys() - {name, *seen})
            raise InventoryError(
                f"{what} refers to {other}, and {facts['inventory_hostname']} has no such variable"
                f"{near}"
            )
        return resolve_variable(facts, variables, other, (*seen, name))

    def refer(text: str, what: str) -> Any:
        def of(match: re.Match[str]) -> Any:
            other, default, if_empty = match.groups()
            if default is None or other in facts or other in variables:
                found = variable(other, what)
                if found or not if_empty:
                    return found
            if default[0] in "'\"":
                return default[1:-1]
            if default.isdecimal():
                return int(default)
            return CONSTANTS[default] if default in CONSTANTS else variable(default, what)

        def within(match: re.Match[str]) -> str:
            part = of(match)
            if type(part) not in (str, int):
                raise InventoryError(
                    f"{what}: {match[1]} cannot be a part of a text: it is "
                    f"{'a secret' if isinstance(part, Secret) else 'no text'}"
                )
            return str(part)

        if only := REFERENCE.fullmatch(text.strip()):
            return of(only)
        if JINJA.search(REFERENCE.sub("", text)):
            raise InventoryError(
                f"{what}: of Jinja only {{{{ variable }}}} is read here, with a default, "
                "and no other expression: write the value itself"
            )
        written = REFERENCE.sub(within, text)
        if len(written) > LONGEST_TEXT:
            raise InventoryError(
                f"{what}: with its references written out it is longer than "
                f"{LONGEST_TEXT:,} characters"
            )
        return written

    def follow(value: Any, where: Place, path: tuple[str, ...] = ()) -> Any:
        what = f"{where}: {_describe_setting(name, path)}"
        if isinstance(value, list):
            return [refer(each, what) if isinstance(each, str) else each for each in value]
        if isinstance(value, Table):
            found = {
                key: follow(each, value.places[key], (*path, key)) for key, each in value.items()
            }
            return Table(found, value.places)
        return refer(value, what) if has_reference(value) else value

    return follow(whole, stands)


def _describe_setting(variable: str, path: tuple[str, ...]) -> str:
    """`worker shop: secrets: DB` of `gearman_workers`; any other variable by its name."""
    if not path or not variable.startswith(OURS):
        return variable
    return ": ".join((f"{variable.removeprefix(OURS).removesuffix('s')} {path[0]}", *path[1:]))
