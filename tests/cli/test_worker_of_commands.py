"""gearman-worker FUNCTION -- COMMAND: a command for each job; --ping and --trial."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client, JobException, JobFailed
from gearman_py.admin.client import AdminClient
from tests.waiting import LIMIT


def test_a_command_is_a_function(program: Any, gearmand: Any, until: Any) -> None:
    program("worker", "--servers", gearmand.address, "lines", "--", "wc", "-l")
    until(lambda: gearmand.workers_of("lines") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("lines", "a\nb\n").strip() == b"2"
        big = os.urandom(2**20)
        assert client.do("lines", big).strip() == str(big.count(b"\n")).encode()


def test_a_command_may_leave_its_input_unread(program: Any, gearmand: Any, until: Any) -> None:
    program("worker", "--servers", gearmand.address, "first", "--", "head", "-c", "3")
    until(lambda: gearmand.workers_of("first") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("first", b"abc" * 2**20) == b"abc"


def test_a_failed_command_sends_its_output_and_errors(
    program: Any, gearmand: Any, until: Any
) -> None:
    script = "echo half; echo 'it is broken' >&2; exit 3"
    program("worker", "--servers", gearmand.address, "bad", "--", "sh", "-c", script)
    until(lambda: gearmand.workers_of("bad") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        told = []
        with pytest.raises(JobException, match="sh: exit status 3"):
            for part in client.submit("bad", ""):
                told.append(part)  # noqa: PERF402  what came before the failure counts
    assert told == [b"half\n"]


@pytest.mark.slow
def test_a_command_that_failed_is_run_again(
    program: Any, gearmand: Any, until: Any, tmp_path: Path
) -> None:
    """Nothing of an attempt that is not the last reaches the client."""
    script = f"echo . >>{tmp_path}/tried; test $(wc -l <{tmp_path}/tried) = 2 && echo right"
    words = ("--retries", "1", "shaky", "--", "sh", "-c", f"cat; {script}")
    program("worker", "--servers", gearmand.address, *words)
    until(lambda: gearmand.workers_of("shaky") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("shaky", "a ") == b"a right\n"
        with pytest.raises(JobException, match="sh: exit status 1"):
            client.do("shaky", "a ")
    assert (tmp_path / "tried").read_text() == ".\n" * 4


@pytest.mark.slow
def test_commands_run_side_by_side_and_end_at_their_time_limit(
    program: Any, gearmand: Any, until: Any, tmp_path: Path
) -> None:
    """Both jobs wait for a file that the other makes; what the third has started ends with it."""
    script = (
        'read name other; touch "$name"; while ! test -e "$other"; do sleep 0.05; done; echo met'
    )
    program(
        *("worker", "--servers", gearmand.address, "--concurrency", "2", "--timeout", "5"),
        *("meet", "--", "sh", "-c", f"cd {tmp_path}; {script}"),
    )
    until(lambda: gearmand.workers_of("meet") >= 1)
    with Client(gearmand.address, timeout=30) as client:
        jobs = [client.submit("meet", "a b\n"), client.submit("meet", "b a\n")]
        assert [job.result(timeout=LIMIT) for job in jobs] == [b"met\n"] * 2
        with pytest.raises(JobFailed, match="longer than 5 s"):
            client.do("meet", "c never\n")
    # Killed processes take a moment to be gone.
    until(
        lambda: not any(_is_in(pid, tmp_path) for pid in filter(str.isdigit, os.listdir("/proc")))
    )


def _is_in(pid: str, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(folder)
    except OSError:
        return False


@pytest.mark.slow
def test_a_drain_waits_for_the_command(
    program: Any, gearmand: Any, until: Any, tmp_path: Path
) -> None:
    script = (
        f"touch {tmp_path}/begun; while ! test -e {tmp_path}/go; do sleep 0.05; done; echo done"
    )
    worker = program("worker", "--servers", gearmand.address, "slow", "--", "sh", "-c", script)
    until(lambda: gearmand.workers_of("slow") == 1)
    with Client(gearmand.address, timeout=30) as client:
        job = client.submit("slow", "")
        until(lambda: (tmp_path / "begun").exists())
        worker.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        assert job.result(timeout=LIMIT) == b"done\n"
    assert worker.wait(timeout=120) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--", "no-such-command"], "command not found: 'no-such-command'"),
        (["--", "wc"], "nothing to serve"),
        (["--retries", "2", "wc"], "--retries is for a COMMAND"),
        (["--ping", "wc", "wc"], "there is already a function 'wc'"),
    ],
)
def test_an_error_is_one_line(run: Any, arguments: list[str], message: str) -> None:
    done = run("worker", *arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode().splitlines()[-1]


MODULE = """
from contextlib import asynccontextmanager
from gearman_py import Worker
worker = Worker(prefix="own-")

