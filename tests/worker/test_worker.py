"""A worker in a process of its own: drain, restart of servers, systemd's messages."""

import asyncio
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from gearman_py import Client, JobTimeout, Worker
from gearman_py.admin.client import AdminClient
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

Until = Callable[[Callable[[], bool]], None]

PROGRAM = """
import logging, os, sys, time
from gearman_py import Worker
logging.basicConfig(level="INFO")
worker = Worker(sys.argv[1], drain_timeout=float(sys.argv[2]), processes=int(sys.argv[3]))

@worker.function("gate")
def gate(job):
    job.send_status(0, 1)
    while not os.path.exists(job.workload):
        time.sleep(0.01)
    return b"opened"

@worker.function("agate")
async def agate(job):
    import asyncio
    while not os.path.exists(job.workload):
        await asyncio.sleep(0.01)
    return b"opened"

sys.exit(worker.run())
"""


@pytest.fixture
def start(until: Until) -> Any:
    running = []

    def start(
        server: Any, drain_timeout: float = 30, others: str = "", processes: int = 0
    ) -> subprocess.Popen[bytes]:
        where = others or server.address
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, where, str(drain_timeout), str(processes)],
            stderr=subprocess.PIPE,
        )
        running.append(process)
        until(lambda: server.workers_of("gate") > 0)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("function", "processes"), [("gate", 0), ("gate", 1), ("agate", 0)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain_finishes_the_job_in_hand_and_takes_no_other(
    gearmand: Any,
    start: Any,
    until: Until,
    tmp_path: Path,
    function: str,
    processes: int,
    number: int,
) -> None:
    gate = tmp_path / "gate"
    worker = start(gearmand, processes=processes)
    with Client(gearmand.address, timeout=LIMIT) as client:
        first = client.submit(function, str(gate))
        until(lambda: gearmand.running(function) == 1)
        second = client.submit(function, str(gate))
        worker.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.2)
        gate.touch()
        assert first.result() == b"opened"
        assert worker.wait(30) == 0
        with pytest.raises(JobTimeout):
            second.result(timeout=0.1)
        assert client.status(second)[:2] == (True, False)


def test_an_idle_worker_leaves_at_once(gearmand: Any, start: Any) -> None:
    worker = start(gearmand)
    worker.terminate()
    assert worker.wait(30) == 0


@pytest.mark.parametrize("processes", [0, 1])
def test_a_second_signal_leaves_the_job_to_the_server(
    gearmand: Any, start: Any, until: Until, tmp_path: Path, processes: int
) -> None:
    worker = start(gearmand, processes=processes)
    with Client(gearmand.address) as client:
        job = client.submit("gate", str(tmp_path / "gate"))
        until(lambda: gearmand.running("gate") == 1)
        worker.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.2)
        worker.terminate()
        assert worker.wait(30) == 1
        until(lambda: gearmand.running("gate") == 0)
        assert client.status(job).known


@pytest.mark.parametrize("processes", [0, 1])
def test_a_drain_has_a_limit(
    gearmand: Any, start: Any, until: Until, tmp_path: Path, processes: int
) -> None:
    worker = start(gearmand, drain_timeout=0.2, processes=processes)
    with Client(gearmand.address) as client:
        client.submit("gate", str(tmp_path / "gate"))
        until(lambda: gearmand.running("gate") == 1)
        worker.terminate()
        assert worker.wait(30) == 1


def test_a_worker_comes_back_to_a_server_that_was_away(
    gearmand: Any, start: Any, until: Until, tmp_path: Path
) -> None:
    start(gearmand)
    gearmand.stop()
    gearmand.start()
    until(lambda: gearmand.workers_of("gate") == 1)
    (tmp_path / "gate").touch()
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("gate", str(tmp_path / "gate")) == b"opened"


