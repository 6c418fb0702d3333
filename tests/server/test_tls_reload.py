"""A reload with TLS connections: the old process stays as their relay, and no peer hears of it."""

import contextlib
import http.client
import itertools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from gearman_py import Client, Worker
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from gearman_py.testing import running
from tests.authority import Authority, words
from tests.job_servers import Address
from tests.peer import Peer
from tests.ports import reserve_port
from tests.server.reloaded import LARGE, Server, converse_over_reload, run_reload
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

Connect = Callable[[], Peer]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def serve_tls(
    serve: Callable[..., Server], authority: Authority
) -> Iterator[Callable[..., tuple[Server, Connect]]]:
    """Starts a server, and makes TLS connections to it."""
    files = words(authority.issue("server"))
    context = authority.issue("client").client_context()
    with contextlib.ExitStack() as opened:

        def secure(address: Address) -> Peer:
            peer = Peer(address)
            peer.socket = context.wrap_socket(peer.socket, server_hostname=address[0])
            return peer

        def begin(*options: str) -> tuple[Server, Connect]:
            server = serve(*files, *options, connect=secure)

            def connect() -> Peer:
                peer = secure(server.address)
                opened.callback(peer.socket.close)
                return peer

            return server, connect

        yield begin


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_peers_in_all_states_go_on(serve_tls: Callable[..., tuple[Server, Connect]]) -> None:
    """And the old process stays until the last of them has left."""
    server, connect = serve_tls()
    old = server.pid
    *others, idle = converse_over_reload(server, connect)
    new = connect()
    for peer in (new, idle):
        assert peer.ask(Packet.ECHO_REQ, bytes(LARGE)) == ("ECHO_RES", bytes(LARGE))
    for peer in others:
        peer.socket.close()
    assert idle.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
    assert not has_ended(old)
    idle.socket.close()
    await_true(lambda: has_ended(old))
    assert new.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
    assert "Traceback" not in server.process.log


def test_a_relay_keeps_nothing_else(serve_tls: Callable[..., tuple[Server, Connect]]) -> None:
    """Neither the port nor connections of others, nor what is submitted to the new process."""
    server, connect = serve_tls()
    peer = connect()
    old = server.pid
    server.reload()
    sockets = [each for each in Path(f"/proc/{old}/fd").iterdir() if is_socket(each)]
    # The peer's, its pair, and one of the event loop for signals.
    assert len(sockets) <= 4
    assert Path(f"/proc/{old}/comm").read_text() == "gearman-relay\n"
    os.kill(server.pid, signal.SIGKILL)
    assert peer.closed()
    await_true(lambda: has_ended(old))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address, LIMIT)


def is_socket(descriptor: Path) -> bool:
    return os.readlink(descriptor).startswith("socket:")


def test_clients_and_workers_under_load_hear_nothing_of_it(
    serve_tls: Callable[..., tuple[Server, Connect]], authority: Authority
) -> None:
    server, connect = serve_tls()
    tls = authority.issue("library")
    ended = threading.Event()

    def ask() -> int:
        jobs = 0
        with Client("{}:{}".format(*server.address), tls=tls) as client:
            while not ended.is_set():
                inputs = [b"%d" % number for number in range(jobs, jobs + 20)]
                assert list(client.map("reverse", inputs)) == [each[::-1] for each in inputs]
                jobs += len(inputs)
        return jobs

    worker = Worker("{}:{}".format(*server.address), tls=tls, concurrency=2)
    worker.add_function("reverse", lambda job: job.workload[::-1])
    with running(worker), ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for _ in range(4):
                server.reload()
        finally:
            ended.set()
        assert all(each.result(LIMIT) for each in asking)
    assert b"failed=0\trequeued=0" in connect().command("stats")


