"""gearadmin --move-jobs and --retire: background jobs move to another job server."""

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client, ConnectionLost, Job, Submit, Worker
from gearman_py.admin.client import AdminClient
from gearman_py.testing import running
from tests.client.conftest import serving
from tests.job_servers import GearmandProcess
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Run = Callable[..., subprocess.CompletedProcess[bytes]]


class Server:
    """A job server with an admin socket; durable, so that a restart shows what it has stored."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        self.address = f"127.0.0.1:{reserve_port()}"
        self.socket = f"unix:{folder / name}.sock"
        self.admin = AdminClient(self.socket)
        self.queue = folder / f"{name}.db"
        (folder / name).mkdir()
        host, _, port = self.address.rpartition(":")
        self.arguments = ["-L", host, "-p", port, "-v", "--admin-listen", self.socket]
        self.arguments += ["-q", "sqlite", "--queue-file", str(self.queue), *options]
        self.process = GearmandProcess(self.arguments, folder / name)
        self.process.listening()

    def jobs(self) -> list[list[str]]:
        """All that is to be moved with each job."""
        found = [line.split("\t")[1:] for line in self.admin.listing("move jobs")]
        self.admin.close()  # so that they are assigned again
        return found

    def total(self) -> int:
        return sum(row.total for row in self.admin.status())


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Server]:
    yield from _serve(tmp_path, "old")


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Server]:
    yield from _serve(tmp_path, "new")


def _serve(folder: Path, name: str) -> Iterator[Server]:
    server = Server(folder, name)
    with server.process, server.admin:
        yield server


@pytest.mark.slow
def test_jobs_move_with_all_that_is_known_of_them(run: Run, old: Server, new: Server) -> None:
    due = int(time.time()) + 3600
    with Client(old.address) as client:
        client.submit_many(
            [
                Submit(function="f", workload=b"low", priority="low", background=True),
                Submit(function="f", workload=b"a\tb\n\0\xff", unique=b"u\xff", background=True),
                Submit(function="f g", workload=b"", priority="high", background=True),
                Submit(function="f", workload=b"later", unique="v", at=due),
                Submit(function="f", workload=b"parts", reducer="sum", background=True),
                Submit(function="f", workload=b"content", unique=True, background=True),
                Submit(function="large", workload=b"x" * 9_000_000, background=True),
                *[Submit(function="many", workload=b"%d" % n, background=True) for n in range(600)],
            ]
        )
        waits = client.submit("foreground", b"stays")
        before = old.jobs()
        done = run("gearadmin", "-h", old.socket, "--move-jobs", new.address)
        assert done.stdout == b"moved 607 jobs (f 5, f g 1, large 1, many 600)\n", done.stderr
        assert [row.name for row in old.admin.status() if row.total] == ["foreground"]
        assert not waits.done()
    after = [*new.jobs()]
    assert after == before[:500]
    assert (before[0][0], before[2][0], before[3][1]) == ("2", "0", str(due))
    assert new.total() == 607

    # What was moved is gone for good, and what came is stored.
    for server, total in ((old, 0), (new, 607)):
        server.process.end()
        server.admin.close()
        with GearmandProcess(server.arguments, server.queue.parent / server.queue.stem) as again:
            again.listening()
            assert server.total() == total


def submit_again_if_closed(client: Client, workload: bytes) -> None:
    """What a server that drains has not accepted as it closes a connection is not run."""
    while True:
        try:
            client.do_background("f", workload)
        except ConnectionLost as error:
            assert not error.handle
        else:
            return


@pytest.mark.slow
def test_a_server_retires_while_it_works(program: Any, old: Server, new: Server) -> None:
    done: Counter[bytes] = Counter()
    finish = threading.Event()
    slow = Worker(old.address, concurrency=4)
    quick = Worker(new.address)

    @slow.function("f")
    def finish_later(job: Job) -> None:
        finish.wait(LIMIT)
        done[job.workload] += 1

    @quick.function("f")
    def finish_now(job: Job) -> None:
        done[job.workload] += 1

    names = [b"%d" % number for number in range(700)]
    with Client(old.address) as client, serving(slow):
        client.submit_many([Submit(function="f", workload=name, background=True) for name in names])
        await_true(lambda: any(row.running == 4 for row in old.admin.status()))
        mover = program("gearadmin", "-h", old.socket, "--retire", new.address)
        assert mover.stderr.readline() == b"gearadmin: waiting for 4 running jobs\n"
        for number in range(50):  # by a client that knows no other server, and is closed at times
            names.append(b"late %d" % number)
            submit_again_if_closed(client, names[-1])
        finish.set()
        said, _ = mover.communicate(timeout=LIMIT)
    assert (mover.returncode, said.endswith(f"; {old.socket} stops\n".encode())) == (0, True)
    assert old.process.process.wait(LIMIT) == 0
    with serving(quick):
        await_true(lambda: len(done) == 750)
    assert done == Counter(names)


@pytest.mark.slow
def test_what_cannot_be_moved_stays_and_is_done(run: Run, old: Server, new: Server) -> None:
    def move(to: str, name: str = "--move-jobs") -> tuple[int, str]:
        ended = run("gearadmin", "-h", old.socket, name, to)
        return ended.returncode, ended.stderr.decode().strip()

    with Client(old.address) as client:
        client.submit_many([Submit(function="f", workload=b"x", background=True)] * 3)
    status, said = move(old.address)
    assert (status, said.endswith("is one of the servers that it moves jobs to")) == (1, True)
    assert move(f"127.0.0.1:{reserve_port()}")[0] == 3
    new.admin.max_queue("f", 2)
    status, said = move(new.address, "--retire")
    assert status == 1
    assert "stays (moved 2 jobs (f 2)): the job was refused" in said
    done = run("gearadmin", "-h", old.address, "--move-jobs", new.address)
    assert (done.returncode, b"only through the admin socket" in done.stderr) == (1, True)
    assert run("gearadmin", "-h", old.socket, "--move-jobs", "a:b").returncode == 2

    worker = Worker(old.address)
    worker.add_function("f", lambda job: None)
    worker.work()
    assert (old.total(), new.total()) == (0, 2)


def test_a_pause_is_not_undone_by_a_move_and_limits_that_stay_behind_are_told(
    run: Run, old: Server, new: Server
) -> None:
    def move() -> tuple[int, str]:
        ended = run("gearadmin", "-h", old.socket, "--move-jobs", new.address)
        return ended.returncode, (ended.stdout + ended.stderr).decode().strip()

    with Client(old.address) as client:
        client.submit_many(
            Submit(function=name, workload=b"x", background=True) for name in ("held", "slow")
        )
    old.admin.pause("held")
    old.admin.limit("slow", running=4, rate="20/m")
    status, said = move()
    assert status == 1
    assert f"held is paused here and not at {new.address}, where its 1 job would run" in said
    assert (old.total(), new.total()) == (2, 0)
    new.admin.pause("held")
    told = (
        "moved 2 jobs (held 1, slow 1); limits that are not set there: slow running=4 rate=20/60s"
    )
    assert move() == (0, told)
    assert (old.total(), new.total()) == (0, 2)


@pytest.mark.slow
def test_results_stay_where_they_are_and_are_there_again_after_a_retirement(
    run: Run, tmp_path: Path, new: Server
) -> None:
    old = Server(tmp_path, "old", "--keep-results", "3600")
    worker = Worker([old.address])
    worker.function("f")(lambda job: b"done")
    with old.process, old.admin:
        with running(worker), Client(old.address) as client:
            handle = client.do_background("f")
            assert client.result(handle, timeout=30) == b"done"
        listed = run("gearadmin", "-h", old.socket, "--results", "f").stdout.decode()
        assert listed.split("\t")[:3] == [handle, "f", "4"]
        assert listed.endswith("Z\n.\n")
        shown = run("gearadmin", "-h", old.socket, "--show-job", handle).stdout.decode()
        known = ["state", "handle", "function", "completed", "server", "result_bytes"]
        assert [line.split()[0] for line in shown.splitlines()] == known
        done = run("gearadmin", "-h", old.socket, "--retire", new.address)
        assert b"; 1 job whose results are kept: not moved; " in done.stdout, done
        assert old.process.process.wait(30) == 0
    with GearmandProcess(old.arguments, tmp_path / "old") as again:
        again.listening()
        assert run("gearadmin", "-h", old.socket, "--result", handle).stdout == b"done"


def test_jobs_are_assigned_again_when_who_moves_them_is_gone(run: Run, old: Server) -> None:
    worker = Worker(old.address)
    worker.add_function("f", lambda job: b"done")
    with Client(old.address, timeout=LIMIT) as client, serving(worker):
        client.do_background("g")
        assert len(old.admin.listing("move jobs")) == 1
        job = client.submit("f")
        busy = run("gearadmin", "-h", old.socket, "--move-jobs", "127.0.0.1:1")
        assert (busy.returncode, b"BUSY" in busy.stderr) == (1, True)
        assert old.admin.status()[0].waiting == 1
        old.admin.close()
        assert job.result() == b"done"