def test_a_worker_serves_several_servers_one_job_at_a_time(
    gearmand: Any, shared_gearmand: Any, start: Any, until: Until, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    servers = [gearmand, shared_gearmand]
    start(gearmand, others=",".join(server.address for server in servers))
    until(lambda: shared_gearmand.workers_of("gate") == 1)
    with Client(gearmand.address, timeout=LIMIT) as one, Client(shared_gearmand.address) as two:
        jobs = [client.submit("gate", str(gate)) for client in (one, two)]
        until(lambda: sum(server.running("gate") for server in servers) == 1)
        gate.touch()
        assert [job.result(timeout=LIMIT) for job in jobs] == [b"opened"] * 2


def test_systemd_hears_ready_only_after_a_server_knows_the_functions(
    gearmand: Any, start: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        gearmand.stop()
        program = [sys.executable, "-c", PROGRAM, gearmand.address, "5", "0"]
        environment = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}
        worker = subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL)
        try:
            manager.settimeout(0.5)
            with pytest.raises(TimeoutError):
                manager.recv(999)
            gearmand.start()
            manager.settimeout(10)
            assert re.match(
                rb"READY=1\nWATCHDOG=1\nSTATUS=\d of 2 at work; 0 jobs done", manager.recv(999)
            )
            assert manager.recv(999).startswith(b"WATCHDOG=1\n")
            worker.terminate()
            while (message := manager.recv(999)).startswith(b"WATCHDOG"):
                pass
            assert message.startswith(b"STOPPING=1")
            assert worker.wait(30) == 0
        finally:
            worker.kill()
            worker.wait()


def test_systemd_hears_nothing_from_a_worker_that_does_not_go_on(
    gearmand: Any, tmp_path: Path, until: Until
) -> None:
    blocking = PROGRAM.replace("await asyncio.sleep(0.01)", "time.sleep(0.01)")
    path, gate = str(tmp_path / "notify"), tmp_path / "gate"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        program = [sys.executable, "-c", blocking, gearmand.address, "5", "0"]
        environment = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}
        worker = subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL)
        try:
            manager.settimeout(10)
            assert manager.recv(999).startswith(b"READY=1")
            with Client(gearmand.address) as client:
                client.do_background("agate", str(gate))
                until(lambda: gearmand.running("agate") == 1)
            manager.settimeout(0.5)  # more than two intervals
            with pytest.raises(TimeoutError):
                while manager.recv(999).startswith(b"WATCHDOG=1"):
                    pass
            gate.touch()
            manager.settimeout(10)
            assert manager.recv(999).startswith(b"WATCHDOG=1")
        finally:
            worker.kill()
            worker.wait()


def test_a_second_function_of_one_name_is_an_error() -> None:
    worker = Worker("localhost")
    worker.add_function("f", lambda job: b"")
    with pytest.raises(ValueError, match="already"):
        worker.add_function("f", lambda job: b"")


def test_a_decorated_function_stays_callable() -> None:
    worker = Worker("localhost")

    @worker.function("f", workload=True)
    def reverse(workload: bytes) -> bytes:
        return workload[::-1]

    assert reverse(b"ab") == b"ba"


def test_a_server_lost_in_mid_job_does_not_end_the_worker(
    gearmand: Any, start: Any, until: Until, tmp_path: Path
) -> None:
    start(gearmand)
    with Client(gearmand.address, timeout=LIMIT) as client:
        client.submit("gate", str(tmp_path / "gate"))
        until(lambda: gearmand.running("gate") == 1)
        gearmand.stop()
        gearmand.start()
        (tmp_path / "gate").touch()
        until(lambda: gearmand.workers_of("gate") == 1)
        assert client.do("gate", str(tmp_path / "gate")) == b"opened"


