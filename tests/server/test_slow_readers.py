"""A reader that is slow, but alive, gets all that it is owed; nobody else pays for it."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from gearman_py.server.pressure import Pressure
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.tally import tally
from tests.waiting import await_true

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
MIB = 2**20
RESULT = bytes(MIB)
# A server that closes who reads nothing after 3 s, and not after half a minute.
IMPATIENT = """
import sys
from gearman_py.cli.gearmand import main
from gearman_py.server import memory
memory.STANDSTILL = 3
sys.exit(main())
"""


@pytest.fixture
def work() -> Iterator[Callable[[Address, bytes], None]]:
    """Starts workers that answer each job of a function with a MiB."""
    peers: list[Peer] = []

    def serve(address: Address, name: bytes) -> None:
        peer = Peer(address)
        peer.socket.settimeout(None)
        peers.append(peer)
        peer.say(Packet.CAN_DO, name)
        try:
            while True:
                answer = peer.ask(Packet.GRAB_JOB)
                while answer[0] != "JOB_ASSIGN":
                    answer = peer.ask(Packet.PRE_SLEEP)
                    answer = peer.ask(Packet.GRAB_JOB)
                peer.say(Packet.WORK_COMPLETE, answer[1], RESULT)
        except (OSError, AssertionError):
            pass

    threads: list[threading.Thread] = []

    def begin(address: Address, name: bytes) -> None:
        threads.append(threading.Thread(target=serve, args=(address, name)))
        threads[-1].start()

    yield begin
    for peer in peers:
        peer.socket.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for peer in peers:
        peer.socket.close()


def submit(address: Address, jobs: int, name: bytes = b"f") -> socket.socket:
    """A client that has asked for so many results and reads none of them yet."""
    client = socket.create_connection(address, 60)
    client.sendall(b"".join(request(Packet.SUBMIT_JOB, name, b"", b"") for _ in range(jobs)))
    return client


def test_a_reader_that_falls_behind_gets_all_and_its_results_do_not_pile_up(
    start: Start, connect: Connect, work: Callable[[Address, bytes], None]
) -> None:
    server = start()
    address = server.listening()
    before = server.resident()
    for _ in range(4):
        work(address, b"f")
    client = submit(address, 150)
    decoder, found = Decoder(RESPONSE), 0
    while found < 150:
        data = client.recv(MIB, socket.MSG_WAITALL if found < 140 else 0)
        assert data, server.log
        found += sum(number == Packet.WORK_COMPLETE for number, _ in decoder.feed(data))
        time.sleep(0.02)  # far slower than four workers
    assert server.memory() - before < 75 * MIB, "all of it is 150 MiB"
    client.close()


def test_a_reader_that_has_just_fallen_behind_again_is_not_judged_yet() -> None:
    """The timer that looks at readers runs since it was behind before."""
    now = 0.0
    timers: list[Callable[[], None]] = []

    def call_later(_: float, look: Callable[[], None]) -> Mock:
        timers.append(look)
        return Mock()

    loop = Mock(time=lambda: now, call_later=call_later)
    pressure = Pressure(loop, Queues())
    broker = Broker()
    client, peer = broker.join(1, ""), broker.join(2, "")
    reader, worker = Mock(peer=client, unread_bytes=lambda: 20 * MIB), Mock(peer=peer)
    submission = (Packet.SUBMIT_JOB, [b"f", b"", b""])
    broker.receive(client, [submission], now)
    broker.receive(peer, [(Packet.CAN_DO, [b"f"]), (Packet.GRAB_JOB, [])], now)
    result = [(Packet.WORK_COMPLETE, [next(iter(peer.running)), RESULT])]

    pressure.note_unread(reader)
    now = 0.5
    pressure.caught_up(client)
    now = 0.99
    pressure.note_unread(reader)
    now = 1.0
    timers.pop()()
    assert pressure.must_wait(worker, result), "it had 10 ms to read"
    now = 2.0
    timers.pop()()
    assert not pressure.must_wait(worker, result), "it reads nothing"


def test_a_reader_that_stands_still_longer_than_keepalive_waits_gets_all_and_holds_up_nobody(
    start: Start, connect: Connect, work: Callable[[Address, bytes], None]
) -> None:
    server = start(
        *("--keepalive-idle", "1", "--keepalive-interval", "1", "--keepalive-count", "1")
    )
    address = server.listening()
    work(address, b"f")
    before = server.resident()
    client = submit(address, 60)
    await_true(lambda: server.resident() - before > 17 * MIB)  # now its worker waits for it
    began = time.monotonic()
    bystander = connect(address)
    bystander.socket.settimeout(60)
    _, handle = bystander.ask(Packet.SUBMIT_JOB_HIGH, b"f", b"", b"")
    assert bystander.hear()[:2] == ("WORK_COMPLETE", handle)
    waited = int((time.monotonic() - began) * 1000)
    slowest = 0.0
    while time.monotonic() - began < 6:  # three times what a silent peer has
        asked = time.perf_counter()
        assert bystander.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
        slowest = max(slowest, time.perf_counter() - asked)
        time.sleep(0.1)
    decoder, found = Decoder(RESPONSE), 0
    while found < 60:
        data = client.recv(MIB)
        assert data, server.log
        found += sum(number == Packet.WORK_COMPLETE for number, _ in decoder.feed(data))
    client.close()
    tally(
        "slow readers",
        results_owed=60,
        lost=60 - found,
        ms_that_its_worker_kept_a_job_of_others_waiting=waited,
        ms_that_others_waited_at_most=round(slowest * 1000),
    )


def test_many_readers_that_stand_still_share_the_memory_there_is_and_get_all(
    start: Start, connect: Connect, work: Callable[[Address, bytes], None]
) -> None:
    server = start("--max-memory", "200M")
    address = server.listening()
    for _ in range(4):
        work(address, b"f")
    clients = [submit(address, 16) for _ in range(30)]  # 480 MiB in all
    operator = connect(address)
    left = [0]

    def is_quiet() -> bool:
        """Memory is short: no more results have come for a while, though there are jobs."""
        time.sleep(0.2)
        left.append(int(operator.command("status").split(b"\t")[1]))
        return left[-1] < 16 * len(clients) and len(set(left[-5:])) == 1

    await_true(is_quiet)
    assert left[-1] > 0

    def read(client: socket.socket) -> int:
        """How many results it gets."""
        decoder, found = Decoder(RESPONSE), 0
        with client:
            while found < 16 and (data := client.recv(MIB)):
                found += sum(number == Packet.WORK_COMPLETE for number, _ in decoder.feed(data))
        return found

    with ThreadPoolExecutor(len(clients)) as pool:
        assert list(pool.map(read, clients)) == [16] * len(clients), server.log


@pytest.mark.parametrize("size", [MIB // 2, 3 * MIB, 5 * MIB], ids=["small", "kernel", "both"])
def test_what_the_kernel_alone_holds_for_a_reader_that_stands_still_arrives(
    start: Start, connect: Connect, size: int
) -> None:
    server = start(
        *("--keepalive-idle", "1", "--keepalive-interval", "1", "--keepalive-count", "1")
    )
    client, worker = connect(server.listening()), connect(server.listening())
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    worker.say(Packet.CAN_DO, b"f")
    _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    assert worker.ask(Packet.GRAB_JOB)[:2] == ("JOB_ASSIGN", handle)
    worker.say(Packet.WORK_COMPLETE, handle, bytes(size))
    time.sleep(8)  # four times what a silent peer has
    assert client.hear() == ("WORK_COMPLETE", handle, bytes(size))


@pytest.mark.interop
def test_a_dump_into_a_pipe_that_is_not_read_arrives_whole(start: Start, connect: Connect) -> None:
    server = start()
    address = server.listening()
    worker = connect(address)
    worker.say(Packet.CAN_DO, b"dump")
    client = subprocess.Popen(
        ["gearman", "-h", address[0], "-p", str(address[1]), "-f", "dump", "x"],
        stdout=subprocess.PIPE,
    )
    while (answer := worker.ask(Packet.GRAB_JOB))[0] != "JOB_ASSIGN":
        time.sleep(0.01)
    client.send_signal(signal.SIGSTOP)
    for _ in range(20):
        worker.say(Packet.WORK_DATA, answer[1], RESULT)
    worker.say(Packet.WORK_COMPLETE, answer[1], b"")
    worker.socket.settimeout(60)
    assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    client.send_signal(signal.SIGCONT)
    written, _ = client.communicate(timeout=120)
    assert len(written) == 20 * MIB
    assert client.returncode == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--max-unread", "4M"), "MiB unread"), (("--unread-timeout", "1"), "has not read for")],
    ids=["bytes", "seconds"],
)
def test_who_wants_to_cut_readers_off_can(
    start: Start, connect: Connect, option: tuple[str, str], said: str
) -> None:
    server = start(*option)
    client = connect(server.listening())
    worker = connect(server.listening())
    worker.say(Packet.CAN_DO, b"f")
    client.say(Packet.SUBMIT_JOB, b"f", b"", b"")
    while (answer := worker.ask(Packet.GRAB_JOB))[0] != "JOB_ASSIGN":
        time.sleep(0.01)
    for _ in range(12):
        worker.say(Packet.WORK_DATA, answer[1], RESULT)
    await_true(lambda: said in server.log)


def test_the_readers_that_hold_the_most_are_closed_when_memory_is_short(
    start: Start, connect: Connect
) -> None:
    server = start("--max-memory", "150M", program=("-c", IMPATIENT))
    address = server.listening()
    clients = [connect(address) for _ in range(8)]
    worker = connect(address)
    worker.socket.settimeout(60)
    worker.say(Packet.CAN_DO, b"f")
    for client in clients:
        client.say(Packet.SUBMIT_JOB, b"f", b"", b"")
    jobs: list[bytes] = []
    while len(jobs) < len(clients):
        if (answer := worker.ask(Packet.GRAB_JOB))[0] == "JOB_ASSIGN":
            jobs.append(answer[1])
    for number, handle in enumerate(jobs):
        for _ in range(24 if number else 50):
            worker.say(Packet.WORK_DATA, handle, RESULT)
    assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    await_true(lambda: "out of memory" in server.log)
    assert re.search(r"closing \S+ \(.*\),.* holds [45]\d MiB", server.log), server.log
    await_true(lambda: server.resident() < 160 * MIB)
    assert connect(address).ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")


def test_parts_of_messages_leave_memory_for_the_jobs_of_others(
    start: Start, connect: Connect
) -> None:
    port = reserve_port()
    server = start("--max-memory", "200M", "-r", "http", "--http-port", str(port))
    address = server.listening()
    packet = request(Packet.SUBMIT_JOB, b"f", b"", bytes(63 * MIB))[: 60 * MIB]
    head = b"POST /f HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (63 * MIB)
    held = [(connect(address), memoryview(packet)) for _ in range(7)]
    held += [(connect((address[0], port)), memoryview(head + packet)) for _ in range(3)]
    sent = [0] * len(held)
    bystander = connect(address)
    answers: list[str] = []
    slowest = 0.0

    def submit_beside_them() -> bool:
        """A small job, while the others send as much as is taken, until some were closed."""
        nonlocal slowest
        for number, (peer, begun) in enumerate(held):
            peer.socket.setblocking(False)
            with contextlib.suppress(OSError):
                sent[number] += peer.socket.send(begun[sent[number] :])
        asked = time.perf_counter()
        answers.append(bystander.ask(Packet.SUBMIT_JOB_BG, b"small", b"", bytes(1000))[0])
        slowest = max(slowest, time.perf_counter() - asked)
        return server.log.count("out of memory: closing") >= 2

    await_true(submit_beside_them)
    larger = connect(address).ask(Packet.SUBMIT_JOB_BG, b"larger", b"", bytes(4 * MIB))
    assert larger[0] == "JOB_CREATED"
    assert set(answers) == {"JOB_CREATED"}
    assert "refusing new jobs" not in server.log
    assert server.memory() < 220 * MIB, "all of it is 600 MiB"
    jobs = len(answers)
    milliseconds = round(slowest * 1000)
    tally("parts", peers=len(held), jobs_of_others=jobs, refused=0, ms_they_waited=milliseconds)


def test_php_run_tasks_with_a_slow_callback_gets_all(
    start: Start, work: Callable[[Address, bytes], None]
) -> None:
    known = ["php", "-r", "exit((int)!class_exists('GearmanClient'));"]
    if not shutil.which("php") or subprocess.run(known).returncode:
        pytest.skip("php has no GearmanClient")
    address = start().listening()
    for _ in range(2):
        work(address, b"f")
    program = (
        "$c = new GearmanClient(); $c->addServer('%s', %d); $n = 0;"
        "$c->setCompleteCallback(function ($t) use (&$n) {usleep(20000); $n++;});"
        "for ($i = 0; $i < 100; $i++) {$c->addTask('f', (string)$i, null, 'u' . $i);}"
        "$c->runTasks(); echo $n;"
    )
    done = subprocess.run(
        ["php", "-r", program % address], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "100", done
