"""The workers of a host: `gearman_workers`, and `gearman_functions` as its short form.

A worker is of one kind, by what it is said to run: bundled functions, a command once a job, a
program that speaks Gearman itself, or a gearman_py.Worker of a Python app. One that says nothing
of it serves the bundled function of its own name.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gearman_py.functions import BUNDLED
from provision.errors import InventoryError
from provision.inventory.document import Table
from provision.inventory.host import Host, once_per_host
from provision.inventory.secrets import Secret
from provision.inventory.worker_settings import FILES_OF_CHECK
from provision.inventory.writable_folders import clean_path
from provision.wording import nearest_hint

UNENCRYPTED = (
    "gearman_tls is true, and a program speaks TLS only if it is made to (Debian's libgearman, and "
    "so PHP and Perl, does not): say tls: true here if it does"
)
DRAIN_TIMEOUT = 60  # seconds that gearman-worker itself waits for its jobs
Kind = Literal["functions", "command", "program", "run"]
KINDS: tuple[Kind, ...] = ("command", "program", "run")
OWN: dict[Kind, tuple[str, ...]] = {  # of some kinds only
    "command": ("concurrency", "retries"),
    "program": ("stop_signal", "trial", "tls"),
    "functions": ("processes", "concurrency"),
    "run": ("processes", "concurrency"),
}


@dataclass(frozen=True, kw_only=True)
class WorkerDefinition:
    """A worker of a host. ``where``: file:line."""

    name: str
    kind: Kind
    functions: tuple[str, ...]  # of a Python app's worker: none, and it serves all it has
    argv: tuple[str, ...] = ()  # of a command or program
    target: str = ""  # MODULE:OBJECT
    processes: int | str = 0  # 2-8: as many of 2 to 8 as are needed
    concurrency: int = 0
    instances: int = 1
    timeout: int = 0  # seconds; 0: none
    retries: int = 0
    memory: str
    app: str = ""
    cpu: str = ""
    nice: int = 0
    log_level: str = "info"
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, Secret], ...] = field(default=(), compare=False)
    packages: tuple[str, ...] = field(default=(), compare=False)  # its app's too
    writes: tuple[str, ...] = ()
    metrics: str = ""  # the folder of its file of metrics
    check: tuple[tuple[str, str], ...] = ()
    jit: bool = False
    trial: bool = True  # of a program: whether $GEARMAN_SERVERS is where it finds job servers
    tls: bool = False  # of a program: it speaks that where job servers do
    stop_signal: str = "SIGTERM"
    stop_timeout: int = DRAIN_TIMEOUT
    where: str = field(default="", compare=False)

    @property
    def checked_function(self) -> str:
        """The function of the job by which it is checked."""
        return dict(self.check).get("function") or self.functions[0]

    @property
    def instance_names(self) -> list[str]:
        """NAME, NAME:2, NAME:3 ..."""
        return [self.name, *(f"{self.name}:{number}" for number in range(2, self.instances + 1))]

    @property
    def most_jobs(self) -> int:
        """How many jobs it runs at a time at most."""
        processes = int(str(self.processes).rpartition("-")[2])
        return max(1, processes, self.concurrency)

    @property
    def settings(self) -> tuple[str, ...]:
        """Its settings as options of gearman-worker."""
        options = ("processes", "concurrency", "timeout", "retries")
        words = [(f"--{each}", str(value)) for each in options if (value := getattr(self, each))]
        if self.stop_timeout != DRAIN_TIMEOUT or self.kind == "run":  # its code may say another
            words.append(("--drain-timeout", str(self.stop_timeout)))
        verbose = ("--verbose",) if self.log_level == "debug" else ()
        return (*(word for pair in words for word in pair), *verbose)

    def served(self, servers: Sequence[str]) -> tuple[str, ...]:
        """What gearman-worker is to serve; a Python app's worker may name other job servers."""
        if self.kind == "command":
            return (*self.functions, "--", *self.argv)
        if self.kind == "functions":
            return self.functions
        only = ("--only", ",".join(self.functions)) if self.functions else ()
        return ("--servers", ",".join(servers), *only, self.target)

    @property
    def is_plain(self) -> bool:
        """Whether it serves the bundled function of its own name, with nothing set."""
        usual = WorkerDefinition(
            name=self.name,
            kind="functions",
            functions=(self.name,),
            memory=self.memory,
            metrics=self.metrics,
        )
        return self == usual and not self.secrets


@once_per_host
def workers(host: Host) -> tuple[WorkerDefinition, ...]:
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
    near = nearest_hint(function, BUNDLED) or f"; expected one of {', '.join(BUNDLED)}"
    own = "one of your own has command:, program: or run:"
    return f"unknown bundled function {function!r}{near} ({own})"