def test_what_comes_for_its_peers_while_a_relay_begins_is_passed_on(
    serve_tls: Callable[..., tuple[Server, Connect]], tmp_path: Path
) -> None:
    """A worker without TLS tells all the time how the jobs of clients with TLS go on."""
    server, connect = serve_tls("-L", f"unix:{tmp_path}/jobs")
    clients = [connect() for _ in range(30)]
    handles = [each.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")[1] for each in clients]
    worker = Peer(tmp_path / "jobs")
    worker.say(Packet.CAN_DO, b"f")
    for handle in handles:
        assert worker.ask(Packet.GRAB_JOB)[1] == handle
    ended = threading.Event()

    def tell() -> int:
        for number in itertools.count():
            if ended.wait(0.002):
                return number
            worker.socket.sendall(
                b"".join(request(Packet.WORK_DATA, each, b"%d" % number) for each in handles)
            )
        return 0

    with worker.socket, ThreadPoolExecutor(1) as pool:
        telling = pool.submit(tell)
        try:
            for _ in range(2):
                server.reload()
        finally:
            ended.set()
        count = telling.result(LIMIT)
        for client, handle in zip(clients, handles, strict=True):
            heard = [client.hear() for _ in range(count)]
            assert heard == [("WORK_DATA", handle, b"%d" % each) for each in range(count)]
    assert "Traceback" not in server.process.log


def test_http_requests_are_answered(
    serve_tls: Callable[..., tuple[Server, Connect]], authority: Authority
) -> None:
    port = reserve_port()
    metrics = reserve_port()
    server, connect = serve_tls(
        *("-r", "http", "--http-port", str(port), "--metrics-listen", f"127.0.0.1:{metrics}")
    )
    worker = connect()
    client = authority.issue("http").client_context()

    def ask(to: int, path: str, body: str | None = None) -> http.client.HTTPSConnection:
        asked = http.client.HTTPSConnection("127.0.0.1", to, timeout=LIMIT, context=client)
        asked.request("POST" if body else "GET", path, body)
        return asked

    with contextlib.closing(ask(port, "/f", "abcd")) as asked:
        await_true(lambda: b"f\t1\t" in worker.command("status"))
        server.reload()
        worker.say(Packet.CAN_DO, b"f")
        worker.say(Packet.WORK_COMPLETE, worker.ask(Packet.GRAB_JOB)[1], b"done")
        assert asked.getresponse().read() == b"done"
        with contextlib.closing(ask(metrics, "/metrics")) as scraper:
            assert b"gearman_relayed_connections 2\n" in scraper.getresponse().read()


def test_several_reloads_and_a_stop(serve_tls: Callable[..., tuple[Server, Connect]]) -> None:
    """Each process relays the connections that it accepted, whoever serves them."""
    server, connect = serve_tls("--drain-timeout", "10")
    client, worker = connect(), connect()
    worker.say(Packet.CAN_DO, b"f")
    _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")
    assert worker.ask(Packet.GRAB_JOB)[1] == handle
    processes = []
    peers = []
    for _ in range(3):
        processes.append(server.pid)
        server.reload()
        peers.append(connect())
        assert peers[-1].ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
    # As systemd stops a unit: each process is told.
    for process in (*processes, server.pid):
        os.kill(process, signal.SIGTERM)
    worker.say(Packet.WORK_COMPLETE, handle, b"r")
    assert client.hear() == ("WORK_COMPLETE", handle, b"r")
    for peer in (client, worker, *peers):
        assert peer.closed()
        peer.socket.close()
    for process in (*processes, server.pid):
        await_true(partial(has_ended, process))
    assert "Traceback" not in server.process.log


def test_who_leaves_and_who_is_reset_are_seen(
    serve_tls: Callable[..., tuple[Server, Connect]],
) -> None:
    server, connect = serve_tls()
    running, other, dying = connect(), connect(), connect()
    for worker in (running, dying):
        worker.say(Packet.CAN_DO, b"f")
    handles = {other.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")[1] for _ in range(2)}
    assert {each.ask(Packet.GRAB_JOB)[1] for each in (running, dying)} == handles
    server.reload()
    running.socket.close()
    dying.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    dying.socket.close()
    await_true(lambda: other.command("status").startswith(b"f\t2\t0\t0\n"))


def test_handshakes_under_way_end_first(
    serve_tls: Callable[..., tuple[Server, Connect]], authority: Authority
) -> None:
    """A peer that is slow with its handshake is not waited for; one that is not is served."""
    server, _ = serve_tls()
    context = authority.issue("another").client_context()
    silent = socket.create_connection(server.address, LIMIT)
    ended = threading.Event()

    def connect_again() -> int:
        count = 0
        while not ended.is_set():
            with (
                socket.create_connection(server.address, LIMIT) as plain,
                context.wrap_socket(plain, server_hostname=server.address[0]) as secret,
            ):
                secret.sendall(b"version\r\n")
                assert secret.recv(100).startswith(b"OK ")
            count += 1
        return count

    with silent, ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(connect_again) for _ in range(3)]
        try:
            for _ in range(5):
                server.reload()
        finally:
            ended.set()
        assert all(each.result(LIMIT) for each in asking)
        assert silent.recv(1) == b""


def test_a_program_that_fails_changes_nothing(
    serve_tls: Callable[..., tuple[Server, Connect]],
) -> None:
    server, connect = serve_tls()
    peer = connect()
    refused = run_reload(server.pid, "-L", "127.0.0.1", "-p", "1")
    assert refused.returncode == 1
    assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
    assert connect().ask(Packet.ECHO_REQ, b"new") == ("ECHO_RES", b"new")
    assert server.serving_process() == server.pid


def test_relayed_connections_are_closed_between_jobs(
    serve_tls: Callable[..., tuple[Server, Connect]],
) -> None:
    """Once their time is over: idle ones at once, others with the end of what they wait for."""
    server, connect = serve_tls("--tls-relay-time", "0")
    client, worker, asleep, idle, grabbing = [connect() for _ in range(5)]
    worker.say(Packet.CAN_DO, b"f")
    handles = [client.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")[1] for _ in range(2)]
    assert worker.ask(Packet.GRAB_JOB)[1] == handles[0]
    asleep.say(Packet.CAN_DO, b"g")
    asleep.say(Packet.PRE_SLEEP)
    grabbing.say(Packet.CAN_DO, b"g")
    assert grabbing.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    old = server.pid
    server.reload()
    assert all(each.closed() for each in (asleep, idle, grabbing))
    # The next job would wait for a worker that is not there any more.
    worker.socket.sendall(
        request(Packet.WORK_COMPLETE, handles[0], b"r") + request(Packet.GRAB_JOB)
    )
    assert client.hear() == ("WORK_COMPLETE", handles[0], b"r")
    assert worker.closed()
    worker = connect()
    worker.say(Packet.CAN_DO, b"f")
    assert worker.ask(Packet.GRAB_JOB)[1] == handles[1]
    worker.say(Packet.WORK_COMPLETE, handles[1], b"r")
    assert client.hear() == ("WORK_COMPLETE", handles[1], b"r")
    assert client.closed()
    for peer in (client, asleep, idle, grabbing):
        peer.socket.close()
    await_true(lambda: has_ended(old))
