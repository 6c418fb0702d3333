"""A worker has as many processes as are needed, on both job servers."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gearman_py import AdminClient, Client, Worker
from gearman_py.testing import Server, running, server
from gearman_py.worker import scaling
from gearman_py.worker.pool_scaler import MEMORY_SHARE
from gearman_py.worker.scaling import ScalingRule
from tests.job_servers import C_GEARMAND, running_server
from tests.waiting import LIMIT, await_true

MIB = 2**20
ROOM = 1000


class Workers:
    """What a rule does to a number of processes, looked at four times a second."""

    def __init__(self, least: int, most: int) -> None:
        self.rule = ScalingRule(least, most)
        self.now = 50.0
        self.count = least
        self.changes: list[int] = []

    def work(self, seconds: float, jobs: int, fitting: int = ROOM) -> int:
        for _ in range(round(seconds * 4)):
            free = max(0, self.count - jobs)
            change = self.rule.decide(self.now, self.count, free, fitting)
            self.count += change
            if change:
                self.changes.append(change)
            self.now += 0.25
        return self.count

    def lacks_memory(self) -> bool:
        return self.rule.lacks_memory


def test_it_grows_by_halves_while_each_process_has_a_job_and_keeps_one_free() -> None:
    workers = Workers(2, 20)
    assert workers.work(1, jobs=2) == 2, "not at once"
    assert workers.work(10, jobs=2) == 3, "one is free then"
    assert workers.work(1.25, jobs=100) == 4
    assert workers.work(2, jobs=100) == 9
    assert workers.work(10, jobs=100) == 20, "no more than may be"
    assert workers.changes == [1, 1, 2, 3, 4, 6, 1]


def test_it_shrinks_to_what_was_needed_in_the_last_minute() -> None:
    workers = Workers(2, 20)
    workers.work(10, jobs=100)
    assert workers.work(50, jobs=0) == 20
    assert workers.work(1, jobs=9) == 20, "they were needed once"
    assert workers.work(10, jobs=5) == 10, "one more than had jobs at a time"
    assert workers.work(65, jobs=5) == 6
    assert workers.work(1000, jobs=5) == 6
    assert workers.work(65, jobs=0) == 2


def test_it_does_not_follow_a_load_that_comes_and_goes() -> None:
    workers = Workers(2, 16)
    for _ in range(60):
        workers.work(30, jobs=12)
        workers.work(30, jobs=0)
    assert workers.count == 13
    assert min(workers.changes) > 0, workers.changes


def test_it_does_not_follow_chance() -> None:
    chance = random.Random(1)  # noqa: S311  the same each time
    workers = Workers(2, 40)
    for _ in range(3600):
        workers.work(0.25, jobs=sum(chance.random() < 0.2 for _ in range(50)))
    assert len(workers.changes) < 20, workers.changes


def test_no_more_than_fit_into_memory_are_started() -> None:
    workers = Workers(2, 20)
    assert workers.work(1.25, jobs=100, fitting=1) == 3
    assert not workers.lacks_memory()
    assert workers.work(60, jobs=100, fitting=0) == 3
    assert workers.lacks_memory()
    assert workers.work(3, jobs=100, fitting=ROOM) > 3
    assert not workers.lacks_memory()


def test_one_after_the_other_ends_while_too_much_memory_is_used() -> None:
    workers = Workers(2, 20)
    workers.work(20, jobs=100)
    assert workers.work(9, jobs=100, fitting=-1) == 20
    assert workers.work(10, jobs=100, fitting=-1) == 19
    assert workers.work(1000, jobs=100, fitting=-1) == 2


@pytest.fixture(params=["ours", pytest.param("C", marks=pytest.mark.interop)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "ours":
        with server() as here:
            yield here.address
    elif not Path(*C_GEARMAND).exists():
        pytest.skip("needs Debian's gearman-job-server")
    else:
        with running_server(C_GEARMAND, tmp_path) as (host, port):
            yield f"{host}:{port}"


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BUSY_SECONDS", 0.3)
    monkeypatch.setattr(scaling, "SPARE_SECONDS", 1.0)


def workers_of(admin: AdminClient, function: str = "meet") -> int:
    return sum(row.workers for row in admin.status() if row.name == function)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def meeting_worker(address: str, folder: Path, processes: tuple[int, int]) -> Worker:
    """Its jobs note their processes and run until they may go."""
    worker = Worker(address, processes=processes)

    @worker.function("meet", workload=True)
    def meet(name: bytes) -> str:
        (folder / str(os.getpid())).touch()
        while not (folder / f"go {name.decode()}").exists():
            time.sleep(0.005)
        return str(os.getpid())

    return worker


@pytest.mark.slow
@pytest.mark.usefixtures("_hurried")
def test_processes_come_with_jobs_and_go_when_they_are_not_needed(
    address: str, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    worker = meeting_worker(address, notes, (2, 5))
    with (
        running(worker),
        Client(address, timeout=LIMIT) as client,
        AdminClient(address) as admin,
    ):
        assert workers_of(admin) == 2
        last = client.submit("meet", "last")
        jobs = [client.submit("meet", "some") for _ in range(5)]
        await_true(lambda: len(list(notes.iterdir())) == 5)
        await_true(lambda: workers_of(admin) == 5)
        pids = {int(path.name) for path in notes.iterdir()}
        (notes / "go some").touch()
        assert {int(job.result()) for job in jobs} <= pids
        await_true(lambda: workers_of(admin) == 2)
        await_true(lambda: sum(map(exists, pids)) == 2)
        assert not last.done(), "a process with a job is not ended"
        (notes / "go last").touch()
        assert int(last.result()) in pids
    assert not any(map(exists, pids))


@pytest.mark.slow
@pytest.mark.usefixtures("_hurried")
def test_a_process_that_does_not_start_is_tried_again_and_the_others_go_on(
    gearman_server: Server, tmp_path: Path, caplog: Any
) -> None:
    worker = meeting_worker(gearman_server.address, tmp_path, (1, 2))

    @worker.on_startup
    def refuse() -> None:
        if (tmp_path / "refuse").exists():
            raise OSError("no database")

    with running(worker), Client(gearman_server.address, timeout=LIMIT) as client:
        (tmp_path / "refuse").touch()
        jobs = [client.submit("meet", "all") for _ in range(2)]
        await_true(lambda: "cannot start a worker process: exit status 1" in caplog.text)
        gearman_server.wait_for("meet", waiting=1, running=1, workers=1)
        (tmp_path / "refuse").unlink()
        gearman_server.wait_for("meet", running=2, workers=2)
        (tmp_path / "go all").touch()
        assert len({job.result() for job in jobs}) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("_hurried")
def test_a_drain_amid_growth_ends_all_processes(gearman_server: Server, tmp_path: Path) -> None:
    worker = meeting_worker(gearman_server.address, tmp_path, (1, 8))

    @worker.on_startup
    def start() -> None:
        (tmp_path / f"started {os.getpid()}").touch()
        while (tmp_path / "slow").exists():
            time.sleep(0.005)

    with Client(gearman_server.address, timeout=LIMIT) as client:
        with running(worker):
            (tmp_path / "slow").touch()
            job = client.submit("meet", "all")
            await_true(lambda: len(list(tmp_path.glob("started *"))) == 2)
            client.do_background("meet", "all")
            (tmp_path / "go all").touch()
            assert job.result()
        gearman_server.wait_for("meet", workers=0)
    pids = [int(path.name.split()[1]) for path in tmp_path.glob("started *")]
    await_true(lambda: not any(map(exists, pids)))


@pytest.mark.parametrize("processes", [(0, 2), (3, 2), (1, 2, 3), ("1", 2), (1, 2.0), "1-2"])
def test_a_range_that_is_none_is_refused(processes: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="processes"):
        Worker("127.0.0.1", processes=processes)


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group with a limit, of whichever version the kernel has."""
    first = Path("/sys/fs/cgroup/memory")
    v1 = first.is_dir()
    group = (first if v1 else first.parent) / f"gearman-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
    except OSError as error:
        pytest.skip(f"needs control groups and root: {error}")
    try:
        yield group
    finally:
        await_true(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


EATING = """
import os, time
from gearman_py import Worker
worker = Worker(processes=(1, 12))
@worker.function("eat", workload=True)
def eat(workload):
    eaten = bytearray(b"x") * (40 * 2**20)
    while not os.path.exists(workload):
        time.sleep(0.01)
    return str(len(eaten))
"""


@pytest.mark.slow
def test_it_does_not_grow_past_its_limit_of_memory(gearman_server: Server, tmp_path: Path) -> None:
    """Each job takes 40 MiB, and 12 of them more than there is."""
    (tmp_path / "eating.py").write_text(EATING)
    command = [sys.executable, "-m", "gearman_py.cli.worker"]
    command += ["--host", gearman_server.address, "eating:worker"]
    go = str(tmp_path / "go")
    with (
        memory_group(400 * MIB) as group,
        Client(gearman_server.address, timeout=LIMIT) as client,
        open(tmp_path / "log", "wb") as log,
        subprocess.Popen(
            ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=log,
        ) as worker,
    ):
        jobs = [client.submit("eat", go) for _ in range(12)]
        await_true(lambda: b"no more than" in (tmp_path / "log").read_bytes())
        with AdminClient(gearman_server.address) as admin:
            (row,) = admin.status()
            assert 3 <= row.workers < 12
        usage = "memory.max_usage_in_bytes" if "/memory/" in str(group) else "memory.peak"
        assert int((group / usage).read_text()) < 400 * MIB * (MEMORY_SHARE + 0.1)
        Path(go).touch()
        assert [int(job.result()) for job in jobs] == [40 * MIB] * 12, "none was killed for it"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LIMIT) == 0
