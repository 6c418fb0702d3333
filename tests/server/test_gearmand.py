"""gearmand as a command: how it starts, what it says, how it ends."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

import gearman_py
from gearman_py.cli.gearmand import main
from gearman_py.protocol.packets import Packet
from tests.forked import run_text
from tests.job_servers import OUR_GEARMAND, GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]


def gearmand(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end: for what does not start."""
    return run_text("gearmand", *arguments, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it_with_status_0_and_owed_bytes_still_leave(
    start: Start, connect: Connect, number: signal.Signals
) -> None:
    server = start()
    peer = connect(server.listening())
    assert peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED"
    assert server.end(number) == 0
    assert peer.closed()
    assert "stopping: 1 jobs were queued or running" in server.log


def test_drain_signal_refuses_newcomers_and_ends_after_the_last_job(
    start: Start, connect: Connect
) -> None:
    server = start()
    address = server.listening()
    client, worker = connect(address), connect(address)
    worker.say(Packet.CAN_DO, b"f")
    _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    worker.ask(Packet.GRAB_JOB)
    server.process.send_signal(signal.SIGUSR1)
    await_true(lambda: "draining" in server.log)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    worker.say(Packet.WORK_COMPLETE, handle, b"r")
    assert client.hear() == ("WORK_COMPLETE", handle, b"r")
    assert server.process.wait(30) == 0


def test_a_server_told_to_stop_lets_running_jobs_end_and_gives_out_no_other(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    server = start(
        *("--drain-timeout", "10", "-q", "sqlite", "--queue-file", str(tmp_path / "queue"))
    )
    address = server.listening()
    client, worker, sleeper = connect(address), connect(address), connect(address)
    worker.say(Packet.CAN_DO, b"f")
    _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
    sleeper.say(Packet.CAN_DO, b"f")
    sleeper.say(Packet.PRE_SLEEP)
    assert sleeper.ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
    server.process.terminate()
    await_true(lambda: "1 running jobs may end within 10 s" in server.log)
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED"
    assert sleeper.ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")  # nobody woke it
    assert sleeper.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    worker.say(Packet.WORK_COMPLETE, handle, b"r")
    assert client.hear() == ("WORK_COMPLETE", handle, b"r")
    assert server.process.wait(30) == 0
    assert "stopping: 1 jobs were queued or running" in server.log


def test_a_server_told_to_stop_twice_waits_for_nothing(start: Start, connect: Connect) -> None:
    server = start("--drain-timeout", "3600")
    worker = connect(server.listening())
    worker.say(Packet.CAN_DO, b"f")
    worker.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")
    assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
    server.process.terminate()
    await_true(lambda: "1 running jobs may end" in server.log)
    assert server.end() == 0


def test_taken_port_is_one_message_with_the_cure(start: Start) -> None:
    _, port = start().listening()
    done = gearmand("-L", "127.0.0.1", "-p", str(port), "--bind-timeout", "0")
    assert done.returncode == 1
    assert done.stderr == (
        f"gearmand: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        f"who has it: ss -ltnp 'sport = :{port}'\n"
    )


def test_port_that_is_taken_for_a_while_is_waited_for(start: Start, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()
        server = start("-p", str(address[1]))
        await_true(lambda: "Address already in use" in server.log)
    assert server.listening() == address
    assert connect(address).ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
    assert server.log.count("; trying for 20 s") == 1
    assert server.log.count(f"127.0.0.1 port {address[1]} is free now") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_a_server_that_waits_for_its_port(start: Start, number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = start("-p", str(other.getsockname()[1]))
        await_true(lambda: "Address already in use" in server.log)
        server.process.send_signal(number)
        assert server.process.wait(LIMIT) == 0
    assert f"gearmand: {signal.Signals(number).name}: stopped before it served" in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("flag", ["-v", "-vvv"])
def test_v_is_taken_where_the_c_server_takes_none(flag: str) -> None:
    if os.path.exists("/usr/sbin/gearmand"):
        assert subprocess.run(["/usr/sbin/gearmand", flag], capture_output=True).returncode == 1
    assert gearmand(flag, "--check-args").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed"], "unrecognized arguments: --speed"),
        (["--lisen=::1"], "unrecognized arguments: --lisen=::1; did you mean --listen?"),
        (["-p", "high"], "argument -p/--port: invalid int value: 'high'"),
        (["-p", "70000"], "--port: 70000 is not between 0 and 65535"),
        (["-b", "0"], "--backlog: 0 is not a positive number"),
        (["-p", "0", "-u", "nobody-of-that-name"], "user 'nobody-of-that-name' does not exist"),
        (["-p", "0", "-l", "/nowhere/log"], "cannot write the log file /nowhere/log"),
        (["-p", "0", "-P", "/nowhere/pid"], "cannot write the pid file /nowhere/pid"),
        (["-q", "mysql"], "unknown queue type 'mysql'; expected builtin"),
        (["--keepalive-idle", "0"], "--keepalive-idle: 0 is not between 1 and 32767"),
        (["-w", "-1"], "--worker-wakeup: -1 is less than 0"),
        (["-p", "0", "-f", "99999999999"], "--file-descriptors: 99999999999 is more than"),
        (["-L", "host.invalid"], "cannot resolve --listen host.invalid"),
    ],
)
def test_mistake_is_one_message_and_status_1(arguments: list[str], message: str) -> None:
    done = gearmand("-L", "127.0.0.1", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gearmand: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--keep-failed-days nan", "--keep-failed-days: nan is not a finite number"),
        ("--keep-results f=", "--keep-results: 'f=' is not SECONDS or FUNCTION=SECONDS"),
        ("--keep-results =1", "--keep-results: '=1' is not SECONDS or FUNCTION=SECONDS"),
        ("--keep-results f=-1", "--keep-results: 'f=-1' is not SECONDS or FUNCTION=SECONDS"),
        ("--keep-results nan", "--keep-results: 'nan' is not SECONDS or FUNCTION=SECONDS"),
        ("--drain-timeout -1", "--drain-timeout: -1 is less than 0"),
        ("--max-packet 0", "--max-packet: 0 is not between 1 and 4294967295"),
        ("--metrics-listen 17", "--metrics-listen: '17' is not an address; expected one such as"),
        ("-q redis --redis-port 99999", "--redis-port: 99999 is not between 1 and 65535"),
        ("-q redis --redis-ca /nowhere/ca", "--redis-ca: only with --redis-tls"),
        ("-q redis --redis-tls --redis-ca /nowhere/ca", "--redis-ca /nowhere/ca: No such file"),
        ("-q redis --redis-passfile /nowhere/word", "/nowhere/word: No such file"),
        ("-q postgres --postgres-passfile /etc/passwd", "/etc/passwd: all users can read"),
        ("--ssl --ssl-ca-file /nowhere/ca", "/nowhere/ca: No such file"),
    ],
)
def test_check_of_the_arguments_finds_what_a_start_would(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check-args", *arguments.split()]) == 1
    assert capsys.readouterr().err.startswith(f"gearmand: {message}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes someone else")
@pytest.mark.parametrize("options", [[], ["--import", "libsqlite3:none.db"], ["-d"]])
def test_user_that_cannot_read_python_is_told_so(tmp_path: Path, options: list[str]) -> None:
    tmp_path.chmod(0o700)
    package = Path(gearman_py.__file__).parent
    shutil.copytree(package, tmp_path / "gearman_py", ignore=shutil.ignore_patterns("__pycache__"))
    queue = ["-q", "sqlite", "--queue-file", str(tmp_path / "queue.db")]
    done = subprocess.run(
        [*OUR_GEARMAND, "-L", "127.0.0.1", "-p", "0", "-u", "nobody", *queue, *options],
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("gearmand: user ID ")
    assert "cannot read /" in done.stderr
    assert done.stderr.count("\n") == 1


def test_port_comes_from_the_environment_unless_a_flag_says_other(
    start: Start, tmp_path: Path
) -> None:
    port = reserve_port()
    words = ["-v", "-L", "127.0.0.1"]
    with GearmandProcess(words, tmp_path, GEARMAND_PORT=str(port)) as server:
        assert server.listening() == ("127.0.0.1", port)
    assert start(GEARMAND_PORT=str(port)).listening()[1] != port


def test_systemd_is_told_that_it_is_ready_alive_and_stopping(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        server = start(NOTIFY_SOCKET=path, WATCHDOG_USEC="100000")
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=listening on 127.0.0.1")
        assert [manager.recv(1000) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        server.process.terminate()
        while (said := manager.recv(1000)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"


def test_daemon_detaches_writes_its_pid_and_takes_it_away(connect: Connect, tmp_path: Path) -> None:
    pid_file, log = tmp_path / "pid", tmp_path / "log"
    port = reserve_port()
    files = ["-P", str(pid_file), "-l", str(log)]
    done = gearmand("-d", "-v", "-L", "127.0.0.1", "-p", str(port), *files)
    assert done.returncode == 0, done.stderr
    pid = int(pid_file.read_text())
    # It listens when the command has returned.
    assert connect(("127.0.0.1", port)).ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
    os.kill(pid, signal.SIGTERM)
    await_true(lambda: not pid_file.exists())


def test_help_names_every_option_and_exits_0() -> None:
    done = gearmand("--help")
    assert done.returncode == 0
    for flag in ("--listen", "--port", "--daemon", "--user", "--log-file", "--pid-file", "-v"):
        assert flag in done.stdout


def test_option_that_means_nothing_here_is_told_and_does_no_harm() -> None:
    done = gearmand(
        "--threads=8", "--hashtable-buckets", "991", "--verbose", "INFO", "--check-args"
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "gearmand: --threads has no effect: one event loop serves all connections",
        "gearmand: --hashtable-buckets has no effect: tables grow as needed",
    ]


def test_hangup_signal_goes_on_in_a_new_log_file(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    address = ("127.0.0.1", reserve_port())
    server = start("-l", str(log), "-p", str(address[1]))
    await_true(lambda: log.exists() and "listens on" in log.read_text())
    log.rename(tmp_path / "log.1")
    server.process.send_signal(signal.SIGHUP)
    await_true(lambda: log.exists() and "SIGHUP" in log.read_text())
    assert connect(address).ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")


def test_hangup_signal_gives_back_a_log_file_also_where_there_is_nothing_to_log(
    tmp_path: Path,
) -> None:
    pid_file, log = tmp_path / "pid", tmp_path / "log"
    where = ("-L", "127.0.0.1", "-p", str(reserve_port()), "-P", str(pid_file), "-l", str(log))
    assert gearmand("-d", *where).returncode == 0
    pid = int(pid_file.read_text())
    try:
        log.rename(tmp_path / "log.1")
        os.kill(pid, signal.SIGHUP)
        await_true(log.exists)
    finally:
        os.kill(pid, signal.SIGTERM)
    await_true(lambda: not pid_file.exists())
    assert log.read_text() == ""


def test_server_whose_log_file_cannot_be_opened_again_goes_on(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    (folder := tmp_path / "logs").mkdir()
    address = ("127.0.0.1", reserve_port())
    server = start("-l", str(folder / "log"), "-p", str(address[1]))
    await_true(lambda: (folder / "log").exists() and "listens on" in (folder / "log").read_text())
    peer, waiting = connect(address), connect(address)
    _, handle = waiting.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    folder.rename(tmp_path / "moved")
    server.process.send_signal(signal.SIGHUP)
    assert peer.command("pause f") == b"OK\r\n", "which is logged"
    await_true(lambda: "pause f" in server.log)
    folder.mkdir()
    assert peer.command("resume f") == b"OK\r\n"
    await_true(lambda: "resume f" in (folder / "log").read_text())
    peer.say(Packet.CAN_DO, b"f")
    assert peer.ask(Packet.GRAB_JOB)[1] == handle


@pytest.mark.parametrize(
    "content",
    ['listen = "127.0.0.1"\nport = 0\njob_retries = 3\n', "--listen=127.0.0.1 --port 0\n-j 3\n"],
    ids=["TOML", "options"],
)
def test_options_come_from_a_file_and_the_command_line_wins(
    connect: Connect, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "gearmand.conf"
    file.write_text(content)
    with GearmandProcess(["--config-file", str(file), "-v"], tmp_path) as server:
        assert connect(server.listening()).ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    refused = gearmand("--config-file", str(file), "-b", "0")
    assert refused.stderr.startswith("gearmand: --backlog: 0 is not")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prt = 4730", "unrecognized arguments: --prt=4730; did you mean --port?"),
        ("port = ", "Invalid value (at end of document)"),
        ("--prt 4730", "unrecognized arguments: --prt 4730; did you mean --port?"),
    ],
)
def test_mistake_in_the_file_names_it(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "gearmand.conf"
    file.write_text(content)
    done = gearmand("--config-file", str(file))
    assert done.returncode == 1
    assert done.stderr.startswith(f"gearmand: {file}: {message}")


def test_file_that_is_not_there_is_named() -> None:
    done = gearmand("--config-file", "/nowhere/gearmand.conf")
    assert done.stderr.startswith("gearmand: --config-file: /nowhere/gearmand.conf: No such file")


def test_failure_of_a_part_of_the_server_ends_it(tmp_path: Path) -> None:
    program = """
import sys
from gearman_py.server import memory
async def watch(*arguments):
    raise ZeroDivisionError("a mistake of ours")
memory.watch_memory = watch
from gearman_py.cli.gearmand import main
sys.exit(main())
"""
    server = GearmandProcess(["-L", "127.0.0.1", "-p", "0"], tmp_path, program=("-c", program))
    assert server.process.wait(LIMIT) == 1
    assert "a mistake of ours" in server.log


def test_log_is_json_for_machines(start: Callable[..., GearmandProcess], tmp_path: Path) -> None:
    file = tmp_path / "log"
    server = start("--log-format", "json", "--log-file", str(file))
    await_true(lambda: file.exists() and "listens on" in file.read_text())
    server.end()
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert entries[0]["level"] == "info"
    assert entries[0]["logger"] == "gearmand"
    assert re.fullmatch(r"gearmand \S+ listens on 127\.0\.0\.1 port \d+", entries[0]["message"])
    assert datetime.fromisoformat(entries[0]["time"]).tzinfo is not None
