"""A large fleet: pages stay quick, and the job server's work for them stays bounded."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.job_servers import JobServer
from tests.waiting import await_true
from tests.web.site import Site, running_site

FUNCTIONS, JOBS, WORKERS = 5_000, 100_000, 1_000
PAGES = (
    "/",
    "/functions",
    "/functions?sort=name&page=40",
    "/functions?q=function-4999",
    "/function?name=function-0000",
    "/jobs",
    "/jobs?page=900",
    "/jobs?state=running",
    "/jobs?q=unique-99999",
    "/workers",
    "/workers?page=9",
    "/servers",
)
PAGE_SECONDS = 0.2  # of CPU
SHARE_OF_SERVER = 0.1
TICKS = os.sysconf("SC_CLK_TCK")

pytestmark = pytest.mark.slow


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far (proc(5))."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / TICKS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("large"))
    server.start()
    with ExitStack() as stack:
        stack.callback(server.stop)
        submit_jobs(server.port)
        for number in range(WORKERS):
            worker = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            first = FUNCTIONS // 2 + 5 * number % (FUNCTIONS // 2)
            packets = [
                request(Packet.SET_CLIENT_ID, b"host%d:%d" % (number % 50, number)),
                *(request(Packet.CAN_DO, b"function-%04d" % (first + part)) for part in range(5)),
            ]
            worker.sendall(b"".join(packets))
        await_true(lambda: server.workers_of("function-2500"))
        yield server


def submit_jobs(port: int) -> None:
    """Submit all jobs, and wait until they are accepted."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        accepted = 0
        for start in range(0, JOBS, 1000):
            client.sendall(
                b"".join(
                    request(
                        Packet.SUBMIT_JOB_BG,
                        b"function-%04d" % (number % FUNCTIONS),
                        b"unique-%d" % number,
                        b"x",
                    )
                    for number in range(start, start + 1000)
                )
            )
            while accepted < start + 1000:
                accepted += client.recv(2**20).count(b"\0RES")


def test_pages_cost_little(server: JobServer, tmp_path: Path) -> None:
    with running_site(tmp_path, "-h", server.address, "--interval", "3600") as site:
        site.await_round()
        assert site.page("/").panels["Waiting"] == f"{JOBS:,}"
        assert site.page("/").panels["Workers"] == f"{WORKERS:,}"
        spent = {path: cost_of_page(site, path) for path in PAGES}
    assert {path: seconds for path, seconds in spent.items() if seconds > PAGE_SECONDS} == {}


def cost_of_page(site: Site, path: str, times: int = 5) -> float:
    before = cpu_seconds(site.process.pid)
    for _ in range(times):
        answer = site.get(path)
        assert answer.status == 200
        assert len(answer.text) < 300_000
    return (cpu_seconds(site.process.pid) - before) / times


def test_the_work_of_the_job_server_is_bounded(server: JobServer, tmp_path: Path) -> None:
    with running_site(tmp_path, "-h", server.address, "--interval", "1") as site:
        site.await_round()
        began, before = time.monotonic(), cpu_seconds(server.pid)
        time.sleep(10)  # what is measured is a share of this
        share = (cpu_seconds(server.pid) - before) / (time.monotonic() - began)
    assert share < SHARE_OF_SERVER
