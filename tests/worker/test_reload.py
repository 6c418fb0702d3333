"""SIGHUP: a new worker beside the old one, with no moment without one."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client
from gearman_py.admin.client import AdminClient
from tests.attacks import attack
from tests.squatter import taken_names
from tests.tally import tally
from tests.waiting import LIMIT

pytestmark = pytest.mark.slow

RELOADS = int(os.environ.get("RELOADS", "20"))
"""How often the worker is reloaded under load: RELOADS=200 by hand."""

PROGRAM = """
import logging, os, sys, time
from gearman_py import Worker
logging.basicConfig(level="INFO", format="%(process)d %(message)s")
worker = Worker(sys.argv[1], concurrency=2, drain_timeout=20)

@worker.function("version")
def version(job):
    return "VERSION"

@worker.function("gate")
def gate(job):
    job.send_status(0, 1)
    while not os.path.exists(job.workload):
        time.sleep(0.01)
    return "VERSION"

sys.exit(worker.run())
"""


class Program:
    """A worker's program, whose file can be changed while it runs."""

    def __init__(self, folder: Path, address: str) -> None:
        self.path = folder / "jobs.py"
        self._address = address
        self._log = folder / "log"
        self.change("one")

    def change(self, version: str) -> None:
        self.path.write_text(PROGRAM.replace("VERSION", version))

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(self.path), self._address],
                env={**os.environ, **environment},
                stderr=log,
            )
        return self.process

    @property
    def log(self) -> str:
        return self._log.read_text()

    def newest(self) -> int:
        """The process that took over last."""
        taken = [line.split() for line in self.log.splitlines() if "has taken over" in line]
        return int(taken[-1][2]) if taken else self.process.pid

    def reload(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gearman_py.cli.worker", "--reload", str(self.newest())]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


@pytest.fixture
def worker(gearmand: Any, tmp_path: Path, until: Any) -> Iterator[Program]:
    program = Program(tmp_path, gearmand.address)
    program.start()
    until(lambda: gearmand.workers_of("version") == 2)
    yield program
    program.process.kill()
    program.process.wait()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def test_new_code_takes_over_and_the_old_worker_leaves(gearmand: Any, worker: Program) -> None:
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("version") == b"one"
        worker.change("two")
        done = worker.reload()
        assert (done.returncode, done.stderr) == (0, "")
        assert worker.process.wait(LIMIT) == 0
        assert client.do("version") == b"two"


def test_threads_that_its_modules_started_live_in_the_new_worker(
    gearmand: Any, worker: Program, until: Any, tmp_path: Path
) -> None:
    """Of metrics, traces, connection pools: in a fork of the process they would be gone."""
    sign = tmp_path / "sign"
    beat = "import threading, pathlib\ndef beat():\n    while True:\n        time.sleep(0.01)\n"
    beat += f"        pathlib.Path({str(sign)!r}).write_text(str(os.getpid()))\n"
    beat += "threading.Thread(target=beat, daemon=True).start()\nworker ="
    worker.path.write_text(PROGRAM.replace("worker =", beat, 1))
    done = worker.reload()
    assert (done.returncode, done.stderr) == (0, "")
    sign.unlink()
    until(lambda: sign.exists() and sign.read_text() == str(worker.newest()))


def test_new_code_that_hangs_as_it_is_imported_is_ended_with_the_reload(
    gearmand: Any, worker: Program, until: Any
) -> None:
    pid = Path(f"{worker.path}.pid")
    worker.path.write_text(
        "import os, time\nopen(__file__ + '.pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-m", "gearman_py.cli.worker", "--reload", str(worker.process.pid)]
    with subprocess.Popen(command) as reload:
        until(lambda: pid.exists() and pid.read_text())
        worker.process.terminate()
        assert reload.wait(LIMIT) == 1
    until(lambda: gone(int(pid.read_text())))


def test_a_plain_signal_does_the_same(gearmand: Any, worker: Program, until: Any) -> None:
    worker.change("two")
    worker.process.send_signal(signal.SIGHUP)
    assert worker.process.wait(LIMIT) == 0
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("version") == b"two"


@attack(
    "local user",
    "take the names of the sockets by which workers and job servers are reloaded: a good "
    "release would be given up",
    "mended",
)
@pytest.mark.parametrize("suffix", ["", "-f00"])
def test_another_user_cannot_keep_a_worker_from_being_reloaded(
    gearmand: Any, worker: Program, suffix: str
) -> None:
    with taken_names(f"gearman-worker-reload-{worker.newest()}{suffix}"):
        done = worker.reload()
    assert (done.returncode, done.stderr) == (0, "")


def test_a_running_job_is_finished_by_the_old_worker(
    gearmand: Any, worker: Program, until: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with Client(gearmand.address, timeout=LIMIT) as client:
        held = client.submit("gate", str(gate))
        until(lambda: gearmand.running("gate") == 1)
        worker.change("two")
        assert worker.reload().returncode == 0
        assert client.do("version") == b"two"
        assert worker.process.poll() is None
        gate.touch()
        assert held.result() == b"one"
        assert worker.process.wait(LIMIT) == 0


@pytest.mark.parametrize("begun", [False, True])
def test_stop_during_a_reload_also_stops_the_new_worker(
    gearmand: Any, worker: Program, until: Any, tmp_path: Path, begun: bool
) -> None:
    gate = tmp_path / "gate"
    with Client(gearmand.address, timeout=LIMIT) as client:
        held = client.submit("gate", str(gate))
        until(lambda: gearmand.running("gate") == 1)
        if begun:  # it does not get ready
            worker.path.write_text(PROGRAM.replace("sys.argv[1]", "'127.0.0.1:1'"))
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: ("127.0.0.1:1: " if begun else "starting a new worker") in worker.log)
        worker.process.send_signal(signal.SIGTERM)
        until(lambda: "the reload has ended: this worker was told to stop" in worker.log)
        if begun:
            until(lambda: "drained after 0 jobs" in worker.log)
        gate.touch()
        assert held.result() == b"one"
        assert worker.process.wait(LIMIT) == 0
    assert "has taken over" not in worker.log
    until(lambda: gearmand.workers_of("version") == 0)


def test_told_to_stop_the_new_worker_waits_for_the_old(
    gearmand: Any, worker: Program, until: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with Client(gearmand.address, timeout=LIMIT) as client:
        held = client.submit("gate", str(gate))
        until(lambda: gearmand.running("gate") == 1)
        assert worker.reload().returncode == 0
        successor = worker.newest()
        os.kill(successor, signal.SIGTERM)
        until(lambda: f"{successor} SIGTERM: draining" in worker.log)
        until(lambda: gearmand.workers_of("version") == 1)
        assert not gone(successor)
        gate.touch()
        assert held.result() == b"one"
        until(lambda: gone(successor))


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import absent_module\n", "the new worker ended before it was ready"),
        ("raise SystemExit(3)\n", "the new worker ended before it was ready"),
    ],
)
def test_code_that_does_not_come_up_leaves_the_old_worker(
    gearmand: Any, worker: Program, code: str, why: str
) -> None:
    worker.path.write_text(code)
    done = worker.reload()
    assert done.returncode == 1
    assert why in done.stderr
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("version") == b"one"
    worker.change("two")
    assert worker.reload().returncode == 0


