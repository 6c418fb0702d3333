"""The gearman command, as typed: client and worker."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ports import reserve_port

Until = Callable[[Callable[[], bool]], None]
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def gearman(run: Run, shared_gearmand: Any) -> Run:
    def gearman(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return run("gearman", "-p", str(shared_gearmand.port), *arguments, stdin=stdin)

    return gearman


@pytest.fixture
def serve(program: Any, shared_gearmand: Any, until: Until) -> Any:
    """Start ``gearman -w``; wait until the server knows its function."""

    def serve(function: str, *arguments: str) -> subprocess.Popen[bytes]:
        where = ("-p", str(shared_gearmand.port), "-w", "-f", function)
        process: subprocess.Popen[bytes] = program("gearman", *where, *arguments)
        until(lambda: shared_gearmand.workers_of(function) == 1)
        return process

    return serve


def test_stdin_is_the_workload(gearman: Run, serve: Any) -> None:
    serve("c-wc", "--", "wc", "-l")
    done = gearman("-f", "c-wc", stdin=b"a\nb\n")
    assert (done.stdout, done.stderr, done.returncode) == (b"2\n", b"", 0)


@pytest.mark.slow
def test_each_word_is_a_job_and_options_may_follow(gearman: Run, serve: Any) -> None:
    serve("c-cat", "--", "cat")
    assert gearman("-f", "c-cat", "one", "two", "-P").stdout == b"c-cat: onec-cat: two"
    assert gearman("-f", "c-cat", "--", "-n", "-x").stdout == b"-n-x"


@pytest.mark.slow
def test_lines_are_jobs(gearman: Run, serve: Any) -> None:
    serve("c-lines", "--", "sh", "-c", 'printf "<"; cat; printf ">"')
    assert gearman("-f", "c-lines", "-n", stdin=b"a\nb").stdout == b"<a\n><b>"
    assert gearman("-f", "c-lines", "-N", stdin=b"a\nccc").stdout == b"<a><ccc>"
    assert gearman("-f", "c-lines", "-s", stdin=b"unread").stdout == b"<>"


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 300_000, 3_000_000])
def test_no_size_deadlocks_a_command(gearman: Run, serve: Any, size: int) -> None:
    serve("c-big", "--", "cat")
    workload = os.urandom(size)
    assert gearman("-f", "c-big", stdin=workload).stdout == workload


def test_a_command_need_not_read_its_input(gearman: Run, serve: Any) -> None:
    serve("c-true", "--", "echo", "done")
    assert gearman("-f", "c-true", stdin=bytes(2_000_000)).stdout == b"done\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 3", b"exit status 3"), ("kill -9 $$", b"killed by SIGKILL")],
)
def test_a_failed_command_is_a_failed_job(
    gearman: Run, serve: Any, script: str, reason: bytes
) -> None:
    serve("c-bad", "--", "sh", "-c", f"echo part; echo oops >&2; {script}")
    done = gearman("-f", "c-bad", "-s")
    assert (done.stdout, done.returncode) == (b"part\n", 1)
    assert done.stderr == b"oops\nsh: " + reason + b"\nJob failed\n"


def test_a_worker_sends_its_output_by_line(gearman: Run, serve: Any) -> None:
    serve("c-by-line", "-N", "--", "cat")
    assert gearman("-f", "c-by-line", "-P", stdin=b"a\nb\n").stdout.startswith(
        b"c-by-line: ac-by-line: b"
    )


def test_a_worker_without_a_command_prints_workloads(gearman: Run, serve: Any) -> None:
    worker = serve("c-print", "-c", "2")
    assert gearman("-f", "c-print", "one", "two").stdout == b""
    assert worker.communicate(timeout=120)[0] == b"onetwo"
    assert worker.returncode == 0


def test_the_payload_is_never_seen_by_a_shell(gearman: Run, serve: Any, tmp_path: Path) -> None:
    serve("c-safe", "--", "cat")
    payload = f"$(touch {tmp_path}/hole); `touch {tmp_path}/hole`"
    assert gearman("-f", "c-safe", payload).stdout == payload.encode()
    assert not (tmp_path / "hole").exists()


@pytest.mark.slow
def test_background_jobs_run_by_priority(gearman: Run) -> None:
    for flags, word in ((["-L"], "low "), ([], "normal "), (["-I"], "high ")):
        done = gearman("-b", "-v", *flags, "-f", "c-order", word)
        assert (done.stdout, done.returncode) == (b"", 0)
        assert done.stderr.startswith(b"Task created: H:")
    assert gearman("-w", "-f", "c-order", "-c", "3").stdout == b"high normal low "


@pytest.mark.slow
def test_one_unique_is_one_run(gearman: Run) -> None:
    for _ in range(2):
        gearman("-b", "-u", "key", "-f", "c-unique", "x")
    gearman("-b", "-f", "c-unique", "y")
    assert gearman("-w", "-f", "c-unique", "-c", "2").stdout == b"xy"


@pytest.mark.slow
def test_several_functions_get_each_workload(gearman: Run, serve: Any) -> None:
    serve("c-f1", "--", "cat")
    serve("c-f2", "--", "cat")
    assert gearman("-P", "-f", "c-f1", "-f", "c-f2", "x").stdout == b"c-f1: xc-f2: x"


@pytest.mark.slow
def test_no_result_in_time_is_status_4(gearman: Run) -> None:
    done = gearman("-t", "1000", "-f", "c-unserved", "x")
    assert (done.returncode, done.stdout) == (4, b"")
    assert done.stderr.startswith(b"gearman: no result of c-unserved within 1 s (job H:")


def test_no_server_is_status_3(run: Run) -> None:
    port = reserve_port()
    done = run("gearman", "-h", "127.0.0.1", "-p", str(port), "-f", "wc", "x")
    message = f"gearman: no job server answers (127.0.0.1:{port}: Connection refused)\n"
    assert (done.returncode, done.stderr.decode()) == (3, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: -f"),
        (["-f", "x", "-p", "70000"], "'70000' is not a port"),
        (["-f", "x", "-h", "host:port"], "'port' is not a port"),
        (["-f", "x", "-u", "u" * 65, "w"], "over the limit of 64"),
        (["-w", "-f", "x", "--", "no-such-command"], "command not found: 'no-such-command'"),
        (["-S", "--ssl-ca-file", "/no/ca", "-f", "x"], "/no/ca: No such file or directory"),
        (["-t", "soon", "-f", "x"], "'soon' is not a number of milliseconds"),
        (["-f", "\udcff", "w"], "is not text in UTF-8"),
        (["-f", "", "w"], "the name of the function is empty"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    gearman: Run, arguments: list[str], message: str
) -> None:
    done = gearman(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["gearman", "gearadmin"])
def test_help_fits_the_terminal(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run(command, "-H")
    assert done.returncode == 0
    assert b"exit status:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 80


@pytest.mark.slow
def test_the_page_about_the_commands_shows_what_they_do(
    gearmand: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs/command-line.md"
    shown = page.read_text().split("```console\n")[1].split("```")[0].splitlines(keepends=True)
    for command in ("gearman", "gearadmin"):
        script = tmp_path / command
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gearman_py.cli.{command} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("GEARMAN_SERVER", gearmand.address)
    typed = "".join(line[2:] for line in shown if line.startswith("$ "))
    done = subprocess.run(["bash", "-c", f"{typed}kill $!; wait"], capture_output=True, timeout=120)
    assert done.stdout.decode() == "".join(line for line in shown if not line.startswith("$ "))
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("gearman", ("-f", "c-pipe", "x")), ("gearadmin", ("--status",))],
)
def test_a_command_whose_reader_has_left_ends_as_a_filter_does(
    program: Any, serve: Any, shared_gearmand: Any, command: str, arguments: tuple[str, ...]
) -> None:
    serve("c-pipe", "--", "cat")
    read, write = os.pipe()
    os.close(read)
    client = program(command, "-p", str(shared_gearmand.port), *arguments, stdout=write)
    os.close(write)
    _, errors = client.communicate(timeout=120)
    assert (client.returncode, errors) == (141, b"")  # as a shell shows SIGPIPE


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_not_whole_is_not_a_success(
    serve: Any, shared_gearmand: Any, tmp_path: Path, unbuffered: str
) -> None:
    serve("c-part", "--", "cat")
    (tmp_path / "input").write_bytes(b"x" * 3_000_000)

    def shell(line: str) -> tuple[str, str]:
        tool = f"{sys.executable} -m gearman_py.cli.gearman -p {shared_gearmand.port} -f c-part"
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "TOOL": tool}
        words = ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}}"]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout.removesuffix("\n"), done.stderr

    assert shell("$TOOL < input | head -c 0") == ("141", "")
    limited = shell("ulimit -f 1024; $TOOL < input > output")
    assert limited == ("1", "gearman: input or output: File too large\n")
    closed = ("1", "gearman: input or output: Bad file descriptor\n")
    assert shell("$TOOL x >&-") == closed
    assert shell("$TOOL -b x >&-") == ("0", "")  # there is nothing to print


def test_interrupt_ends_a_client_quietly(program: Any, shared_gearmand: Any, until: Until) -> None:
    client = program("gearman", "-p", str(shared_gearmand.port), "-f", "c-wait", "-v", "x")
    assert client.stderr.readline().startswith(b"Task created")
    client.send_signal(signal.SIGINT)
    assert (client.wait(30), client.stderr.read()) == (130, b"")


def test_a_drained_worker_lets_its_command_finish(
    program: Any, serve: Any, shared_gearmand: Any, until: Until, tmp_path: Path
) -> None:
    script = f"while [ ! -e {tmp_path}/gate ]; do sleep 0.02; done; echo through"
    worker = serve("c-drain", "-i", str(tmp_path / "pid"), "--", "sh", "-c", script)
    assert int((tmp_path / "pid").read_text()) == worker.pid
    client = program("gearman", "-p", str(shared_gearmand.port), "-f", "c-drain", "x")
    until(lambda: shared_gearmand.running("c-drain") == 1)
    worker.send_signal(signal.SIGINT)
    (tmp_path / "gate").touch()
    assert client.communicate(timeout=120)[0] == b"through\n"
    assert worker.wait(30) == 0
    assert not (tmp_path / "pid").exists()


def test_a_second_signal_ends_a_worker_and_its_command(
    program: Any, serve: Any, shared_gearmand: Any, until: Until, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    worker = serve("c-kill", "-v", "--", "sh", "-c", f"sleep 60 & echo $! > {pid}; wait")
    program("gearman", "-p", str(shared_gearmand.port), "-f", "c-kill", "-b", "x")
    until(lambda: pid.exists() and bool(pid.read_text()))
    worker.send_signal(signal.SIGTERM)
    until(lambda: b"draining" in worker.stderr.readline())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 1
    until(lambda: not alive(int(pid.read_text())))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "gearman_py.cli.gearman", "--version"])
    assert done.returncode == 0


def test_a_packet_too_large_for_a_header_is_a_usage_error(gearman: Run) -> None:
    done = gearman("-f", "c-none", "--max-packet", "5G", "x")
    assert done.returncode == 2
    assert b"expected less than 4G" in done.stderr


def test_a_job_over_max_packet_is_refused_with_a_message(gearman: Run) -> None:
    done = gearman("-f", "c-none", "--max-packet", "1000", "x" * 1000)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"max_packet=1000" in done.stderr
