"""gearadmin --check, as Nagios runs it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client
from gearman_py.protocol.packets import Packet
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def check(run: Run, *words: str) -> tuple[int, str, str]:
    """Exit status, text and figures."""
    done = run("gearadmin", "--check", *words)
    line = re.fullmatch(r"(GEARMAN .*) \| (.*)\n", done.stdout.decode())
    assert line, done
    return done.returncode, line[1], line[2]


@pytest.mark.slow
def test_a_queue_is_judged_by_its_workers_and_limits(gearmand: Any, run: Run) -> None:
    where = "-h", gearmand.address
    status, text, figures = check(run, *where)
    assert (status, text) == (0, "GEARMAN OK - 1 job server, 0 functions, 0 jobs wait")
    assert figures.startswith("longest_queue=0;;;0 waiting=0;;;0 running=0;;;0 oldest=0.000s;;;0 ")
    with Client(gearmand.address) as client:
        for _ in range(3):
            client.do_background("f", b"x")
        client.do_background("f", b"x", at=4_000_000_000)
        problem = "f: 3 jobs wait and no worker does it"
        assert check(run, *where)[:2] == (2, f"GEARMAN CRITICAL - {problem}")
        host, _, port = gearmand.address.rpartition(":")
        worker = Peer((host, int(port)))
        with worker.socket:
            worker.say(Packet.CAN_DO, b"f")
            worker.ask(Packet.ECHO_REQ, b"")
            assert check(run, *where)[0] == 0
            assert check(run, *where, "--warning", "3", "--critical", "9")[0] == 0
            status, text, figures = check(run, *where, "--warning", "2", "--critical", "9")
            assert (status, text) == (1, "GEARMAN WARNING - f: 3 jobs wait (limit 2)")
            assert figures.startswith("longest_queue=3;2;9;0 waiting=3;")
            assert check(run, *where, "--critical", "2")[0] == 2


def test_a_server_that_refuses_jobs_is_critical(tmp_path: Path, run: Run) -> None:
    options = ["-v", "-L", "127.0.0.1", "-p", "0", "--max-memory", "1M"]
    with GearmandProcess(options, tmp_path) as server:
        host, port = server.listening()
        where = f"{host}:{port}"
        await_true(lambda: check(run, "-h", where)[0] == 2)
        why = "refuses jobs: the limit of memory is reached (--max-memory)"
        assert check(run, "-h", where)[1] == f"GEARMAN CRITICAL - {where} {why}"


def test_a_line_about_very_many_functions_is_bounded(gearmand: Any, run: Run) -> None:
    """It names the worst, and tells how many more there are."""
    host, _, port = gearmand.address.rpartition(":")
    client = Peer((host, int(port)))
    with client.socket:
        for number in range(3000):
            client.say(Packet.SUBMIT_JOB_BG, b"function-%04d|\xc3\xa9" % number, b"", b"")
        for name in (b"worst", b"worst", b"w" * 2000):
            client.say(Packet.SUBMIT_JOB_BG, name, b"", b"")
        client.socket.settimeout(LIMIT)
        for _ in range(3003):
            client.hear()
    dead = f"127.0.0.1:{reserve_port()}"
    status, text, figures = check(run, "-h", gearmand.address, "-h", dead)
    assert status == 2
    parts = text.split("; ")
    waits = "1 job waits and no worker does it"
    assert parts[0] == f"GEARMAN CRITICAL - {dead}: Connection refused"
    assert parts[1] == "worst: 2 jobs wait and no worker does it"
    assert parts[2] == f"function-0000/\xe9: {waits}"
    shown = len(parts) - 1
    assert parts[-1] == f"and {3003 - shown:,} more"
    assert shown > 20
    assert len(f"{text} | {figures}".encode()) < 4096
    assert "waiting=3003;" in figures


def test_a_server_that_does_not_answer_is_critical(gearmand: Any, run: Run) -> None:
    dead = f"127.0.0.1:{reserve_port()}"
    status, text, _ = check(run, "-h", gearmand.address, "-h", dead)
    assert (status, text) == (2, f"GEARMAN CRITICAL - {dead}: Connection refused")


@pytest.mark.parametrize(
    "words",
    [
        ("--check", "--warning", "many"),
        ("--check", "--nonsense"),
        ("--check", "--warning", "5", "--critical", "2"),
        ("--check", "--json"),
        ("--check", "--status"),
    ],
)
def test_a_wrong_command_line_is_no_state(run: Run, words: tuple[str, ...]) -> None:
    assert run("gearadmin", *words).returncode == 3
