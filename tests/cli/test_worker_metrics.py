"""gearman-worker --metrics-file and --metrics-listen: what is read is what the worker did."""

import http.client
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser

from gearman_py import Client, JobException
from tests.leftovers import leftovers_killed
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

MODULE = """
import os
from gearman_py import Worker
from gearman_py.worker import service
service._METRICS_INTERVAL = 0.2
worker = Worker(processes=2, max_jobs_per_child=1)

@worker.function("die")
def die(job):
    os._exit(3)

@worker.function("echo", workload=True)
def echo(workload):
    return workload
"""


@pytest.fixture(autouse=True)
def _leftovers_killed() -> Iterator[None]:
    with leftovers_killed():
        yield


def read_values(file: Path) -> dict[tuple[str, ...], float]:
    """By name and labels, without the worker's, the first."""
    return parse_values(file.read_text() if file.exists() else "")


def parse_values(text: str) -> dict[tuple[str, ...], float]:
    families = parser.text_string_to_metric_families(text)
    return {
        (sample.name, *list(sample.labels.values())[1:]): sample.value
        for family in families
        for sample in family.samples
    }


def test_jobs_slots_and_processes_are_counted_while_it_runs(
    program: Any, gearmand: Any, until: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.prom"
    options = ("--servers", gearmand.address, "--metrics-file", str(file))
    worker = program("worker", *options, "jobs:worker")
    until(lambda: gearmand.workers_of("echo") == 2)
    with Client(gearmand.address, timeout=30) as client:
        for _ in range(3):
            client.do("echo", "x")
        with pytest.raises(JobException):
            client.do("die")
    expected: dict[tuple[str, ...], float] = {
        ("gearman_worker_jobs_total", "echo", "complete"): 3,
        ("gearman_worker_jobs_total", "die", "failed"): 1,
        ("gearman_worker_job_seconds_count", "echo"): 3,
        ("gearman_worker_job_seconds_bucket", "echo", "+Inf"): 3,
        ("gearman_worker_slots",): 2,
        ("gearman_worker_slots_busy",): 0,
        ("gearman_worker_healthy",): 1,
        ("gearman_worker_servers",): 1,
        ("gearman_worker_servers_registered",): 1,
        ("gearman_worker_processes_ended_total", "died"): 1,
        ("gearman_worker_processes_ended_total", "max_jobs"): 3,
    }
    await_true(lambda: expected.items() <= read_values(file).items(), interval=0.1)
    found = read_values(file)
    assert found["gearman_worker_memory_bytes", "worker"] > 2**20
    assert found["gearman_worker_memory_bytes", "children"] > 2**20
    assert 'worker="mine"' in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644
    if shutil.which("promtool"):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=file.read_bytes(), capture_output=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert [each.name for each in tmp_path.glob("*mine.prom*")] == []


def test_a_worker_goes_on_while_its_file_cannot_be_written(
    program: Any, gearmand: Any, until: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "later" / "mine.prom"
    options = ("--servers", gearmand.address, "--metrics-file", str(file))
    worker = program("worker", *options, "jobs:worker")
    until(lambda: gearmand.workers_of("echo") == 2)
    with Client(gearmand.address, timeout=30) as client:
        assert client.do("echo", "a") == b"a"
    file.parent.mkdir()
    await_true(file.exists, interval=0.1)
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert log.count(b"metrics cannot be written") <= 1


def fetch(port: int, path: str) -> tuple[int, str]:
    """The status and the text of an answer; 0 while nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def test_metrics_are_answered_by_the_worker_and_by_the_one_that_a_reload_starts(
    program: Any, gearmand: Any, until: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    port = reserve_port()
    options = ("--servers", gearmand.address, "--metrics-listen", f"127.0.0.1:{port}")
    none = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    worker = program("worker", *options, "jobs:worker", **none)
    until(lambda: fetch(port, "/healthz") == (200, "ok\n"))
    with Client(gearmand.address, timeout=30) as client:
        client.do("echo", "x")
    expected = {
        ("gearman_worker_jobs_total", "echo", "complete"): 1,
        ("gearman_worker_slots",): 2,
        ("gearman_worker_reloads_total",): 0,
    }
    until(lambda: expected.items() <= parse_values(fetch(port, "/metrics")[1]).items())
    assert fetch(port, "/other")[0] == 404
    reloaded = program("worker", "--reload", str(worker.pid))
    reloaded.communicate(timeout=120)
    assert reloaded.returncode == 0
    again = {("gearman_worker_reloads_total",): 1, ("gearman_worker_slots",): 2}
    until(lambda: again.items() <= parse_values(fetch(port, "/metrics")[1]).items())
    worker.wait(120)
    until(lambda: fetch(port, "/healthz") == (200, "ok\n"))


@pytest.mark.parametrize("address", ["127.0.0.1:no", ":9"])
def test_an_address_for_metrics_that_makes_no_sense_is_refused(program: Any, address: str) -> None:
    worker = program("worker", "--metrics-listen", address, "reverse")
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 2
    assert address.encode() in said and b"Traceback" not in said
