"""A source in the form of `ansible-inventory --list`: what executable inventories print.

Groups have lists of hosts and of children, and vars; `_meta` has `hostvars`, the variables of each
host. An executable that does not print `_meta` is asked for each host, by `--host NAME`.
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from provision.errors import InventoryError
from provision.inventory import vault
from provision.inventory.document import Place, Table, as_tables
from provision.inventory.groups import TOP, Groups
from provision.inventory.schema import GROUPS, Variables, check_variables
from provision.inventory.secrets import Secret

META = "_meta"
PROGRAM_TIMEOUT = 120.0  # seconds that a program has to name the hosts
SHOWN = 8  # lines of what a program said, when it failed

AskHost = Callable[[str], Any]


class NotAnInventory(InventoryError):
    """What a program prints is not a list of hosts."""


def run_executable(path: Path, groups: Groups) -> None:
    """Ask an executable inventory. Raises :class:`InventoryError`."""
    program, where = str(path.absolute()), Place(path, 1)

    def ask_host(name: str) -> Table:
        return parse_list(run_program([program, "--host", name], where) or "{}", where)

    said = parse_list(run_program([program, "--list"], where), where)
    read_list(said, where, groups, ask_host)


def run_program(
    argv: Sequence[str], where: Place, environment: dict[str, str] | None = None
) -> str:
    """What a program on this machine prints. Raises :class:`InventoryError` when it fails."""
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise InventoryError(f"{where}: {name} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise InventoryError(
            f"{where}: {name} did not end within {PROGRAM_TIMEOUT:.0f} s"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-SHOWN:]
        told = "".join(f"\n  {line}" for line in said)
        raise InventoryError(f"{where}: {name} ended with status {done.returncode}{told}")
    return done.stdout.decode(errors="replace")


def parse_list(text: str, where: Place) -> Table:
    """What a program printed. Raises :class:`InventoryError`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAnInventory(f"{where}: what it prints is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise NotAnInventory(f"{where}: what it prints should be a JSON object")
    made: Table = as_tables(found, where)
    return made


def read_list(said: Table, where: Place, groups: Groups, ask: AskHost | None = None) -> None:
    """Add what it says of groups and hosts.

    ``ask`` gives the variables of a host without `_meta`.
    """
    meta = said.get(META)
    hostvars = meta.get("hostvars", {}) if isinstance(meta, dict) else None
    if meta is not None and not isinstance(hostvars, dict):
        raise InventoryError(f"{where}: {META} should be an object with `hostvars`")
    named: dict[str, str] = {}  # host -> a group of it
    for name, group in said.items():
        if name != META:
            named |= dict.fromkeys(_read_group(name, group, said.places[name], groups), name)
    of_hosts = {}
    for host in named:
        own = hostvars.get(host, {}) if hostvars is not None else ask(host) if ask else {}
        of_hosts[host] = _variables(own, where, host)
    _move_parts(list(of_hosts.values()), groups.groups[TOP].variables)
    for host, group in named.items():
        groups.add_host(group, host, where, of_hosts[host])


def _move_parts(of_hosts: list[Variables], of_all: Variables) -> None:
    """To ``of_all``: which groups are ours, if all hosts say the same of it.

    Without --export, `ansible-inventory` prints the variables of all with each host.
    """
    first, *others = (each.get(GROUPS) for each in of_hosts) if of_hosts else (None,)
    if first is None or not all(each and each[0] == first[0] for each in others):
        return
    common, _ = of_all.setdefault(GROUPS, first)
    for each in of_hosts:
        if each[GROUPS][0] == common:
            del each[GROUPS]


def _read_group(name: str, said: Any, where: Place, groups: Groups) -> list[str]:
    """The hosts of a group."""
    group = groups.add_group(name, where)
    if not isinstance(said, dict):
        said = {"hosts": said}  # as the oldest of these programs print it
    elif not said.keys() & {"hosts", "vars", "children"}:
        said = {"hosts": [name], "vars": said} if said else {}
    hosts, children = (_names(said, key, name, where) for key in ("hosts", "children"))
    group.variables.update(_variables(said.get("vars") or {}, where, name))
    for host in hosts:
        groups.add_host(name, host, where, {})
    for child in children:
        groups.add_group(child, where)
        group.children[child] = None
    return hosts


def _names(said: Any, key: str, group: str, where: Place) -> list[str]:
    found = said.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InventoryError(f"{where}: {key} of group {group!r} should be a list of names")
    return found


def _variables(said: Any, where: Place, owner: str) -> Variables:
    if not isinstance(said, dict):
        raise InventoryError(f"{where}: the variables of {owner!r} should be an object")
    places = said.places if isinstance(said, Table) else {}
    return check_variables(
        (name, _decode(value, places.get(name, where)), places.get(name, where))
        for name, value in said.items()
    )


def _decode(value: Any, where: Place) -> Any:
    """What Ansible marks in JSON: a text that is encrypted, or one that is not a template."""
    match value:
        case {"__ansible_vault": str(text), **more} if not more:
            return Secret(lambda: vault.open_vault(text, str(where)))
        case {"__ansible_unsafe": str(text), **more} if not more:
            return text
        case Table():
            return Table({key: _decode(each, where) for key, each in value.items()}, value.places)
        case list():
            return [_decode(each, where) for each in value]
    return value
