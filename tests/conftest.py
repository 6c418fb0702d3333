"""For all tests: what a skip means, and a job server of ours for any that wants one."""

import gc
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import chain, count, groupby
from pathlib import Path

import pytest

from tests import (
    leftovers,
    properties,  # noqa: F401  # for its profiles
)
from tests.forked import fork_servers, run_tool, start_tool
from tests.job_servers import JobServer
from tests.waiting import LIMIT, await_true

HERE = Path(__file__).parent

if "PYTEST_XDIST_WORKER" in os.environ:  # a process of several: its lab is its own
    _number = int(os.environ.get("GEARMAN_LAB", "1")) + int(os.environ["PYTEST_XDIST_WORKER"][2:])
    os.environ["GEARMAN_LAB"] = str(_number)


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM (as of ``timeout``) ends a run as ^C does, so that fixtures end what they started.

    A run in the background of a script ignores SIGINT, and so would all that tests start.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if _is_controller(config):
        leftovers.mark_run()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing that collecting tests makes is garbage, and looking for it takes a third of that."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # and what was collected is there to the end
        gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The processes of a run that is interrupted are killed before their fixtures end."""
    if _is_controller(config):
        leftovers.kill_leftovers_of_run()


def _is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")  # of pytest-xdist


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what runs in one process where tests run side by side (-n), and in which order.

    Tests of a file share its fixtures; those of the server have their own. The lab's need the CPU
    all the while, and the server's mostly wait: they take turns. The longest files are begun first,
    and those that have no slow test last, so that no process works on when the others have ended.
    """
    rooms: dict[str, list[pytest.Item]] = {"lab": [], "server": [], "interop": [], "": []}
    for item in items:
        folder, *rest = item.path.relative_to(HERE).parts
        rooms[folder if folder in rooms else ""].append(item)
        if "far" in getattr(item, "fixturenames", ()):  # its network has one address
            item.add_marker(pytest.mark.xdist_group("far"))
        elif folder != "server":
            item.add_marker(pytest.mark.xdist_group("/".join([folder, *rest])))
    files = _by_file(rooms["lab"])
    files.sort(key=lambda tests: -tests[0].path.stat().st_size)
    others = _by_file(rooms[""])
    others.sort(key=lambda tests: not any(item.get_closest_marker("slow") for item in tests))
    items[:] = [*_in_turn(files, rooms["server"]), *rooms["interop"], *chain(*others)]


def _by_file(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    return [list(tests) for _, tests in groupby(items, lambda item: item.path)]


def _in_turn(files: list[list[pytest.Item]], others: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The tests of each file at once, and between two files the same share of the others."""
    begun = 0
    for number, tests in enumerate(files, 1):
        yield from tests
        end = len(others) * number // len(files)
        yield from others[begun:end]
        begun = end
    yield from others[begun:]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that cannot run here is skipped with its reason; where CI=true that is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"cannot run here, and with CI=true all must: {report.longrepr}"
    return report


_folder_numbers = count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's own, which looks through the folders of all earlier tests for a free number."""
    name = re.sub(r"\W", "_", request.node.name)[:27]  # paths of sockets are short
    return tmp_path_factory.mktemp(f"{name}{next(_folder_numbers)}", numbered=False)


@pytest.fixture(scope="session", autouse=True)
def _commands_forked() -> Iterator[None]:
    with fork_servers():
        yield


Program = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="session")
def shared_gearmand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    with _job_server(tmp_path_factory.mktemp("gearmand")) as server:
        yield server


@pytest.fixture
def gearmand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    """A job server that the test may stop and start."""
    with _job_server(tmp_path_factory.mktemp("gearmand")) as server:
        yield server


@contextmanager
def _job_server(folder: Path) -> Iterator[JobServer]:
    server = JobServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def program() -> Iterator[Program]:
    """Starts a program that the test's end kills: ``program("gearman", ...)`` is ours."""
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        pipes = {"stdin": pipe, "stdout": pipe, "stderr": pipe}
        process = start_tool(name, *arguments, **{**pipes, **options})
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def run(name: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command of ours to its end."""
    environment = {key: value for key, value in os.environ.items() if key != "GEARMAN_SERVERS"}
    return run_tool(name, *arguments, input=stdin, timeout=LIMIT, env=environment)


@pytest.fixture(name="run")
def run_fixture() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    return run


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    return await_true
