"""Job servers that log in to a database: by TLS, with a user and a password of their own."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gearman_py.protocol.packets import Packet
from tests.authority import Authority
from tests.job_servers import OUR_GEARMAND, GearmandProcess
from tests.peer import Peer
from tests.server import databases
from tests.server.guarded_databases import PASSWORD, Postgres, Redis
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
Options = Callable[[Path, Path], list[str]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with databases.open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "ca")


@pytest.fixture(scope="module", params=[Postgres, Redis])
def login(request: pytest.FixtureRequest, folder: Path, authority: Authority) -> Iterator[Options]:
    database = request.param(folder, authority)
    with databases.running(database):
        yield database.login


@pytest.fixture
def password(tmp_path: Path) -> Path:
    return write_password(tmp_path, PASSWORD)


def write_password(folder: Path, text: str) -> Path:
    path = folder / "password"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


def test_jobs_are_kept_in_a_database_that_takes_tls_and_a_password(
    start: Start, login: Options, authority: Authority, password: Path
) -> None:
    server = start(*login(password, authority.file))
    peer = Peer(server.listening())
    assert peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[0] == "JOB_CREATED"
    peer.socket.close()
    shown = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert PASSWORD.encode() not in shown
    assert server.end() == 0
    worker = Peer(start(*login(password, authority.file)).listening())
    worker.say(Packet.CAN_DO, b"f")
    await_true(lambda: worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN")
    worker.socket.close()


def test_wrong_password_is_refused_and_not_shown(
    start: Start, login: Options, authority: Authority, tmp_path: Path
) -> None:
    server = start(*login(write_password(tmp_path, "guess"), authority.file))
    assert server.process.wait(LIMIT) == 1
    assert "password" in server.log
    assert "guess" not in server.log
    assert "Traceback" not in server.log


def test_database_can_be_checked_without_a_server(
    login: Options, authority: Authority, password: Path, tmp_path: Path
) -> None:
    def check(words: list[str]) -> tuple[int, str, str]:
        command = [*OUR_GEARMAND, "--check-queue", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT)
        return done.returncode, done.stdout, done.stderr

    for _ in range(2):  # it leaves nothing behind
        status, said, problem = check(login(password, authority.file))
        assert (status, problem) == (0, "")
        login_line, durable, room, end = said.splitlines()
        assert login_line.startswith(("ok    PostgreSQL 1", "ok    Redis "))
        assert login_line.endswith(", TLS")
        assert "synchronous_commit on" in durable or "appendfsync always" in durable
        assert room.startswith("ok    ")
        assert end == "ok    jobs can be stored and read"
    status, _, problem = check(login(write_password(tmp_path, "guess"), authority.file))
    assert status == 1
    assert "password" in problem and "guess" not in problem and "Traceback" not in problem


def test_database_with_a_certificate_of_another_ca_is_refused(
    start: Start, login: Options, tmp_path: Path, password: Path
) -> None:
    server = start(*login(password, Authority(tmp_path, "other").file))
    assert server.process.wait(LIMIT) == 1
    assert "certificate verify failed" in server.log
    assert "Traceback" not in server.log


def test_unreadable_ca_and_password_are_named(
    start: Start, login: Options, authority: Authority, password: Path
) -> None:
    missing = password.with_name("missing")
    for words in (login(missing, authority.file), login(password, missing)):
        server = start(*words)
        assert server.process.wait(LIMIT) == 1
        assert str(missing) in server.log
        assert "Traceback" not in server.log


def test_password_that_others_can_read_is_refused(
    start: Start, login: Options, authority: Authority, password: Path
) -> None:
    password.chmod(0o644)
    server = start(*login(password, authority.file))
    assert server.process.wait(LIMIT) == 1
    assert f"{password}: all users can read the password" in server.log


def test_reload_that_cannot_read_the_password_goes_on_with_the_one_that_is_known(
    start: Start, login: Options, authority: Authority, password: Path
) -> None:
    server = start(*login(password, authority.file))
    peer = Peer(server.listening())
    password.unlink()  # as systemd shows credentials to no process that reloads a unit
    words = [*OUR_GEARMAND, "--reload", str(server.process.pid)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2 * LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    process = int(peer.command("getpid").split()[1])
    try:
        assert process != server.process.pid
        assert peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[0] == "JOB_CREATED"
    finally:
        os.kill(process, signal.SIGKILL)
        peer.socket.close()
