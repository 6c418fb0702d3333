"""Untrusted text in the output of commands: terminals do not obey it, and it forges no line."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client
from tests.cli.test_terminal import Terminal
from tests.injection import STRINGS, harmless
from tests.waiting import LIMIT

pytestmark = pytest.mark.slow

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
ENTRY = re.compile(rb"\d{4}-\d\d-\d\d [\d:,]{12} (DEBUG|INFO|WARNING|ERROR) |  ")

WORKER = """
from gearman_py import Worker
from tests.injection import STRINGS
worker = Worker()

def work(job):
    text = job.workload.decode(errors="surrogateescape")
    job.log.info("it says %s", text)
    job.log.info(text)
    job.send_warning(job.workload)
    job.send_status(1, 2)
    if len(text) % 2:
        raise ValueError(text)
    job.fail(text)

for string in STRINGS:
    worker.add_function(string.decode(errors="surrogateescape"), work)
"""


@pytest.fixture
def worker(program: Any, gearmand: Any, until: Any, tmp_path: Path) -> Path:
    """The log of a worker that serves all the functions, and fails."""
    (tmp_path / "hostile.py").write_text(WORKER)
    log = tmp_path / "worker.log"
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    with log.open("wb") as stderr:
        program(
            *("worker", "-vv", "--servers", gearmand.address, "hostile:worker"),
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": paths},
        )
    until(lambda: gearmand.workers_of("..") == 1)
    return log


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    made = Terminal()
    yield made
    made.written()


def is_text(string: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        return bool(string.decode())
    return False


def test_control_characters_from_workers_and_clients_are_escaped(
    gearmand: Any, worker: Path, terminal: Terminal
) -> None:
    def ask(string: bytes) -> int:
        name = string.decode(errors="surrogateescape")
        command = [sys.executable, "-m", "gearman_py.cli.gearman", "-h", gearmand.address]
        named = [*command, "-u", name, "-f", name]
        done = subprocess.run(named, input=string, stderr=terminal.slave, timeout=120)
        return done.returncode

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(ask, STRINGS))
    assert statuses == [1 if is_text(string) else 2 for string in STRINGS]
    said = terminal.written()
    assert harmless(said.encode()), said
    assert said.count(" (job H:") == statuses.count(1)
    logged = worker.read_bytes()
    assert harmless(logged), logged
    assert b"Traceback" in logged
    assert b"Logging error" not in logged
    for line in logged.splitlines():
        assert ENTRY.match(line), line


@pytest.mark.parametrize(
    "question", ["--status", "--priority-status", "--workers", "--show-jobs", "--show-unique-jobs"]
)
def test_control_characters_in_listings_are_escaped(
    gearmand: Any, run: Run, terminal: Terminal, question: str
) -> None:
    with Client(gearmand.address, timeout=LIMIT) as client:
        for string in STRINGS:
            client.submit(string.decode(errors="surrogateescape"), unique=string, background=True)
    where = ("-h", gearmand.address, question)
    for extra in ((), ("--json",)):
        done = run("gearadmin", *where, *extra)
        assert done.returncode == 0, done.stderr
        assert harmless(done.stdout), done.stdout
    rows = len(STRINGS) if question != "--workers" else 1
    assert len(json.loads(done.stdout)) == rows
    assert run("gearadmin", *where).stdout.count(b"\n") == rows + 1  # and the full stop
    command = [sys.executable, "-m", "gearman_py.cli.gearadmin", *where]
    subprocess.run(command, stdout=terminal.slave, timeout=120, check=True)
    seen = terminal.written()
    assert harmless(seen.encode()), seen
    assert seen.count("\n") == rows + 1  # and the heading
