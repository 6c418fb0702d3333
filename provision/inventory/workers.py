"""The workers of a host: `gearman_workers`, and `gearman_functions` as its short form.

A worker is of one kind, by what it is said to run: bundled functions, a command once a job, or
a program that speaks Gearman itself. One that says nothing of it serves the bundled function of
its own name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gearman_py.functions import BUNDLED
from provision.errors import InventoryError
from provision.inventory.document import Table
from provision.inventory.host import Host
from provision.inventory.schema import nearest_hint
from provision.inventory.secrets import Secret

DRAIN_TIMEOUT = 60  # seconds that gearman-worker itself waits for its jobs
KINDS = ("command", "program")
OWN = {  # of a kind, and of no other
    "command": ("concurrency",),
    "program": ("stop_signal",),
    "functions": ("processes", "concurrency"),
}
Kind = Literal["functions", "command", "program"]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker of a host. ``where``: file:line."""

    name: str
    kind: Kind
    functions: tuple[str, ...]
    argv: tuple[str, ...] = ()  # of a command or program
    processes: int = 0
    concurrency: int = 0
    instances: int = 1
    timeout: int = 0  # seconds; 0: none
    memory: str
    app: str = ""
    cpu: str = ""
    nice: int = 0
    log_level: str = "info"
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, Secret], ...] = field(default=(), compare=False)
    writes: tuple[str, ...] = ()
    check: tuple[tuple[str, str], ...] = ()
    jit: bool = False
    stop_signal: str = "SIGTERM"
    stop_timeout: int = DRAIN_TIMEOUT
    where: str = field(default="", compare=False)

    @property
    def checked_function(self) -> str:
        """The function of the job by which it is checked."""
        return dict(self.check).get("function", self.functions[0])

    @property
    def instance_names(self) -> list[str]:
        """NAME, NAME:2, NAME:3 ..."""
        return [self.name, *(f"{self.name}:{number}" for number in range(2, self.instances + 1))]

    @property
    def is_plain(self) -> bool:
        """Whether it serves the bundled function of its own name, with nothing set."""
        usual = Worker(name=self.name, kind="functions", functions=(self.name,), memory=self.memory)
        return self == usual and not self.secrets


def workers(host: Host) -> tuple[Worker, ...]:
    """The workers of a host, by name. Raises :class:`InventoryError`."""
    if "worker" not in host.groups:
        return ()
    own: Mapping[str, Any] = host.variables.get("gearman_workers", {})
    short = host.variables["gearman_functions"]
    if own and not host.is_set("gearman_functions"):
        short = ()
    tables = {name: _short(host, name) for name in short}
    for name, table in own.items():
        if table is None:
            tables.pop(name, None)
        else:
            tables[name] = tables.get(name, Table({}, {})) | table
    places = getattr(own, "places", {})
    found = tuple(
        _worker(host, name, table, str(places.get(name, host.where_is("gearman_functions"))))
        for name, table in tables.items()
    )
    _check_served_once(found)
    return found


def _short(host: Host, name: str) -> Table:
    if name not in BUNDLED:
        where = host.where_is("gearman_functions")
        raise InventoryError(f"{where}: gearman_functions: {_unknown(name)}")
    return Table({}, {})


def _unknown(function: str) -> str:
    near = nearest_hint(function, BUNDLED).removesuffix("?") or f"; there are {', '.join(BUNDLED)}"
    return f"no function {function!r} is bundled{near} (one of your own has a command or program)"


def _worker(host: Host, name: str, table: Table, where: str) -> Worker:
    def wrong(key: str, text: str) -> InventoryError:
        return InventoryError(f"{table.places.get(key, where)}: worker {name}: {text}")

    kind: Kind = "functions"
    kinds = [each for each in KINDS if each in table]
    if len(kinds) > 1:
        raise wrong(kinds[1], f"it has both {' and '.join(kinds)}; expected one of them")
    if kinds:
        kind = "command" if kinds[0] == "command" else "program"
    functions = tuple(table.get("functions", (name,) if name in BUNDLED and not kinds else ()))
    if not functions:
        raise wrong(
            "functions",
            "what does it serve? Say functions: [NAME]"
            + ("" if kinds else "; of your own with command: or program:"),
        )
    if len(set(functions)) < len(functions):
        raise wrong("functions", "a function stands there twice")
    for each in functions:
        if kind == "functions" and each not in BUNDLED:
            raise wrong("functions", _unknown(each))
    for other, keys in OWN.items():
        for key in keys:
            if key in table and key not in OWN[kind]:
                raise wrong(key, f"{key} is for a worker with {other}:, and this one has {kind}:")
    if "check" in table:
        if kind == "functions":
            raise wrong("check", "bundled functions have checks of their own")
        function = table["check"].get("function", functions[0])
        if function not in functions:
            raise wrong("check", f"check asks for {function!r}, which it does not serve")
    if "processes" in table and "concurrency" in table:
        raise wrong("concurrency", "it has processes too: each runs one job at a time")
    if "app" in table:
        if kind == "functions":
            raise wrong("app", "an app is for a worker with command: or program:")
        known = {k: v for k, v in host.variables.get("gearman_apps", {}).items() if v is not None}
        if table["app"] not in known:
            near = nearest_hint(table["app"], known) or "; gearman_apps names them"
            raise wrong("app", f"unknown app {table['app']!r}{near}")
        if "source" not in known[table["app"]]:
            raise wrong("app", f"app {table['app']} has no source: say which folder it is in")
    if kind == "program" and "timeout" in table:
        raise wrong("timeout", "a program has its own: it speaks to the job server itself")
    if kind == "program" and "log_level" in table:
        raise wrong("log_level", "a program has its own: say it by its arguments or environment")
    settings = {key: value for key, value in table.items() if key not in (*KINDS, "functions")}
    settings.setdefault("memory", host.variables["gearman_worker_memory"])
    for key, value in settings.items():
        if isinstance(value, dict):
            settings[key] = tuple(sorted(value.items()))
        elif isinstance(value, list):
            settings[key] = tuple(value)
    argv = tuple(table[kinds[0]]) if kinds else ()
    return Worker(name=name, kind=kind, functions=functions, argv=argv, where=where, **settings)


def open_secrets(hosts: Iterable[Host]) -> None:
    """Get what the workers of these hosts need, while somebody can be asked for a password.

    Raises :class:`InventoryError`.
    """
    for host in hosts:
        for worker in workers(host):
            for _, secret in worker.secrets:
                secret.reveal()


def ping_function(host: str, instance: str) -> str:
    """The function by which one instance of a worker, on this host, is asked whether it works."""
    return f"ping@{host}/{instance}"


def _check_served_once(found: tuple[Worker, ...]) -> None:
    """Two workers of a host that serve one function would be asked in turn: a mistake."""
    serving: dict[str, Worker] = {}
    for worker, function in _served(found):
        if function in serving:
            other = serving[function]
            raise InventoryError(
                f"{worker.where}: worker {worker.name}: {function} is served by worker "
                f"{other.name} of this host too ({other.where}): leave one out"
            )
        serving[function] = worker


def _served(found: tuple[Worker, ...]) -> Iterator[tuple[Worker, str]]:
    for worker in found:
        for function in worker.functions:
            yield worker, function
