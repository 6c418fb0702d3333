"""Workers that are registered at a job server, and are not the inventory's."""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from provision.fleet.desired_state import DesiredState
from provision.fleet.waves import served_functions
from provision.inventory.host import Inventory
from provision.resources.health import WorkerHealth
from provision.wording import format_age, format_count

FUNCTIONS_NAMED = 20
LOOPBACK = ("127.0.0.1", "::1")


class KnownWorkers:
    """Which functions each address of the inventory's worker hosts serves.

    ``addresses``: more of a host's, by its name, as far as it told them.
    """

    def __init__(
        self,
        inventory: Inventory,
        desired: DesiredState,
        addresses: Mapping[str, Iterable[str]],
    ) -> None:
        wanted = dict(desired.all_resources())
        served = {name: set(served_functions(each)) for name, each in wanted.items()}
        # Of a worker whose functions its code alone knows, the one by which it is asked is known.
        self._asked = {
            one.asked
            for each in wanted.values()
            for one in each
            if isinstance(one, WorkerHealth) and one.served != one.functions
        }
        self._functions: dict[str, set[str]] = {}
        for host in inventory.everyone:
            for address in (*_resolve(host.address), *addresses.get(host.name, ())):
                self._functions.setdefault(address, set()).update(served.get(host.name, ()))
        self._served = served

    def strangers(self, server: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """What the job server of host ``server`` knows besides, in lines.

        Workers of one address that serve the same are told in one: a worker has a connection for
        each job that it runs at a time.
        """
        rows = list(rows)
        # Of several connections of a worker one has the function by which it is asked.
        asked = {
            (row["address"], row["client"])
            for row in rows
            if not self._asked.isdisjoint(row["functions"])
        }
        alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}  # address and functions -> rows
        for row in rows:
            address = row["address"].removeprefix("::ffff:")
            own = {each for each in row["functions"] if "@" not in each}
            here = address in LOOPBACK or ("." not in address and ":" not in address)
            known = self._served.get(server) if here else self._functions.get(address)
            if own - (known or set()) and (row["address"], row["client"]) not in asked:
                functions = _name_some(sorted(own - (known or set())), row.get("more", 0))
                alike.setdefault((address, functions), []).append(row)
        for (address, functions), found in alike.items():
            clients = [row["client"] for row in found]
            verb = "serve" if len(set(clients)) > 1 else "serves"
            several = f" over {len(clients)} connections" if len(clients) > 1 else ""
            ages = [seconds for row in found if (seconds := row.get("seconds")) is not None]
            age = f", connected for {format_age(max(ages))}" if ages else ""
            yield f"{_name_clients(clients)} at {address} {verb} {functions}{several}{age}"


def _name_some(functions: Sequence[str], more: int) -> str:
    """The first of them, and how many there are besides."""
    left = len(functions) - FUNCTIONS_NAMED + more
    named = ", ".join(functions[:FUNCTIONS_NAMED])
    return f"{named} and {left} more" if left > 0 else named


def _name_clients(clients: Sequence[str]) -> str:
    first, *others = dict.fromkeys(clients)
    return f"{first} and {format_count(len(others), 'other')}" if others else first


def _resolve(address: str) -> set[str]:
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {str(place[4][0]) for place in found}
