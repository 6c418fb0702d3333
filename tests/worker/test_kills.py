"""What becomes of jobs when a worker, its process or its server is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client, Worker, WorkerJob
from gearman_py.testing import running
from tests.waiting import LIMIT

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[bytes]]

PROGRAM = """
import os, sys, time
from gearman_py import Worker
worker = Worker(sys.argv[1], processes=int(sys.argv[2]))

@worker.function("once")
def once(job):
    folder = job.workload.decode()
    open(f"{folder}/{os.getpid()}", "w").close()
    if len(os.listdir(folder)) == 1:
        time.sleep(60)
    return str(os.getpid())

sys.exit(worker.run())
"""


@pytest.fixture
def start(gearmand: Any) -> Iterator[Start]:
    started = []

    def start(processes: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, gearmand.address, str(processes)]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("processes", [0, 2])
def test_a_worker_killed_in_mid_job_has_it_run_elsewhere_once(
    gearmand: Any, start: Start, until: Any, tmp_path: Path, processes: int
) -> None:
    first = start(processes)
    with Client(gearmand.address, timeout=LIMIT) as client:
        job = client.submit("once", str(tmp_path))
        until(lambda: len(os.listdir(tmp_path)) == 1)
        second = start(processes)
        until(lambda: gearmand.workers_of("once") == 2 * max(1, processes))
        first.kill()
        runner = int(job.result())
    assert len(os.listdir(tmp_path)) == 2
    assert runner in map(int, os.listdir(tmp_path))
    assert (runner == second.pid) == (processes == 0)


def test_processes_end_with_their_worker(
    gearmand: Any, start: Start, until: Any, tmp_path: Path
) -> None:
    worker = start(2)
    with Client(gearmand.address) as client:
        client.do_background("once", str(tmp_path))
        until(lambda: len(os.listdir(tmp_path)) == 1)
        worker.kill()
        (pid,) = os.listdir(tmp_path)
        until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_server_killed_under_many_workers_has_them_all_back(gearmand: Any, until: Any) -> None:
    worker = Worker(gearmand.address, concurrency=100)
    worker.add_function("echo", lambda workload: workload, workload=True)
    with running(worker):
        for _ in range(3):
            gearmand.stop()
            gearmand.start()
            until(lambda: gearmand.workers_of("echo") == 100)
        with Client(gearmand.address, timeout=LIMIT) as client:
            assert client.do("echo", "back") == b"back"


def test_a_server_that_stops_answering_does_not_keep_the_others_from_being_served(
    gearmand: Any, shared_gearmand: Any, until: Any
) -> None:
    worker = Worker([gearmand.address, shared_gearmand.address])
    worker.add_function("other", lambda job: job.server)
    with running(worker), Client(shared_gearmand.address, timeout=LIMIT) as client:
        until(lambda: gearmand.workers_of("other") == 1 == shared_gearmand.workers_of("other"))
        os.kill(gearmand.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                assert client.do("other").decode() == shared_gearmand.address
        finally:
            os.kill(gearmand.pid, signal.SIGCONT)


def test_two_busy_servers_take_turns(gearmand: Any, shared_gearmand: Any, until: Any) -> None:
    servers = [gearmand.address, shared_gearmand.address]
    order: list[str] = []

    def note(job: WorkerJob) -> None:
        order.append(job.server)

    worker = Worker(servers, max_jobs=40)
    worker.add_function("turns", note)
    for server in servers:
        with Client(server) as client:
            for _ in range(20):
                client.do_background("turns")
    with running(worker):
        until(lambda: len(order) == 40)
    alternate = sum(one != other for one, other in pairwise(order))
    assert alternate > 30
