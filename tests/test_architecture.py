"""Every import points to its own floor or a lower one, and the low floors do no I/O."""

import ast
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gearman_py", "provision", "roles")
IO = {"asyncio", "socket", "select", "selectors", "ssl", "threading", "time", "uvloop"}

FLOORS = (
    {
        "__init__",
        "protocol",
        "net",
        "config",
        "errors",
        "not_copied",
        "serializer",
        "sdnotify",
        "event_loop",
        "exposition",
        "log_format",
        "option_parser",
        "optional_module",
        "printable",
    },
    {"broker", "c_queue", "store"},
    {"client", "worker", "admin"},
    {"server", "functions", "testing", "pytest_plugin", "compat", "web"},
    {"cli", "__main__"},
)
# As FLOORS, for the toolkit: a room, or a file beside the rooms, imports only what is below it.
TOOLKIT = (
    {
        *("agent", "atomic_write", "file_lock", "fetch_page", "distributions", "errors"),
        *("invoke_line", "wording"),
    },
    {"inventory", "lab", "options", "render"},
    {"pki", "release", "remote", "ssh"},
    {"resources"},
    {"plan"},
    {"report"},
    {"cli", "fleet"},
    {"commands", "doctor", "program"},
    {"__main__"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


@dataclass(frozen=True)
class Source:
    """What a file imports, ``package.module`` or ``package.module.name``, and defines."""

    imports: tuple[str, ...]
    classes: tuple[str, ...]


@cache
def read_source(path: Path) -> Source:
    imported: list[str] = []
    classes: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide which floor is meant"
            imported += (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            classes.append(node.name)
    return Source(tuple(imported), tuple(classes))


def imports(path: Path) -> tuple[str, ...]:
    """The names a file imports, wherever in it."""
    return read_source(path).imports


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_job_system_imports_only_its_own_floor_and_lower_ones() -> None:
    for path in sources("gearman_py"):
        here = path.relative_to(ROOT / "gearman_py").with_suffix("").parts[0]
        if here == "__init__":
            continue  # the front: it shows what the floors below offer
        for name in imports(path):
            top, _, rest = name.partition(".")
            if top == "gearman_py" and rest:
                there = rest.partition(".")[0]
                assert FLOOR.get(there, 0) <= FLOOR[here], f"{path}: {there} is above {here}"


def test_rooms_of_the_toolkit_import_only_lower_ones() -> None:
    floor = {name: number for number, names in enumerate(TOOLKIT) for name in names}
    for path in sources("provision"):
        here = path.relative_to(ROOT / "provision").with_suffix("").parts[0]
        for name in imports(path):
            top, _, rest = name.partition(".")
            there = rest.partition(".")[0]
            if top == "provision" and there not in ("", here):
                assert floor[there] < floor[here], f"{path}: {there} is not below {here}"


@pytest.mark.parametrize("package", ["gearman_py", "provision", "roles"])
def test_no_imports_lead_in_a_circle(package: str) -> None:
    """Those under TYPE_CHECKING and within functions included, and those by way of a package."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(package)
    }
    modules.pop(package)  # the front: it shows what the modules offer
    graph = {
        module: {
            known
            for name in imports(path)
            if (known := name if name in modules else name.rpartition(".")[0]) in modules
        }
        for module, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("low", ["protocol", "broker"])
def test_rules_do_no_input_or_output(low: str) -> None:
    for path in sources(f"gearman_py/{low}"):
        assert not {name.partition(".")[0] for name in imports(path)} & IO, path


def test_sessions_do_no_input_or_output() -> None:
    for path in (ROOT / "gearman_py").rglob("session.py"):
        assert not {name.partition(".")[0] for name in imports(path)} & IO, path


def test_bundled_functions_import_nothing_of_gearman() -> None:
    for path in sources("gearman_py/functions"):
        ours = {name for name in imports(path) if name.startswith("gearman_py")}
        assert all(name.startswith("gearman_py.functions") for name in ours), path


def test_buildings_keep_apart() -> None:
    banned = {
        "gearman_py": {"provision", "roles", "tasks"},
        "provision": {"roles", "tasks"},
        "roles": {"fabric", "invoke", "paramiko", "gearman_py", "tasks"},
    }
    for package, others in banned.items():
        for path in sources(package):
            assert not {name.partition(".")[0] for name in imports(path)} & others, path


def test_only_ssh_knows_fabric_and_paramiko() -> None:
    for path in sources("provision"):
        tops = {name.partition(".")[0] for name in imports(path)}
        assert not tops & {"fabric", "paramiko"} or path.parent.name == "ssh", path


def test_no_file_is_too_long_to_read_at_once() -> None:
    own = chain.from_iterable(map(sources, (*PACKAGES, "packages")))
    for path in (ROOT / "tasks.py", *own):
        assert len(path.read_text().splitlines()) <= 350, path


def test_a_class_is_found_by_its_name() -> None:
    """Each name is defined once, so that a search for it ends at one file."""
    places: dict[str, list[str]] = {}
    for path in chain.from_iterable(map(sources, PACKAGES)):
        for name in read_source(path).classes:
            places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