@asynccontextmanager
async def transaction(job):
    yield

worker.around(transaction)

@worker.function("twice")
async def twice(job):
    return job.workload * 2
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["async", "processes", "command"])
def test_a_ping_is_answered_where_jobs_run(
    program: Any, gearmand: Any, until: Any, tmp_path: Path, monkeypatch: Any, kind: str
) -> None:
    (tmp_path / "own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    words = {
        "async": ["own:worker"],
        "processes": ["--processes", "1", "--address", "here", "wc"],
        "command": ["lines", "--", "wc", "-l"],
    }[kind]
    program("worker", "--servers", gearmand.address, "--ping", "ping@here/x", *words)
    until(lambda: gearmand.workers_of("ping@here/x") == 1)
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("ping@here/x", "are you there") == b"are you there"
        if kind == "async":
            assert client.do("own-twice", "ab") == b"abab"


def test_functions_of_ones_own_are_chosen_and_prefixed(
    program: Any, gearmand: Any, until: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    more = '@worker.function("thrice")\nasync def thrice(job): return job.workload * 3\n'
    (tmp_path / "own.py").write_text(MODULE + more)
    monkeypatch.chdir(tmp_path)
    words = ("--only", "own-thrice", "--prefix", "trial@here/", "own:worker")
    program("worker", "--servers", gearmand.address, *words)
    until(lambda: gearmand.workers_of("trial@here/own-thrice") == 1)
    with AdminClient(gearmand.address) as admin:
        found = {name for row in admin.workers() for name in row.functions}
    assert found == {"trial@here/own-thrice"}
    with Client(gearmand.address, timeout=LIMIT) as client:
        assert client.do("trial@here/own-thrice", "ab") == b"ababab"


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (MODULE, ("--only", "twice"), "unknown function 'twice'; declared: own-twice"),
        (MODULE, ("--only", "a,own-twice,b"), "unknown functions 'a', 'b'; declared: own-twice"),
        ("from gearman_py import Worker\nworker = Worker()", ("--trial", "x"), "at least one func"),
    ],
)
def test_a_trial_of_ones_own_tells_what_is_wrong(
    run: Any,
    tmp_path: Path,
    monkeypatch: Any,
    module: str,
    words: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "own.py").write_text(module)
    monkeypatch.chdir(tmp_path)
    done = run("worker", *words, "own:worker")
    assert done.returncode == 2
    assert message in done.stderr.decode().splitlines()[-1]


BOTH = """
from gearman_py import Worker
worker = Worker(processes=1, concurrency=4)

@worker.function("plain")
def plain(job):
    return b""

@worker.function("loop")
async def loop(job):
    return b""
"""


@pytest.mark.parametrize("words", [("--trial", "alone"), ("--only", "plain")])
def test_a_part_of_a_worker_has_the_settings_of_the_whole(
    program: Any, gearmand: Any, until: Any, tmp_path: Path, monkeypatch: Any, words: Any
) -> None:
    """Concurrency is for its async functions, which are not served here."""
    (tmp_path / "own.py").write_text(BOTH)
    monkeypatch.chdir(tmp_path)
    program("worker", "--servers", gearmand.address, *words, "own:worker")
    until(lambda: gearmand.workers_of(words[1]) == 1)


def test_a_trial_serves_nothing_else(program: Any, gearmand: Any, until: Any) -> None:
    program("worker", "--servers", gearmand.address, "--trial", "ping@here/x", "wc", "reverse")
    until(lambda: gearmand.workers_of("ping@here/x") == 1)
    with AdminClient(gearmand.address) as admin:
        assert {name for row in admin.workers() for name in row.functions} == {"ping@here/x"}
