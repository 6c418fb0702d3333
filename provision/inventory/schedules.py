"""Schedules that an inventory declares, `gearman_schedules`, and which job server has each.

A schedule is at one job server, or its job would be submitted by each. It stays at the one that
has it, as after a takeover in a shared database; else it goes to the first that may have it.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from types import MappingProxyType

from provision.errors import InventoryError
from provision.inventory.document import Table
from provision.inventory.drained import serving_hosts
from provision.inventory.host import Host, Inventory
from provision.inventory.queue import QUEUE, queue_kind
from provision.wording import nearest_hint

SCHEDULES = "gearman_schedules"
ADMIN_SOCKET = "/run/gearmand/admin.sock"
SCHEDULES_QUESTION = ("schedules", ADMIN_SOCKET)
OWNER = "inventory"  # of a schedule that a deploy set
MAX_BYTES = 7900  # of all settings of one, percent-encoded: a text command has 8192
DEFAULTS = {
    "zone": "UTC",
    "unique": "",
    "workload": "",
    "priority": "normal",
    "missed": "once",
    "overlap": "allow",
}


@dataclass(frozen=True)
class ScheduleDefinition:
    """A schedule: ``facts`` as the job server says them. ``where``: file:line."""

    name: str
    facts: tuple[tuple[str, str], ...]
    where: str = field(compare=False)


def schedules(host: Host) -> tuple[ScheduleDefinition, ...]:
    """The schedules of a job server, by name. Raises :class:`InventoryError`."""
    table: Mapping[str, Table | None] = host.variables.get(SCHEDULES, {})
    if "job_server" not in host.groups or not isinstance(table, Table):
        return ()
    found = [
        _schedule(name, settings, str(table.places[name]))
        for name, settings in sorted(table.items())
        if settings is not None
    ]
    if found and queue_kind(host) == "memory":
        raise InventoryError(
            f"{found[0].where}: {SCHEDULES}: job server {host.name} has {QUEUE}: memory "
            f"({host.where_is(QUEUE)}), which forgets schedules; expected sqlite, postgres or redis"
        )
    return tuple(found)


def _schedule(name: str, settings: Table, where: str) -> ScheduleDefinition:
    # Few inventories have schedules, and this imports much of the job server.
    from zoneinfo import available_timezones

    from gearman_py.server.crontab import next_run

    def wrong(key: str, text: str) -> InventoryError:
        return InventoryError(f"{settings.places.get(key, where)}: schedule {name}: {text}")

    for key in ("function", "cron"):
        if key not in settings:
            raise wrong(key, f"{key} is missing")
    facts = DEFAULTS | {"owner": OWNER} | settings
    if (known := available_timezones()) and facts["zone"] not in known:
        near = nearest_hint(facts["zone"], known) or "; expected one such as Europe/Berlin"
        raise wrong("zone", f"unknown time zone {facts['zone']!r}{near}")
    try:
        never = next_run(facts["cron"], facts["zone"], time.time()) == inf
    except ValueError as error:
        raise wrong("cron", f"cron: {error}") from None
    if never:
        raise wrong("cron", f"cron: {facts['cron']}: it would never run")
    if sum(3 * len(text.encode()) for text in facts.values()) > MAX_BYTES:
        raise wrong("workload", "it is too long: a schedule has at most 2,600 bytes")
    return ScheduleDefinition(name, tuple(sorted(facts.items())), where)


def check_schedules(hosts: Iterable[Host]) -> None:
    """Raises :class:`InventoryError` if a schedule is not the same for all job servers."""
    first: dict[str, tuple[ScheduleDefinition, Host]] = {}
    for host in hosts:
        for one in schedules(host):
            other, owner = first.setdefault(one.name, (one, host))
            if other != one:
                raise InventoryError(
                    f"{one.where}: schedule {one.name} is not the same for {host.name} and "
                    f"{owner.name} ({other.where}): one of them submits its jobs, so give it "
                    "another name, or the same settings"
                )


def place_schedules(known: Inventory, found: Mapping[str, Collection[str]]) -> Inventory:
    """The same inventory, in which one job server has each schedule.

    ``found``: host -> names of the schedules of the inventory that its job server has.
    """
    declared = {host.name: {each.name for each in schedules(host)} for host in serving_hosts(known)}
    homes: dict[str, str] = {}
    for at_home in (True, False):
        for host, names in declared.items():
            for name in names:
                if not at_home or name in found.get(host, ()):
                    homes.setdefault(name, host)

    def place(host: Host) -> Host:
        table = host.variables.get(SCHEDULES)
        if not isinstance(table, Table):
            return host
        own = {name: each for name, each in table.items() if homes.get(name) == host.name}
        own_table = Table(own, {name: table.places[name] for name in own})
        return replace(host, variables=MappingProxyType({**host.variables, SCHEDULES: own_table}))

    return replace(
        known,
        hosts=tuple(map(place, known.hosts)),
        everyone=tuple(map(place, known.everyone)),
    )


def find_schedules(answers: Mapping[str, object]) -> Iterator[str]:
    """The names of those that a deploy set, of an answer to SCHEDULES_QUESTION."""
    for name, facts in answers.items():
        if isinstance(facts, Mapping) and facts.get("owner") == OWNER:
            yield name
