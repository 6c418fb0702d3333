"""What `./invoke logs NAME` means: units of a job server, of a worker or function, or any other.

A program's unit has a digest in its name, which changes with its file; so a worker's name stands
for the units of all its instances, those that are gone too, whose lines remain.
"""

import re
from collections.abc import Iterable, Iterator

from provision.errors import ToolkitError
from provision.fleet import pool
from provision.fleet.ask_all import AskAll
from provision.fleet.desired_state import DesiredState
from provision.fleet.run import Connect
from provision.inventory.host import Host
from provision.inventory.worker_settings import NAME
from provision.inventory.workers import WorkerDefinition, workers
from provision.invoke_line import invoke_line
from provision.remote.messages import Unknown
from provision.resources.health import ServerHealth, split_server
from provision.resources.unit import Unit
from provision.wording import nearest_hint

SERVER = ("gearmand.service", "gearmand.socket")
WORKER = "gearman-worker@"
DASHBOARD = ("gearman-web.service",)
SERVICES = {"gearmand": SERVER, "gearman-web": DASHBOARD}
UNITS = (*SERVER, f"{WORKER}*.service", *DASHBOARD)
SUFFIXES = (".service", ".socket", ".timer", ".target", ".mount", ".path", ".scope", ".slice")
INSTANCE = rf"{NAME}(:\d+)?(\.[0-9a-f]{{8}})?"
PING = rf"ping@[^/]+/({NAME}(:\d+)?)"


class LogNames:
    """The names that an inventory gives to units."""

    def __init__(self, asked: AskAll, desired: DesiredState) -> None:
        self._asked = asked
        self._desired = desired
        self._workers: dict[str, set[str]] = {}  # a worker or function -> workers
        self._silent: list[str] = []  # why a job server does not tell who serves a function
        for host in asked.inventory.everyone:
            for each in workers(host):
                checked = [each.checked_function] if each.check else []
                for name in (each.name, *each.functions, *checked):
                    self._workers.setdefault(name, set()).add(each.name)

    def find_units(self, name: str) -> tuple[str, ...]:
        """Units, or patterns of them, that may have lines."""
        if name in SERVICES:
            return SERVICES[name]
        known = name.removeprefix(WORKER).removesuffix(".service") if WORKER in name else name
        if known in self._workers:
            return _units_of_all(self._workers[known])
        if re.fullmatch(INSTANCE, known, re.ASCII) and re.search("[:.]", known):
            return (f"{WORKER}{known}.service",)
        if name.endswith(SUFFIXES):
            return (name,)
        return _units_of_all(self._ask_job_servers(name) or [name])

    def refuse_unknown(self, name: str, units: tuple[str, ...]) -> None:
        """Raises :class:`ToolkitError` when these units are neither ours nor on any host."""
        resources = [each for _, found in self._desired.all_resources() for each in found]
        ours = {each.name for each in resources if isinstance(each, Unit)}
        named = {unit for each in self._workers for unit in _units_of_all([each])}
        if ours.union(UNITS, named).issuperset(units):
            return
        if any(self._is_there(unit) for unit in units if unit == name or "*" not in unit):
            return
        known = sorted(self._workers)
        raise ToolkitError(
            f"logs: unknown name {name!r}{nearest_hint(name, known)}; expected a host, a group, "
            f"gearmand, gearman-web, a worker or function ({', '.join(known)}) or a unit of systemd"
            f"{self._untold_functions()}"
        )

    def _untold_functions(self) -> str:
        """Whose functions are known to job servers alone, while it is connected to them."""
        names = sorted({each.name for each in self._all_workers() if _is_told_by_servers(each)})
        if not names:
            return ""
        silent = f" ({'; '.join(self._silent)})" if self._silent else ""
        return (
            f"; what {', '.join(names)} serves is known while a job server lists it{silent}: say "
            f"`{invoke_line('logs', names[0])}`"
        )

    def _is_there(self, unit: str) -> bool:
        """Whether any host has it, or may have it: one that cannot be asked."""

        def ask(host: Host, connect: Connect) -> bool:
            found = connect(host).ask([("unit", unit)])["unit", unit]
            if found is None or "@" not in unit:
                return found is not None
            # Of a template systemd knows every instance; this one is there if it does anything.
            return bool(found["active"] != "inactive" or found["enabled"] == "enabled")

        if any(sign in unit for sign in "*?["):
            return True
        return any(
            isinstance(found, ToolkitError) or found for _, found in self._asked.results(ask)
        )

    def _ask_job_servers(self, function: str) -> set[str]:
        """The workers that serve a function which their code alone knows."""
        if not any(map(_is_told_by_servers, self._all_workers())):
            return set()
        hosts = {host.name: host for host in self._asked.inventory.everyone}
        servers = [
            (hosts[name], each.server)
            for name, found in self._desired.all_resources()
            for each in found
            if isinstance(each, ServerHealth)
        ]
        with pool.open_sessions(self._asked.connect) as connect:

            def ask(server: tuple[Host, str]) -> set[str]:
                question = ("server", *split_server(server[1]))
                answer = connect(server[0]).survey([question])[question]
                if isinstance(answer, Unknown) or answer["problem"]:
                    why = answer.reason if isinstance(answer, Unknown) else answer["problem"]
                    raise ToolkitError(f"{server[1]}: {why}")
                rows = answer["registered"]
                served = (row["functions"] for row in rows)
                return {worker for each in served if function in each for worker in _pinged(each)}

            results = [found for _, found in pool.run_on_each(servers, ask)]
        self._silent = [str(each) for each in results if isinstance(each, ToolkitError)]
        return set().union(*(each for each in results if not isinstance(each, ToolkitError)))

    def _all_workers(self) -> Iterator[WorkerDefinition]:
        for host in self._asked.inventory.everyone:
            yield from workers(host)


def _is_told_by_servers(worker: WorkerDefinition) -> bool:
    """Whether its code alone knows its functions: the inventory does not name them."""
    return worker.kind == "run" and not worker.functions


def _units_of_all(names: Iterable[str]) -> tuple[str, ...]:
    """Of workers: their first instance, the others, and those of programs."""
    return tuple(
        f"{WORKER}{name}{instance}.service"
        for name in sorted(names)
        for instance in ("", ":*", ".*")
    )


def _pinged(functions: Iterable[str]) -> Iterator[str]:
    """The worker that one connection belongs to, by the function that it is asked by."""
    for each in functions:
        if found := re.fullmatch(PING, each, re.ASCII):
            yield found[1].partition(":")[0]
