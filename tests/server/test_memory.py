"""Memory that became free goes back to the system, by whatever it was used."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.waiting import await_true

Connect = Callable[..., Peer]
MIB = 2**20


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def queue_and_drain(server: GearmandProcess, connect: Connect, sockets: ExitStack) -> None:
    """1,500 jobs of 100 KB that another connection's small ones are strewn between."""
    address = server.listening()
    client, other, worker = connect(address), connect(address), connect(address)
    for _ in range(1500):
        client.say(Packet.SUBMIT_JOB_BG, b"f", b"", bytes(100_000))
        assert client.hear()[0] == "JOB_CREATED"
        other.ask(Packet.SUBMIT_JOB_BG, b"kept", b"", bytes(600))
    worker.say(Packet.CAN_DO, b"f")
    while (answer := worker.ask(Packet.GRAB_JOB))[0] == "JOB_ASSIGN":
        worker.say(Packet.WORK_COMPLETE, answer[1], b"")


def half_messages(server: GearmandProcess, connect: Connect, sockets: ExitStack) -> None:
    """50 peers with the larger part of a message, which leave."""
    address, before = server.listening(), server.resident()
    begun = request(Packet.SUBMIT_JOB_BG, b"f", b"", bytes(3 * MIB))[:-1]
    peers = [sockets.enter_context(socket.create_connection(address, 10)) for _ in range(50)]
    for peer in peers:
        peer.sendall(begun)
    await_true(lambda: server.resident() - before > 100 * MIB)
    for peer in peers:
        peer.close()


def unread_answers(server: GearmandProcess, connect: Connect, sockets: ExitStack) -> None:
    """30 clients that are owed 5 MiB, and leave."""
    address = server.listening()
    worker = connect(address)
    worker.socket.settimeout(60)
    worker.say(Packet.CAN_DO, b"f")
    peers = [connect(address) for _ in range(30)]
    for peer in peers:
        _, handle = peer.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
        assert worker.ask(Packet.GRAB_JOB)[1] == handle
        for _ in range(10):
            worker.say(Packet.WORK_DATA, handle, bytes(MIB // 2))
    worker.ask(Packet.ECHO_REQ, b"")
    for peer in peers:
        peer.socket.close()


def queue_at_once(server: GearmandProcess, connect: Connect, sockets: ExitStack) -> None:
    """800 background jobs of 200 KB that are on their way at once, and drained."""
    client, worker = connect(server.listening()), connect(server.listening())
    client.socket.settimeout(60)
    for _ in range(20):
        for _ in range(40):
            client.say(Packet.SUBMIT_JOB_BG, b"f", b"", bytes(200_000))
        for _ in range(40):
            assert client.hear()[0] == "JOB_CREATED"
    worker.say(Packet.CAN_DO, b"f")
    while (answer := worker.ask(Packet.GRAB_JOB))[0] == "JOB_ASSIGN":
        worker.say(Packet.WORK_COMPLETE, answer[1], b"")


@pytest.mark.slow
def test_memory_of_a_durable_queue_comes_back_within_seconds(
    start: Callable[..., GearmandProcess], connect: Connect, sockets: ExitStack, tmp_path: Path
) -> None:
    server = start("-q", "sqlite", "--queue-file", str(tmp_path / "queue"))
    server.listening()
    before = server.resident()
    queue_at_once(server, connect, sockets)
    assert server.memory() - before > 100 * MIB, "that it was used at all"
    await_true(lambda: server.resident() - before < 15 * MIB)


@pytest.mark.slow
@pytest.mark.parametrize("use", [queue_and_drain, half_messages, unread_answers])
def test_memory_comes_back_within_seconds(
    start: Callable[..., GearmandProcess],
    connect: Connect,
    sockets: ExitStack,
    use: Callable[[GearmandProcess, Connect, ExitStack], None],
) -> None:
    server = start()
    server.listening()
    before = server.resident()
    use(server, connect, sockets)
    assert server.memory() - before > 50 * MIB, "that it was used at all"
    await_true(lambda: server.resident() - before < 15 * MIB)
