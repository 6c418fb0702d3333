"""Where the server listens: TCP, Unix sockets, operators' sockets, sockets that systemd holds."""

import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gearman_py import Client
from gearman_py.admin.client import AdminClient
from gearman_py.errors import AdminError
from gearman_py.protocol.packets import Packet
from gearman_py.server.listening import StartError, open_sockets
from gearman_py.server.settings import Settings
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.waiting import LIMIT, await_true

Connect = Callable[..., Peer]
Start = Callable[..., GearmandProcess]

CHANGES = ["create function f", "maxqueue f 1", "cancel job H:x:1", "drop function f"]


AS_SYSTEMD = """
import os, sys
for number, passed in enumerate(sys.argv[1:3], 3):
    os.dup2(int(passed), number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "jobs:admin"}
words = [sys.executable, "-m", "gearman_py.cli.gearmand", "-p", "1", *sys.argv[3:]]
os.execv(words[0], words)
"""


def listening(server: GearmandProcess) -> GearmandProcess:
    await_true(lambda: "listens on" in server.log or server.process.poll() is not None)
    assert "listens on" in server.log, server.log
    return server


def test_jobs_go_through_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "gearmand.sock"
    server = listening(start("-L", f"unix:{path}"))
    with Client(f"unix:{path}") as client, AdminClient(f"unix:{path}") as admin:
        client.do_background("f", b"x")
        assert [(row.name, row.total) for row in admin.status()] == [("f", 1)]
        assert {worker.address for worker in admin.workers()} == {"unix"}
    assert server.end() == 0
    assert not path.exists(), "it leaves no socket file"