def _worker(host: Host, name: str, table: Table, where: str) -> WorkerDefinition:
    def wrong(key: str, text: str) -> InventoryError:
        return InventoryError(f"{table.places.get(key, where)}: worker {name}: {text}")

    kinds = [each for each in KINDS if each in table]
    if len(kinds) > 1:
        raise wrong(kinds[1], f"it has both {' and '.join(kinds)}; expected one of them")
    kind: Kind = kinds[0] if kinds else "functions"
    functions = tuple(table.get("functions", (name,) if name in BUNDLED and not kinds else ()))
    for key, text in _contradictions(host, kind, table, functions):
        raise wrong(key, text)
    settings = {key: value for key, value in table.items() if key not in (*KINDS, "functions")}
    settings["packages"] = _packages(host, table)
    if "check" in table:
        settings["check"] = _check_files(host, table["check"], wrong)
    settings.setdefault("memory", host.variables["gearman_worker_memory"])
    if kind != "program" and (folder := host.variables.get("gearman_worker_metrics")):
        settings["metrics"] = clean_path(folder)
    for key, value in settings.items():
        if isinstance(value, dict):
            settings[key] = tuple(sorted(value.items()))
        elif isinstance(value, list):
            settings[key] = tuple(map(clean_path, value) if key == "writes" else value)
    argv = tuple(table[kind]) if kind in ("command", "program") else ()
    target = table.get("run", "")
    return WorkerDefinition(
        name=name,
        kind=kind,
        functions=functions,
        argv=argv,
        target=target,
        where=where,
        **settings,
    )


def _contradictions(
    host: Host, kind: Kind, table: Table, functions: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """What cannot be said together, by the setting that is one too many."""
    if not functions and kind != "run":
        own = "" if kind != "functions" else "; of your own with command:, program: or run:"
        yield "functions", f"what does it serve? Say functions: [NAME]{own}"
    if len(set(functions)) < len(functions):
        yield "functions", "a function stands there twice"
    for each in functions:
        if kind == "functions" and each not in BUNDLED:
            yield "functions", _unknown(each)
    for key in table:
        if (having := [each for each, keys in OWN.items() if key in keys]) and kind not in having:
            others = " or ".join(f"{each}:" for each in having)
            yield key, f"{key} is for a worker with {others}, and this one has {kind}:"
    if kind != "run" and "processes" in table and "concurrency" in table:
        yield "concurrency", "it has processes too: each runs one job at a time"
    if kind == "program" and "timeout" in table:
        yield "timeout", "a program has its own: it speaks to the job server itself"
    if kind == "program" and "log_level" in table:
        yield "log_level", "a program has its own: say it by its arguments or environment"
    if kind in ("command", "program") and "app" not in table and table[kind][0].startswith("./"):
        yield kind, f"{table[kind][0]} is a file of an app: say which, app: NAME, or its whole path"
    if "check" in table:
        yield from _check_contradictions(kind, table["check"], functions)
    if "app" in table or kind == "run":
        yield from _app_contradictions(host, kind, table)


def _check_contradictions(
    kind: Kind, check: Table, functions: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    if kind == "functions":
        yield "check", "bundled functions have checks of their own"
    if not functions and "function" not in check:
        yield "check", "check does not name its function, and nor does functions:"
    if functions and (asked := check.get("function", functions[0])) not in functions:
        yield "check", f"check asks for {asked!r}, which it does not serve"


def _app_contradictions(host: Host, kind: Kind, table: Table) -> Iterator[tuple[str, str]]:
    if "app" not in table:
        yield "run", "run is a worker of an app: say which, app: NAME"
    elif kind == "functions":
        yield "app", "an app is for a worker with command:, program: or run:"
    else:
        name, apps = table["app"], host.variables.get("gearman_apps", {})
        known = {key: each for key, each in apps.items() if each is not None}
        if name not in known:
            near = nearest_hint(name, known) or "; gearman_apps names them"
            yield "app", f"unknown app {name!r}{near}"
        elif "source" not in known[name]:
            yield "app", f"app {name} has no source: say where its files are"


def find_unencrypted(host: Host) -> Iterator[str]:
    """Which programs of a host could not speak to the job servers that it is to have."""
    if host.variables["gearman_tls"]:
        for each in workers(host):
            if each.kind == "program" and not each.tls:
                yield f"{each.where}: worker {each.name}: {UNENCRYPTED}"


def open_secrets(hosts: Iterable[Host]) -> None:
    """Get what the workers of these hosts need, while someone can be asked for a password.

    Raises :class:`InventoryError`.
    """
    for host in hosts:
        for worker in workers(host):
            for _, secret in worker.secrets:
                secret.reveal()


def ping_function(host: str, instance: str) -> str:
    """The function by which one instance of a worker, on this host, is asked whether it works."""
    return f"ping@{host}/{instance}"


def _check_files(
    host: Host, check: Table, wrong: Callable[[str, str], InventoryError]
) -> dict[str, str]:
    """A check with its files found from the inventory's folder."""
    found = dict(check)
    for key in FILES_OF_CHECK:
        if key in check:
            path = host.folder / Path(check[key]).expanduser()
            if not path.is_file():
                raise wrong("check", f"{key} of check: {path} is not a file")
            found[key] = str(path)
    return found


def _packages(host: Host, table: Table) -> list[str]:
    """Those of a worker's app, and its own."""
    tables = [host.variables["gearman_apps"][table["app"]]] if "app" in table else []
    return [name for one in (*tables, table) if "packages" in one for name in one["packages"]]


def _check_served_once(found: tuple[WorkerDefinition, ...]) -> None:
    """Two workers of a host that serve one function would be asked in turn: a mistake."""
    serving: dict[str, WorkerDefinition] = {}
    for worker, function in _served(found):
        if function in serving:
            other = serving[function]
            raise InventoryError(
                f"{worker.where}: worker {worker.name}: {function} is served by worker "
                f"{other.name} of this host too ({other.where}): leave one out"
            )
        serving[function] = worker


def _served(found: tuple[WorkerDefinition, ...]) -> Iterator[tuple[WorkerDefinition, str]]:
    for worker in found:
        for function in worker.functions:
            yield worker, function
