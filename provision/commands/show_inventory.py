"""What an inventory says, as it was understood: groups, hosts, variables, and where each stands.

Hosts that are not ours are named, and no more. Then comes what was passed over, and what is likely
not meant so.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from provision.inventory import load as inventory
from provision.inventory.host import Host, Inventory
from provision.inventory.secrets import Secret
from provision.inventory.sources import base_folder
from provision.options import Options
from provision.report.folding import fold_names
from provision.wording import format_table

INDENT = "  "
WIDEST_VALUE = 32  # characters; what is longer does not widen its column
SECRETS = re.compile(r"(password|passwd|passphrase|_pass|secret|token|api_?key)$", re.IGNORECASE)


def inventory_lines(folder: Path, options: Options) -> Iterator[str]:
    """For people, or with ``json`` one for each host; then its mistakes are raised."""
    known = inventory.read_inventory(folder, options.limit)
    if options.limit:
        known = replace(known, others=())
    yield from _json_lines(known) if options.json else _text_lines(base_folder(folder), known)
    known.refuse_mistakes()


def _json_lines(known: Inventory) -> Iterator[str]:
    for host in known.hosts:
        variables = dict(_set_variables(host))
        row = {"host": host.name, "groups": sorted(host.groups), "variables": variables}
        row["where"] = {name: host.where_is(name) for name in variables}
        yield json.dumps(row, default=str)
    for other in known.others:
        yield json.dumps({"other": other.name, "groups": sorted(other.groups)})
    for kind, texts in (("warning", known.warnings), ("note", known.notes)):
        yield from (json.dumps({kind: text}) for text in texts)


def _text_lines(folder: Path, known: Inventory) -> Iterator[str]:
    members = {
        group: [host.name for host in known.hosts if group in host.groups]
        for group in sorted({group for host in known.hosts for group in host.groups})
    }
    yield from format_table([(group, fold_names(names)) for group, names in members.items()])
    for host in known.hosts:
        sudo = " with sudo" if host.become and host.user != "root" else ""
        by = f" by {', '.join(host.jump)}" if host.jump else ""
        way = f"{host.user}@{host.address}:{host.port}{by}{sudo}"
        yield ""
        yield f"{host.name}: {way}  ({_shorten_place(folder, host.where)})"
        rows = [
            (INDENT + name, shown, _shorten_place(folder, where))
            for variable, value in sorted(_set_variables(host))
            for name, shown, where in _rows_of_value(variable, value, host.where_is(variable))
        ]
        yield from format_table(rows, widest=WIDEST_VALUE)
    if known.others:
        yield ""
        yield "not ours, in none of these groups; they are left alone:"
        yield from format_table(
            [
                (
                    INDENT + other.name,
                    " ".join(sorted(other.groups)),
                    _shorten_place(folder, other.where),
                )
                for other in known.others
            ]
        )
    for texts in (known.notes, known.warnings):
        if texts:
            yield ""
        yield from (f"{_shorten_place(folder, text)}" for text in texts)


def _set_variables(host: Host) -> Iterator[tuple[str, Any]]:
    """Its variables without the defaults. Passwords of other software are not shown either."""
    for name, value in host.variables.items():
        if host.is_set(name):
            hidden = SECRETS.search(name) and isinstance(value, (str, int))
            yield name, Secret("") if hidden else value


def _rows_of_value(name: str, value: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """A mapping that is long in a row for each of its values, indented below its name."""
    shown = _format_value(value)
    if len(shown) <= WIDEST_VALUE or not isinstance(value, dict):
        yield name, shown, where
        return
    yield name, "", where
    places = getattr(value, "places", {})
    for key, part in value.items():
        for inner, text, line in _rows_of_value(str(key), part, str(places.get(key, where))):
            yield INDENT + inner, text, line


def _format_value(value: Any) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    return json.dumps(value, default=str).strip('"')


def _shorten_place(folder: Path, where: str) -> str:
    return where.removeprefix(f"{folder}/")
