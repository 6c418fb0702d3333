"""Clients, workers and commands by TLS: they work, refuse, and are refused with a reason."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gearman_py import (
    TLS,
    AdminClient,
    AsyncAdminClient,
    AsyncClient,
    Client,
    ConnectionLost,
    GearmanError,
    ServerUnavailable,
    TLSError,
    Worker,
    testing,
)
from gearman_py.compat import GearmanClient
from gearman_py.net.tls import CA_FILE, CERTIFICATE, KEY
from gearman_py.testing import running
from tests.authority import DAY, Authority, words
from tests.job_servers import GearmandProcess
from tests.waiting import LIMIT, await_true

MEGABYTES = bytes(range(256)) * 4096 * 10


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ca")


@pytest.fixture(scope="module")
def tls(authority: Authority) -> TLS:
    return authority.issue("client")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., GearmandProcess]]:
    with ExitStack() as started:

        def begin(*arguments: str, port: int = 0) -> GearmandProcess:
            words = ["-L", "127.0.0.1", "-p", str(port), "-v", *arguments]
            return started.enter_context(GearmandProcess(words, tmp_path))

        yield begin


@pytest.fixture
def address(serve: Callable[..., GearmandProcess], authority: Authority) -> str:
    host, port = serve(*words(authority.issue("server"))).listening()
    return f"{host}:{port}"


def echo(job: object) -> bytes:
    return job.workload  # type: ignore[attr-defined,no-any-return]  # a job of either kind


async def echo_async(job: object) -> bytes:
    return echo(job)


def test_a_server_for_tests_accepts_only_tls(authority: Authority, tls: TLS) -> None:
    with testing.server(authority.issue("server")) as jobs:
        assert jobs.address.startswith("gearmans://127.0.0.1:")
        worker = Worker(jobs.address, tls=tls)
        worker.add_function("echo", echo)
        with running(worker), Client(jobs.address, tls=tls, timeout=30) as client:
            jobs.wait_for("echo", workers=1)
            assert client.do("echo", MEGABYTES) == MEGABYTES
        with pytest.raises(GearmanError), Client(f"127.0.0.1:{jobs.port}", timeout=30) as client:
            client.do("echo", b"")


@pytest.mark.slow
@pytest.mark.parametrize("function", [echo, echo_async])
def test_jobs_of_any_size_are_done(
    address: str, tls: TLS, function: Callable[[object], object]
) -> None:
    worker = Worker(address, tls=tls)
    worker.add_function("echo", function)
    with running(worker), Client(address, tls=tls, timeout=LIMIT) as client:
        assert client.do("echo", MEGABYTES) == MEGABYTES
        assert list(client.map("echo", map(str, range(2000)))) == [b"%d" % n for n in range(2000)]

        async def ask() -> bytes:
            async with AsyncClient(address, tls=tls, timeout=LIMIT) as client:
                return await client.do("echo", MEGABYTES)

        assert asyncio.run(ask()) == MEGABYTES


def test_operators_are_answered(address: str, tls: TLS) -> None:
    with AdminClient(address, tls=tls) as admin:
        assert admin.status() == []

    async def ask() -> str:
        async with AsyncAdminClient(address, tls=tls) as admin:
            return await admin.version()

    assert asyncio.run(ask())


@pytest.mark.slow
def test_a_worker_that_leaves_has_said_all(address: str, tls: TLS) -> None:
    """What it wrote last is not cut off by its going."""
    with Client(address, tls=tls, timeout=LIMIT) as client:
        jobs = [client.submit("once", MEGABYTES) for _ in range(3)]
        for job in jobs:
            worker = Worker(address, tls=tls, max_jobs=1)
            worker.add_function("once", echo)
            worker.work(limit=1)
            assert job.result() == MEGABYTES


PATIENCE = 20.0  # seconds for a handshake


def ping(address: str, tls: TLS | None) -> None:
    with Client(address, tls=tls, connect_timeout=PATIENCE, submit_timeout=3) as client:
        client.submit("f", b"x", background=True)


def ping_async(address: str, tls: TLS | None) -> None:
    async def ask() -> None:
        async with AsyncClient(
            address, tls=tls, connect_timeout=PATIENCE, submit_timeout=3
        ) as client:
            await client.submit("f", b"x", background=True)

    asyncio.run(ask())


def ping_admin(address: str, tls: TLS | None) -> None:
    with AdminClient(address, tls=tls, connect_timeout=PATIENCE, timeout=3) as admin:
        admin.version()


def ping_admin_async(address: str, tls: TLS | None) -> None:
    async def ask() -> None:
        async with AsyncAdminClient(address, tls=tls, connect_timeout=PATIENCE, timeout=3) as admin:
            await admin.version()

    asyncio.run(ask())


EVERY_DOOR = pytest.mark.parametrize("door", [ping, ping_async, ping_admin, ping_admin_async])
Door = Callable[[str, TLS | None], None]


@EVERY_DOOR
def test_who_is_refused_hears_why(
    door: Door, address: str, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "other").issue("client")
    late = authority.issue("late", until=-DAY)
    stranger = TLS(str(authority.file), foreign.certificate, foreign.key)
    why = "is our certificate from its CA|Connection reset|Broken pipe"
    for tls in (TLS(str(authority.file)), late, stranger):
        with pytest.raises((ConnectionLost, ServerUnavailable), match=why):
            door(address, tls)
    door(address, authority.issue("client"))


@EVERY_DOOR
def test_a_server_that_is_not_the_one_meant_is_refused(
    door: Door,
    serve: Callable[..., GearmandProcess],
    authority: Authority,
    tmp_path: Path,
    tls: TLS,
) -> None:
    host, port = serve(*words(authority.issue("elsewhere", address="127.0.0.9"))).listening()
    for files, why in (
        (tls, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (Authority(tmp_path, "other").issue("client"), "self-signed certificate|unable to get"),
    ):
        with pytest.raises(ServerUnavailable, match=f"its certificate was refused: .*({why})"):
            door(f"{host}:{port}", files)


@EVERY_DOOR
def test_a_server_without_tls_is_told_as_such(
    door: Door, serve: Callable[..., GearmandProcess], tls: TLS
) -> None:
    host, port = serve().listening()
    with pytest.raises(ServerUnavailable, match="it does not speak TLS on this port"):
        door(f"{host}:{port}", tls)


@pytest.mark.slow
@EVERY_DOOR
def test_a_server_that_says_nothing_is_given_up(
    door: Door, tls: TLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "PATIENCE", 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ServerUnavailable, match="no answer within 1 s"),
    ):
        door(f"127.0.0.1:{silent.getsockname()[1]}", tls)


@EVERY_DOOR
def test_plain_peers_of_a_server_with_tls_fail_soon(door: Door, address: str) -> None:
    with pytest.raises(GearmanError):
        door(address, None)


def await_line(server: GearmandProcess, pattern: str) -> None:
    await_true(lambda: re.search(pattern, server.log) is not None)


def test_the_server_s_log_says_who_was_refused_and_why(
    serve: Callable[..., GearmandProcess], authority: Authority, tls: TLS, tmp_path: Path
) -> None:
    server = serve(*words(authority.issue("server")))
    host, port = server.listening()
    foreign = Authority(tmp_path, "another").issue("client")
    for mine, why in (
        (None, "it does not speak TLS on this port"),
        (TLS(tls.ca_file), "it does not present a certificate"),
        (
            authority.issue("old", until=-DAY),
            "its certificate was refused: certificate has expired",
        ),
        (
            TLS(tls.ca_file, foreign.certificate, foreign.key),
            "its certificate was refused: (self-signed certificate|unable to get)",
        ),
        (TLS(foreign.ca_file, tls.certificate, tls.key), "it refused us: unknown ca"),
    ):
        with pytest.raises(GearmanError):
            ping(f"{host}:{port}", mine)
        await_line(server, f"WARNING TLS handshake with 127.0.0.1 failed: {why}")
    told = server.log.count("not let in")
    for _ in range(5):
        with pytest.raises(GearmanError):
            ping(f"{host}:{port}", TLS(tls.ca_file))
    with socket.create_connection((host, port)):
        pass  # a monitor that only looks whether the port answers
    ping(f"{host}:{port}", tls)
    assert server.log.count("not let in") == told
    assert server.end() == 0


def test_files_that_are_no_use_are_told_at_once(tls: TLS, tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    for wrong in (TLS(nothing), TLS(tls.ca_file, nothing, tls.key), TLS(tls.key)):
        for make in (Client, AsyncClient, Worker, AdminClient, AsyncAdminClient):
            with pytest.raises(TLSError, match=str(tmp_path) if nothing in str(wrong) else "PEM"):
                make("127.0.0.1", tls=wrong)


def test_renewed_certificates_are_used_by_the_next_connection(
    serve: Callable[..., GearmandProcess], authority: Authority
) -> None:
    server = serve(*words(authority.issue("server")))
    host, port = server.listening()
    short = authority.issue("short", until=-DAY)
    with Client(f"{host}:{port}", tls=short, submit_timeout=5) as client:
        with pytest.raises(GearmanError, match=r"expired|reset|pipe|is our certificate"):
            client.submit("f", background=True)
        authority.issue("short")
        assert client.submit("f", background=True).handle


@pytest.mark.slow
def test_workers_come_back_when_their_server_does(
    serve: Callable[..., GearmandProcess], authority: Authority, tls: TLS
) -> None:
    server = serve(*words(authority.issue("server")))
    host, port = server.listening()
    worker = Worker(f"{host}:{port}", tls=tls)
    worker.add_function("echo", echo)
    with running(worker):
        server.end()
        serve(*words(authority.issue("server")), port=port).listening()
        with Client(f"{host}:{port}", tls=tls, timeout=LIMIT) as client:
            assert client.do("echo", b"again") == b"again"


def test_python_gearman_s_way_to_name_a_server_works(address: str, tls: TLS) -> None:
    host, _, port = address.partition(":")
    files = {"ca_certs": tls.ca_file, "certfile": tls.certificate, "keyfile": tls.key}
    client = GearmanClient([{"host": host, "port": int(port), **files}])
    job = client.submit_job("f", b"x", background=True)
    assert job.state == "CREATED"
    client.shutdown()


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"gearman_py.cli.{name}", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
def test_commands_speak_it_by_flags_and_by_environment(address: str, tls: TLS) -> None:
    files = words(tls)
    submitted = run("gearman", "-h", address, *files, "-b", "-f", "reverse", "abc")
    assert (submitted.stderr, submitted.returncode) == ("", 0)
    names = (CA_FILE[0], CERTIFICATE[0], KEY[0])
    paths = (tls.ca_file, tls.certificate, tls.key)
    said = dict(zip(names, paths, strict=True))
    listed = run("gearadmin", "--status", GEARMAN_SERVERS=f"gearmans://{address}", **said)
    assert listed.stdout == "reverse\t1\t0\t0\n.\n"
    worked = run("worker", "--burst", "-S", "--host", address, "reverse", **said)
    assert worked.returncode == 0, worked.stderr
    assert (
        run("gearadmin", "-S", "-h", address, "--status", **said).stdout == "reverse\t0\t0\t0\n.\n"
    )


@pytest.mark.slow
def test_commands_say_what_is_wrong(address: str, tls: TLS) -> None:
    missing = run("gearman", "-S", "--ssl-ca-file", "/nowhere", "-h", address, "-f", "x", "y")
    assert missing.returncode == 2
    assert "gearman: error: /nowhere: No such file or directory" in missing.stderr
    plain = run("gearman", "-h", address, "-f", "x", "y")
    assert plain.returncode == 3
    refused = run("gearadmin", "--ssl-ca-file", tls.ca_file, "-h", address, "--status")
    assert refused.returncode in (2, 3)


@pytest.mark.slow
def test_threads_of_connections_that_are_closed_end(address: str, tls: TLS) -> None:
    import threading

    def carrying() -> int:
        return sum(thread.name == "gearman-tls" for thread in threading.enumerate())

    before = carrying()
    for _ in range(20):
        ping(address, tls)
    await_true(lambda: carrying() <= before)