def test_operators_socket_is_its_owner_s_and_group_s_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    listening(start("--admin-listen", f"unix:{path}"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes someone else")
def test_socket_files_go_to_the_user_it_becomes(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = listening(start("--admin-listen", f"unix:{path}", "-u", "nobody"))
    assert path.owner() == "nobody"
    assert server.end() == 0, "though it may not remove the file any more"
    listening(start("--admin-listen", f"unix:{path}"))


def test_only_operators_change_queues_when_asked_for(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = start("--admin-listen", f"unix:{path}", "--admin-only")
    with (
        AdminClient("{}:{}".format(*server.listening())) as anybody,
        AdminClient(f"unix:{path}") as operator,
    ):
        for command in CHANGES:
            with pytest.raises(AdminError, match="PERMISSION Only on the admin socket"):
                anybody.value(command)
        assert anybody.status() == [], "what was refused had no effect"
        assert operator.value("create function f") == ""
        assert [row.name for row in anybody.status()] == ["f"]


def test_who_changes_something_is_in_the_log_whatever_its_level(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    server = start("--admin-listen", f"unix:{path}", "--verbose", "ERROR")

    def is_served() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(path)) == 0

    await_true(is_served)
    with AdminClient(f"unix:{path}") as operator:
        operator.pause("a function")
        operator.limit("f", running=3)
        with pytest.raises(AdminError, match="UNKNOWN_FUNCTION"):
            operator.purge("g\n")
        operator.status()
        operator.shutdown()
    assert server.process.wait(LIMIT) == 0
    who = rf"unix \(connection \d+, process {os.getpid()}, user {os.geteuid()}\): "
    found = re.findall(rf"{who}(.*)", server.log)
    assert found == ["pause a%20function", "limit f running=3", "shutdown"]


def test_anybody_changes_queues_by_default(start: Start) -> None:
    with AdminClient("{}:{}".format(*start().listening())) as anybody:
        anybody.create_function("f")
        anybody.drop_function("f")


@pytest.mark.parametrize("admin_only", [True, False])
def test_shutdown_is_known_to_operators_alone(
    start: Start, tmp_path: Path, admin_only: bool
) -> None:
    path = tmp_path / "admin.sock"
    server = start("--admin-listen", f"unix:{path}", *["--admin-only"] * admin_only)
    with AdminClient("{}:{}".format(*server.listening())) as anybody:
        with pytest.raises(AdminError, match="only through its admin socket"):
            anybody.shutdown()
        with AdminClient(f"unix:{path}") as operator:
            operator.shutdown()
    assert server.process.wait(30) == 0


def test_graceful_shutdown_waits_for_jobs_and_operators_can_watch(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    server = start("--admin-listen", f"unix:{path}")
    worker = connect(server.listening())
    _, handle = worker.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")
    worker.say(Packet.CAN_DO, b"f")
    with AdminClient(f"unix:{path}") as operator:
        operator.shutdown(graceful=True)
    await_true(lambda: "draining" in server.log)
    with AdminClient(f"unix:{path}") as operator:
        assert operator.status()[0].total == 1
    assert worker.ask(Packet.GRAB_JOB)[1] == handle
    worker.say(Packet.WORK_COMPLETE, handle, b"")
    assert server.process.wait(30) == 0


@pytest.mark.slow
def test_socket_file_of_a_dead_server_is_replaced_and_of_a_live_one_is_not(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "gearmand.sock"
    listening(start("-L", f"unix:{path}")).process.kill()
    listening(start("-L", f"unix:{path}"))
    second = start("-L", f"unix:{path}", "--bind-timeout", "0")
    assert second.process.wait(30) == 1
    assert second.log == f"gearmand: cannot listen on unix:{path}: another server listens there\n"
    with Client(f"unix:{path}") as client:
        client.do_background("f")


def test_file_that_is_no_socket_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    server = start("-L", f"unix:{path}")
    assert server.process.wait(30) == 1
    assert "the file exists and is not a socket" in server.log
    assert path.read_text() == "data"


def test_sockets_that_systemd_holds_are_used_and_outlive_the_server(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with (
        socket.create_server(("127.0.0.1", 0)) as jobs,
        socket.socket(socket.AF_UNIX) as operators,
    ):
        operators.bind(str(path))
        operators.listen()
        first, second = (os.dup(one.fileno()) for one in (jobs, operators))
        command = [sys.executable, "-c", AS_SYSTEMD, str(first), str(second)]
        # Who waits for a server that cannot start goes on to another.
        waiting = Peer(jobs.getsockname())
        cannot = ("-q", "sqlite", "--queue-file", f"{tmp_path}/no-folder/queue.db")
        failing = subprocess.run([*command, *cannot], pass_fds=(first, second), check=False)
        assert failing.returncode == 1
        assert waiting.closed()
        waiting.socket.close()
        process = subprocess.Popen(command, pass_fds=(first, second))
        # Connected before it serves, as clients are that come while it restarts.
        peer = Peer(jobs.getsockname())
        assert peer.ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
        with AdminClient(f"unix:{path}") as operator:
            operator.shutdown()
        assert process.wait(30) == 0
        assert path.exists(), "it is systemd's"
        peer.socket.close()
        socket.create_connection(jobs.getsockname(), 10).close()
        for number in (first, second):
            os.close(number)


def test_connections_over_the_limit_are_turned_away_but_not_operators(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    server = start("--max-connections", "2", "--admin-listen", f"unix:{path}")
    address = server.listening()
    first, second = connect(address), connect(address)
    for peer in (first, second):
        assert peer.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    assert connect(address).closed()
    assert connect(address).closed()
    with AdminClient(f"unix:{path}") as operator:
        assert len(operator.workers()) == 3
    assert server.log.count("refusing new ones (--max-connections)") == 1, "said once in a while"
    first.socket.close()

    def room() -> bool:
        peer = connect(address)
        peer.say(Packet.ECHO_REQ, b"")
        return peer.socket.recv(12) != b""

    await_true(room)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--admin-only"], "--admin-only also needs --admin-listen unix:PATH"),
        (["--admin-listen", "127.0.0.1"], "--admin-listen: '127.0.0.1' is not unix:PATH"),
        (["--max-connections", "-1"], "--max-connections: -1 is less than 0"),
        (["--ssl", "--ssl-ca-file", "/nowhere"], "/nowhere: No such file or directory"),
        (["--libsqlite3-db=x"], "--queue-file: only with --queue-type sqlite"),
        (["--redis-port", "1"], "--redis-port: only with --queue-type redis"),
        (["--accept-loss"], "--accept-loss: only with --queue-type postgres or redis"),
        (["-q", "sqlite"], "--queue-type sqlite: --queue-file FILE is missing"),
        (
            ["-d", "-q", "sqlite", "--queue-file", "/nowhere/at/all"],
            "/nowhere/at/all: the folder /nowhere/at does not exist",
        ),
        (
            ["-q", "mysql"],
            "unknown queue type 'mysql'; expected builtin, sqlite, postgres or redis",
        ),
        (["-L", "unix:/nowhere/at/all"], "cannot listen on unix:/nowhere/at/all: No such file"),
    ],
)
def test_what_cannot_be_is_said(start: Start, arguments: list[str], message: str) -> None:
    server = start(*arguments)
    assert server.process.wait(30) == 1
    assert server.log.startswith(f"gearmand: {message}")


def test_http_needs_an_address(tmp_path: Path) -> None:
    server = GearmandProcess(["-L", f"unix:{tmp_path}/g.sock", "-r", "http"], tmp_path)
    assert server.process.wait(30) == 1
    assert server.log.startswith("gearmand: --protocol: HTTP is not spoken on Unix sockets")


def test_a_server_that_bound_before_another_listened_waits_for_it_to_end() -> None:
    settings = Settings(listen=("127.0.0.1",), port=0, bind_timeout=LIMIT)
    (ours,) = open_sockets(settings)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(ours.socket.getsockname())
        other.listen()
        waiting = threading.Thread(target=ours.listen, args=(settings,))
        waiting.start()
        with pytest.raises(StartError, match="Address already in use"):
            ours.listen(replace(settings, bind_timeout=0.0))
        assert waiting.is_alive()
    waiting.join(LIMIT)
    with socket.create_connection(ours.socket.getsockname(), LIMIT):
        ours.close()