def test_a_worker_whose_terminal_is_closed_drains(gearmand: Any, until: Until) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-c", PROGRAM, gearmand.address, "30", "0"]
        os.execv(command[0], command)  # noqa: S606  the point is the terminal of the child
    until(lambda: gearmand.workers_of("gate") == 1)
    os.close(terminal)
    until(lambda: os.waitpid(pid, os.WNOHANG) == (pid, 0))
    assert gearmand.workers_of("gate") == 0


@pytest.mark.parametrize("before", ["", "trap '' HUP;"], ids=["plain", "nohup"])
def test_a_worker_at_a_terminal_reloads_when_it_is_asked_to(
    gearmand: Any, until: Until, tmp_path: Path, before: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    shell, terminal = pty.fork()
    if shell == 0:
        line = f"{before} {sys.executable} {program} {gearmand.address} 30 0; read any"
        os.execv("/bin/sh", ["sh", "-c", line])  # noqa: S606  the point is the child's terminal

    def serving() -> set[int]:
        """The pids of the workers."""
        with AdminClient(gearmand.address) as admin:
            names = [row.client_id for row in admin.workers() if "gate" in row.functions]
        return {int(name.rpartition(":")[2]) for name in names}

    until(lambda: len(serving()) == 1)
    (worker,) = serving()
    reload = [sys.executable, "-m", "gearman_py.cli.worker", "--reload", str(worker)]
    done = subprocess.run(reload, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: len(serving()) == 1 and serving() != {worker})
    (successor,) = serving()
    os.close(terminal)
    until(lambda: os.waitpid(shell, os.WNOHANG) == (shell, ANY))
    if before:
        with Client(gearmand.address, timeout=LIMIT) as client:
            assert client.do("gate", "/") == b"opened"
        assert serving() == {successor}
        os.kill(successor, signal.SIGTERM)
    until(lambda: not serving())


def test_two_different_signals_at_once_are_one_request(
    gearmand: Any, start: Any, until: Until, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start(gearmand)
    with Client(gearmand.address, timeout=LIMIT) as client:
        job = client.submit("gate", str(gate))
        until(lambda: gearmand.running("gate") == 1)
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.2)
        gate.touch()
        assert job.result() == b"opened"
        assert worker.wait(10) == 0


def test_a_server_that_never_answers_does_not_hold_up_a_drain() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        worker = subprocess.Popen([sys.executable, "-c", PROGRAM, address, "30", "0"])
        connections = [silent.accept()[0] for _ in range(2)]
        for connection in connections:
            assert connection.recv(999)
        worker.terminate()
        assert worker.wait(10) == 0
        for connection in connections:
            connection.close()


def test_a_script_says_what_it_does_where_logging_is_not_set_up(
    gearmand: Any, until: Until
) -> None:
    code = PROGRAM.replace('logging.basicConfig(level="INFO")', "")
    command = [sys.executable, "-c", code, gearmand.address, "30", "0"]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: gearmand.workers_of("agate") == 1)
    worker.terminate()
    _, said = worker.communicate(timeout=120)
    assert "INFO serving gate, agate; SIGTERM or ^C drains" in said
    assert said.count(f"registered with {gearmand.address}") == 1, "not once for each slot"
    assert "drained after 0 jobs" in said


@pytest.mark.timeout(60)
def test_a_slot_that_registers_early_does_not_keep_the_loop_from_the_others(gearmand: Any) -> None:
    """A thread may have registered before the loop runs at all; async slots need the loop."""
    worker = Worker(gearmand.address)
    worker.add_function("plain", lambda job: b"")

    @worker.function("loop")
    async def loop(job: Any) -> bytes:
        return b""

    async def serve_and_wait() -> None:
        serving = asyncio.create_task(worker.serve())
        await asyncio.sleep(0)
        await_true(lambda: gearmand.workers_of("plain") == 1)  # and the loop stands still
        waiting = asyncio.create_task(worker.registered())
        await asyncio.wait_for(waiting, 20)
        assert gearmand.workers_of("loop") == 1
        worker.drain()
        await serving

    asyncio.run(serve_and_wait())
