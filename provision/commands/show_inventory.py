"""What an inventory says, as it was understood: groups, hosts, variables, and where each stands."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from provision.inventory import load as inventory
from provision.inventory.host import Host, Inventory
from provision.options import Options
from provision.wording import format_table

INDENT = "  "


def inventory_lines(folder: Path, options: Options) -> Iterator[str]:
    """For people, or with ``json`` one for each host."""
    known = inventory.load(folder, options.limit)
    yield from _json_lines(known.hosts) if options.json else _text_lines(folder, known)


def _json_lines(hosts: Sequence[Host]) -> Iterator[str]:
    for host in hosts:
        variables = dict(_set_variables(host))
        row = {"host": host.name, "groups": sorted(host.groups), "variables": variables}
        row["where"] = {name: host.where_is(name) for name in variables}
        yield json.dumps(row, default=str)


def _text_lines(folder: Path, known: Inventory) -> Iterator[str]:
    members = {
        group: [host.name for host in known.hosts if group in host.groups]
        for group in sorted({group for host in known.hosts for group in host.groups})
    }
    yield from format_table([(group, " ".join(names)) for group, names in members.items()])
    for host in known.hosts:
        sudo = " with sudo" if host.become and host.user != "root" else ""
        by = f" by {', '.join(host.jump)}" if host.jump else ""
        way = f"{host.user}@{host.address}:{host.port}{by}{sudo}"
        yield ""
        yield f"{host.name}: {way}  ({_shorten_place(folder, host.where)})"
        rows = [
            (INDENT + name, _format_value(value), _shorten_place(folder, host.where_is(name)))
            for name, value in sorted(_set_variables(host))
        ]
        yield from format_table(rows)


def _set_variables(host: Host) -> Iterator[tuple[str, Any]]:
    """Its variables without the defaults."""
    return ((name, value) for name, value in host.variables.items() if host.is_set(name))


def _format_value(value: Any) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    return json.dumps(value, default=str).strip('"')


def _shorten_place(folder: Path, where: str) -> str:
    return where.removeprefix(f"{folder}/")