def test_systemd_is_told_of_the_new_process_before_the_old_one_leaves(
    gearmand: Any, tmp_path: Path, until: Any
) -> None:
    path = str(tmp_path / "notify")
    program = Program(tmp_path, gearmand.address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(LIMIT)
        program.start(NOTIFY_SOCKET=path)
        try:
            assert manager.recv(999).startswith(b"READY=1\n")
            assert program.reload().returncode == 0
            successor = program.newest()
            assert manager.recv(999) == b"MAINPID=%d" % successor
            # Else the watchdog would count from the last that its predecessor said.
            assert manager.recv(999).startswith(b"READY=1\nWATCHDOG=1\n")
            assert program.process.wait(LIMIT) == 0
            os.kill(successor, signal.SIGTERM)
            assert manager.recv(999) == b"STOPPING=1\nSTATUS=draining"
            until(lambda: gone(successor))
        finally:
            program.process.kill()
            program.process.wait()


def test_a_process_that_does_not_exist_cannot_be_reloaded(run: Any) -> None:
    done = run("worker", "--reload", "4194303")
    assert done.returncode == 1
    assert done.stderr == b"gearman-worker: reload failed: process 4194303 does not exist\n"


@pytest.mark.timeout(600)
def test_reloads_under_load_lose_and_fail_no_job(gearmand: Any, worker: Program) -> None:
    done = threading.Event()
    answers: list[bytes] = []
    errors: list[Exception] = []

    def load() -> None:
        with Client(gearmand.address, timeout=LIMIT) as client:
            while not done.is_set():
                try:
                    answers.append(client.do("version"))
                except Exception as error:  # noqa: BLE001, RUF100  any is a failure
                    errors.append(error)

    loads = [threading.Thread(target=load) for _ in range(4)]
    for thread in loads:
        thread.start()
    try:
        with AdminClient(gearmand.address) as admin:
            for number in range(RELOADS):
                worker.change(f"v{number}")
                assert worker.reload().returncode == 0
                (row,) = [row for row in admin.status() if row.name == "version"]
                assert row.workers >= 2, "the successor is there"
    finally:
        done.set()
        for thread in loads:
            thread.join()
    assert errors == []
    assert f"v{RELOADS - 2}".encode() in answers
    with AdminClient(gearmand.address) as admin:
        assert [row.total for row in admin.status() if row.name == "version"] == [0]
    tally("upgrade", reloads=RELOADS, jobs=len(answers), failed=0, lost=0)
