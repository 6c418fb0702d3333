"""The server as its peers meet it, over real sockets."""

import resource
import socket
import struct
import threading
import time
from collections.abc import Callable
from math import inf

import pytest

from gearman_py import __version__
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.tally import tally
from tests.waiting import await_true

MIB = 2**20
DELAYED_ACK = 0.04  # seconds for which Linux puts off an acknowledgement
Connect = Callable[..., Peer]
Start = Callable[..., GearmandProcess]


def test_job_goes_from_client_to_worker_and_back(connect: Connect) -> None:
    client, worker = connect(), connect()
    worker.say(Packet.CAN_DO, b"reverse")
    worker.say(Packet.PRE_SLEEP)
    created, handle = client.ask(Packet.SUBMIT_JOB, b"reverse", b"", b"abc")
    assert created == "JOB_CREATED"
    assert worker.hear() == ("NOOP",)
    assert worker.ask(Packet.GRAB_JOB) == ("JOB_ASSIGN", handle, b"reverse", b"abc")
    worker.say(Packet.WORK_COMPLETE, handle, b"cba")
    assert client.hear() == ("WORK_COMPLETE", handle, b"cba")


def test_every_one_of_many_lines_is_answered_in_order(connect: Connect) -> None:
    peer = connect()
    number = 20_000
    ask = b"".join(b"maxqueue f %d\r\nx\n" % each for each in range(number))
    sending = threading.Thread(target=peer.socket.sendall, args=(ask + b"version\n",))
    sending.start()
    answer = b""
    while not answer.endswith(f"{__version__}\n".encode()):
        data = peer.socket.recv(2**20)
        assert data
        answer += data
    sending.join()
    lines = answer.splitlines()
    assert len(lines) == 2 * number + 1
    assert lines[:-1] == lines[:2] * number


def test_answers_come_in_the_order_of_the_requests_text_and_binary_mixed(connect: Connect) -> None:
    peer = connect()
    peer.socket.sendall(
        request(Packet.ECHO_REQ, b"1") + b"version\r\n" + request(Packet.ECHO_REQ, b"2")
    )
    version = f"OK {__version__}\n".encode()
    expected = b"\0RES\0\0\0\x11\0\0\0\x011" + version + b"\0RES\0\0\0\x11\0\0\0\x012"
    got = b""
    while len(got) < len(expected):
        got += peer.socket.recv(1000)
    assert got == expected


def test_payload_of_many_reads_arrives_whole(connect: Connect) -> None:
    client, worker = connect(), connect()
    payload = bytes(range(256)) * (8 * MIB // 256)
    worker.say(Packet.CAN_DO, b"f")
    client.ask(Packet.SUBMIT_JOB, b"f", b"", payload)
    _, handle, _, workload = worker.ask(Packet.GRAB_JOB)
    assert workload == payload
    worker.say(Packet.WORK_COMPLETE, handle, payload)
    assert client.hear()[2] == payload


def test_large_packet_out_of_a_small_send_buffer_does_not_crawl(connect: Connect) -> None:
    client = connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**15)  # libgearman's
    started = time.monotonic()
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", bytes(16 * MIB))[0] == "JOB_CREATED"
    assert time.monotonic() - started < 512 * DELAYED_ACK / 2, "32 KiB at a time, each held up"


def test_worker_without_nodelay_is_not_held_up(connect: Connect) -> None:
    client, worker = connect(), connect()
    worker.say(Packet.CAN_DO, b"f")
    fastest = inf
    for _ in range(50):
        started = time.monotonic()
        client.say(Packet.SUBMIT_JOB, b"f", b"", b"")
        assert client.hear()[0] == "JOB_CREATED"
        _, handle, _, _ = worker.ask(Packet.GRAB_JOB)
        worker.say(Packet.WORK_COMPLETE, handle, b"")
        assert worker.ask(Packet.GRAB_JOB) == ("NO_JOB",)
        assert client.hear()[0] == "WORK_COMPLETE"
        fastest = min(fastest, time.monotonic() - started)
    assert fastest < DELAYED_ACK, "a busy machine holds up some of them, delayed ACKs hold up all"


