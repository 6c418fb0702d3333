"""gearman-worker, as typed."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client, JobException
from gearman_py.admin.client import AdminClient
from gearman_py.functions import BUNDLED
from tests.waiting import LIMIT

Run = Callable[..., subprocess.CompletedProcess[bytes]]

MODULE = """
import os
from gearman_py import Worker
worker = Worker("192.0.2.1", processes=1)
other = Worker()
number = 7

@worker.function("upper", workload=True)
def upper(workload):
    return workload.upper()

@worker.function("kind")
def kind(job):
    return "child" if os.getpid() != parent else "parent"

parent = os.getpid()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a module and configuration files of a user."""
    (tmp_path / "jobs.py").write_text(MODULE)
    (tmp_path / "wrong.toml").write_text("procesess = 3\n")
    (tmp_path / "broken.toml").write_text("processes 3\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_serves_own_and_bundled_functions_together(
    program: Any, gearmand: Any, until: Any, own: Path
) -> None:
    program("worker", "--servers", gearmand.address, "jobs:worker", "reverse")
    until(lambda: gearmand.workers_of("reverse") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("upper", "abc") == b"ABC"
        assert client.do("kind") == b"child"
        assert client.do("reverse", "abc") == b"cba"


def test_a_file_supplies_missing_options(
    program: Any, gearmand: Any, until: Any, own: Path
) -> None:
    (own / "worker.toml").write_text(
        f'servers = "{gearmand.address}"\nfunctions = ["jobs:worker"]\n'
        'client-id = "from-file"\nprocesses = 3\nmax-memory-per-child = "500M"\n'
    )
    program("worker", "--config", "worker.toml", "--processes", "2")
    until(lambda: gearmand.workers_of("upper") == 2)
    with AdminClient(gearmand.address) as admin:
        assert [row.client_id for row in admin.workers() if row.functions] == ["from-file"] * 2


def test_a_burst_ends_with_the_queue(run: Run, gearmand: Any) -> None:
    with Client(gearmand.address) as client:
        for _ in range(3):
            client.do_background("reverse", "abc")
        client.do_background("copied", "abc")
        burst = "worker", "--servers", gearmand.address, "--burst"
        assert run(*burst, "reverse").returncode == 0
        assert run(*burst, "--concurrency", "2", "copied", "--", "cat").returncode == 0
    assert gearmand.running("reverse") == 0
    with AdminClient(gearmand.address) as admin:
        assert [row.total for row in admin.status()] == [0, 0]


def test_a_module_that_cannot_be_loaded_shows_where(run: Run, own: Path) -> None:
    (own / "jobs.py").write_text("import missing_thing\n")
    done = run("worker", "jobs:worker")
    assert done.returncode == 2
    first, place, *_, last = done.stderr.decode().splitlines()
    assert first == "Traceback (most recent call last):"
    assert 'jobs.py", line 1' in place, "what imported it is left out"
    assert "missing_thing" in last


def test_it_serves_bundled_functions_until_a_signal(
    program: Any, gearmand: Any, until: Any
) -> None:
    worker = program("worker", "--servers", gearmand.address, "reverse", "wc", "resize")
    until(lambda: gearmand.workers_of("resize") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("reverse", "Hello World!") == b"!dlroW olleH"
        assert client.do("wc", "a\nb\n") == b"2\n"
        with pytest.raises(JobException, match="not a JPEG, PNG, WebP or GIF picture"):
            client.do("resize", "x")
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert b"drained after 3 jobs" in log


def test_json_logs_say_of_each_job_how_it_ended(program: Any, gearmand: Any, until: Any) -> None:
    options = "--log-format", "json", "--log-jobs"
    worker = program("worker", "--servers", gearmand.address, "reverse", "resize", *options)
    until(lambda: gearmand.workers_of("resize") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        client.do("reverse", "x", unique="key")
        with pytest.raises(JobException):
            client.do("resize", "not a\npicture")
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=120)
    entries = [json.loads(line) for line in log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, entries))
    done, failed = (entry for entry in entries if "outcome" in entry)
    facts = "function", "unique", "attempt", "outcome"
    assert [done[fact] for fact in facts] == ["reverse", "key", 1, "complete"]
    assert (failed["function"], failed["outcome"]) == ("resize", "failed")
    assert done["handle"].startswith("H:")
    assert done["seconds"] >= 0
    (reason,) = [entry for entry in entries if "exception" in entry]
    assert (reason["function"], reason["level"]) == ("resize", "error")
    assert "Traceback" in reason["exception"]


def test_the_environment_names_its_servers(
    program: Any, gearmand: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEARMAN_SERVERS", gearmand.address)
    program("worker", "reverse")
    until(lambda: gearmand.workers_of("reverse") == 1)


def test_a_module_that_runs_its_worker_when_imported_is_refused(run: Run, own: Path) -> None:
    (own / "jobs.py").write_text(f"{MODULE}\nworker.run()\n")
    done = run("worker", "jobs:worker")
    assert done.returncode == 2
    last = done.stderr.decode().splitlines()[-1]
    assert "'jobs:worker' cannot be loaded: jobs runs a worker when it is imported; put" in last


@pytest.mark.parametrize(
    ("function", "missing", "cure"),
    [
        ("resize", "PIL", "pip install 'gearman_py[resize]'"),
        ("reverse", "gearman_py.functions.reverse", "install gearman_py again"),
    ],
)
def test_a_function_that_cannot_be_imported_names_an_extra_that_there_is(
    function: str, missing: str, cure: str
) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom gearman_py.cli.worker import main\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}main()", function], capture_output=True, text=True
    )
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"gearman-worker: error: {function} cannot be served here: import of ")
    assert told.endswith(f": {cure}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["revers"], "unknown bundled function 'revers'; did you mean 'reverse'?"),
        (["xyzzy"], f"unknown bundled function 'xyzzy'; expected one of {', '.join(BUNDLED)}"),
        (["no.such.jobs:worker"], "no module 'no' found from"),
        (["jobs"], "the worker in jobs.py is 'jobs:NAME', as in jobs:worker"),
        (["jobs.py"], "the worker in jobs.py is 'jobs:NAME', as in jobs:worker"),
        (["./jobs.py:worker"], "'./jobs.py:worker' is not MODULE:OBJECT; did you mean 'jobs:wor"),
        (["jobs:absent"], "jobs has no 'absent'"),
        (["jobs:workr"], "jobs has no 'workr'; did you mean 'worker'?"),
        (["jobs:number"], "'jobs:number' is int, not a gearman_py.Worker"),
        (["jobs:worker", "jobs:other"], "only one MODULE:OBJECT per process"),
        ([], "nothing to serve: expected a FUNCTION or MODULE:OBJECT"),
        (["wc", "--config", "absent.toml"], "absent.toml: No such file or directory"),
        (["wc", "--config", "wrong.toml"], "wrong.toml: unknown option 'procesess'"),
        (["wc", "--config", "broken.toml"], "broken.toml: Expected '=' after a key"),
        (
            ["wc", "--max-memory-per-child", "much"],
            "'much' is not a size: expected a number of bytes, or 200M",
        ),
        (["wc", "--burst", "--host", "a:b"], "'b' is not a port"),
        (["wc", "--drain-timeout", "soon"], "'soon'"),
        (["wc", "-h", "a:b"], "'b' is not a port"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    run: Run, own: Path, arguments: list[str], message: str
) -> None:
    done = run("worker", *arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode().splitlines()[-1]
