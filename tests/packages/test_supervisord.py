"""The sample of docs/packages.md, as supervisord runs it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gearman_py import AdminClient, Client
from gearman_py.errors import GearmanError
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "packages.md"
BIN = Path(sys.executable).parent
OWN = """
[supervisord]
nodaemon=true
user=root
logfile={folder}/log
pidfile={folder}/pid
childlogdir={folder}
[unix_http_server]
file={folder}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/socket
"""
JOBS = """
import os
from pathlib import Path
from time import sleep
from gearman_py import Worker

worker = Worker()


@worker.function("hold", workload=True)
def hold(gate):
    Path(gate.decode()).with_suffix(".pid").write_text(str(os.getpid()))
    while not Path(gate.decode()).exists():
        sleep(0.02)
    return str(os.getppid())  # supervisord's
"""


class Supervised(NamedTuple):
    folder: Path
    server: str

    def control(self, *words: str) -> subprocess.Popen[bytes]:
        command = [str(BIN / "supervisorctl"), "-c", str(self.folder / "conf"), *words]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def slots(self) -> int:
        """How many jobs its workers can run at a time."""
        try:
            with AdminClient(self.server) as admin:
                return sum(row.workers for row in admin.status() if row.name == "hold")
        except GearmanError:
            return 0


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    found = re.search(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    server = f"127.0.0.1:{reserve_port()}"
    sample = re.sub("^user=.*\n", "", found[1], flags=re.MULTILINE)
    sample = sample.replace("/srv/gearman/bin", str(BIN)).replace("127.0.0.1:4730", server)
    sample = sample.replace("gearmand -q", f"gearmand -L 127.0.0.1 -p {server.split(':')[1]} -q")
    sample = re.sub("/srv/(gearman|shop)", str(tmp_path), sample)
    (tmp_path / "conf").write_text(OWN.format(folder=tmp_path) + sample)
    (tmp_path / "jobs.py").write_text(JOBS)
    command = [str(BIN / "supervisord"), "-c", str(tmp_path / "conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        running = Supervised(tmp_path, server)
        try:
            await_true(lambda: running.slots() == 8)
            yield running
        finally:
            process.terminate()


def test_a_worker_that_is_restarted_finishes_its_job_while_the_other_takes_new_ones(
    supervised: Supervised,
) -> None:
    gate, open_gate = supervised.folder / "gate", supervised.folder / "open"
    open_gate.touch()
    begun, log = gate.with_suffix(".pid"), supervised.folder / "log"
    supervisord = (supervised.folder / "pid").read_bytes().strip()
    with Client(supervised.server, timeout=LIMIT) as client:
        job = client.submit("hold", str(gate))
        await_true(lambda: begun.exists() and begun.read_text() != "")
        (name,) = re.findall(f"spawned: '(.*)' with pid {begun.read_text()}\n", log.read_text())
        with supervised.control("restart", f"worker:{name}") as restart:
            await_true(lambda: f"waiting for {name} to stop" in log.read_text())
            assert client.do("hold", str(open_gate)) == supervisord
            gate.touch()
            assert job.result() == supervisord
            assert restart.wait(LIMIT) == 0
    assert f"stopped: {name} (exit status 0)" in log.read_text()
    await_true(lambda: supervised.slots() == 8)