def test_worker_that_vanishes_gives_its_job_back(connect: Connect) -> None:
    client, dying, other = connect(), connect(), connect()
    for worker in (dying, other):
        worker.say(Packet.CAN_DO, b"f")
    _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    assert dying.ask(Packet.GRAB_JOB)[1] == handle
    # Acknowledged, so that the server has put it to sleep before the other one dies.
    other.say(Packet.PRE_SLEEP)
    assert other.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    dying.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    dying.socket.close()
    assert other.hear() == ("NOOP",)
    assert other.ask(Packet.GRAB_JOB)[1] == handle


@pytest.mark.parametrize(
    "bad",
    [
        b"\0REQ\0\0\0\x10\xff\xff\xff\xff",
        b"\0XYZ\0\0\0\x10\0\0\0\0",
        b"\0REQ\x80\0\0\0\0\0\0\0",
        b"\0REQ\0\0\0\x07\0\0\0\x02ab",
        b"x" * 9000,
    ],
)
def test_peer_out_of_step_is_answered_and_closed_and_nobody_else_notices(
    connect: Connect, bad: bytes
) -> None:
    bystander, peer = connect(), connect()
    peer.socket.sendall(bad)
    answer = peer.socket.recv(1000)
    assert answer.startswith((b"\0RES\0\0\0\x13", b"ERR "))
    assert peer.closed()
    assert bystander.ask(Packet.ECHO_REQ, b"here") == ("ECHO_RES", b"here")


def flood(peer: Peer, data: bytes, most: int) -> int:
    """Send without ever reading, until the server takes no more; how much it took."""
    peer.socket.settimeout(1.0)
    sent = 0
    try:
        while sent < most:
            sent += peer.socket.send(data)
    except (TimeoutError, ConnectionError):
        pass
    return sent


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [request(Packet.ECHO_REQ, b"x" * 10_000) * 20, b"workers\r\n" * 5000],
    ids=["echo", "listing"],
)
def test_peer_that_does_not_read_is_not_read_from(
    start: Start, connect: Connect, data: bytes
) -> None:
    server = start()
    address = server.listening()
    before = server.memory()
    peer, bystander = connect(address), connect(address)
    assert flood(peer, data, 400 * MIB) < 100 * MIB
    assert server.memory() - before < 100 * MIB
    assert bystander.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")


def test_newcomers_beyond_the_limit_of_open_files_are_turned_away_and_told_of(
    start: Start, connect: Connect
) -> None:
    server = start("-f", "100")
    address = server.listening()
    peers = [connect(address) for _ in range(150)]
    served = [peer for peer in peers if answers(peer)]
    assert 50 < len(served) < 100
    time.sleep(0.5)  # what the server does by itself, such as watching its memory, goes on
    assert answers(served[0])
    assert server.process.poll() is None, server.log
    assert server.log.count("at the limit of 100 open files") == 1
    for peer in served[:50]:
        peer.socket.close()
    until_answered(connect, address)
    tally("descriptors", connections=150, served=len(served), lines_in_the_log=1)


def answers(peer: Peer) -> bool:
    try:
        return bool(peer.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b""))
    except (OSError, AssertionError):
        return False


def until_answered(connect: Connect, address: Address) -> None:
    await_true(lambda: answers(connect(address)))


def test_two_thousand_idle_workers_cost_little_and_slow_nobody(
    start: Start, connect: Connect
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    server = start("-f", str(min(4096, most)))
    address = server.listening()
    before = server.memory()
    for _ in range(2000):
        worker = connect(address)
        worker.say(Packet.CAN_DO, b"f")
        worker.say(Packet.PRE_SLEEP)
    client = connect(address)
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED"
    assert client.command("status") == b"f\t1\t0\t2000\n.\n"
    assert (server.memory() - before) / 2000 < 8 * 1024
