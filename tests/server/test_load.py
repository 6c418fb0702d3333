"""Much of everything: sleepers, queued jobs, large payloads, peers that dawdle."""

import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gearman_py.broker.limits import MAX_UNUSED_FUNCTIONS
from gearman_py.protocol.codec import MAX_PACKET, request, response
from gearman_py.protocol.packets import Packet
from tests.bench.load import Client, Worker, run
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.tally import tally
from tests.waiting import await_true

pytestmark = pytest.mark.slow

Connect = Callable[..., Peer]
Start = Callable[..., GearmandProcess]
MIB = 2**20
SLEEPERS = 10_000
FLOODS = int(os.environ.get("FLOODS", "1"))
NOOP = response(Packet.NOOP)
ASLEEP = request(Packet.CAN_DO, b"f") + request(Packet.PRE_SLEEP) + request(Packet.ECHO_REQ, b"")
AWAKE = response(Packet.ECHO_RES, b"")


@pytest.fixture
def files() -> Iterator[int]:
    """So many files may be open here and in the servers started here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 30_000)
    if most < SLEEPERS + 1000:
        pytest.skip(f"only {most} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def sleepers(files: int) -> Iterator[Callable[[Address], list[socket.socket]]]:
    """Makes connections of workers that sleep, and says when they all do."""
    made: list[socket.socket] = []

    def fall_asleep(address: Address) -> list[socket.socket]:
        for _ in range(SLEEPERS):
            worker = socket.create_connection(address, 10)
            made.append(worker)
            worker.sendall(ASLEEP)
        for worker in made:
            assert worker.recv(100) == AWAKE
        return made

    yield fall_asleep
    for worker in made:
        worker.close()


@pytest.mark.parametrize(("wakeup", "woken"), [("1", 1), ("0", SLEEPERS)])
def test_ten_thousand_sleepers_are_woken_as_asked_and_the_client_is_answered_first(
    start: Start,
    connect: Connect,
    files: int,
    sleepers: Callable[[Address], list[socket.socket]],
    wakeup: str,
    woken: int,
) -> None:
    server = start("-f", str(files), "-w", wakeup)
    address = server.listening()
    before = server.resident()
    workers = sleepers(address)
    assert (server.resident() - before) / SLEEPERS < 8 * 1024
    client = connect(address)
    begun = time.perf_counter()
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED"
    print(f"{SLEEPERS} sleepers, {woken} to wake: {(time.perf_counter() - begun) * 1e3:.1f} ms")
    client.ask(Packet.ECHO_REQ, b"")  # behind which every NOOP has left
    poll = select.poll()
    for worker in workers:
        poll.register(worker, select.POLLIN)
    assert len(poll.poll(1000)) == woken


def test_two_hundred_thousand_jobs_take_little_memory_and_give_it_back(
    start: Start, connect: Connect
) -> None:
    server = start()
    address = server.listening()
    jobs = 200_000
    before = server.resident()
    submit = Packet.SUBMIT_JOB_BG
    four = [
        Client(address, jobs=jobs // 4, window=32, payload=b"x" * 64, packet=submit)
        for _ in range(4)
    ]
    run(four, [])
    # What a few connections and a warm heap take is not the jobs'.
    taken = server.resident() - before
    assert taken < jobs * 450 + 10 * MIB
    peer = connect(address)
    begun = time.perf_counter()
    assert peer.command("status") == b"bench\t%d\t0\t0\n.\n" % jobs
    print(f"status with {jobs} jobs: {(time.perf_counter() - begun) * 1e3:.1f} ms")
    eight = [Worker(address, result=b"") for _ in range(8)]
    run([], eight, drain=jobs)
    await_true(lambda: peer.command("status") == b"bench\t0\t0\t8\n.\n")
    # Python keeps an arena (1 MiB) for any one object of a live connection that lies in it.
    await_true(lambda: server.resident() - before < 0.35 * taken)
    for one in (*four, *eight):
        one.socket.close()


def test_a_flood_ends_at_the_limit_of_memory_and_is_taken_again_when_there_is_room(
    start: Start, connect: Connect
) -> None:
    server = start("--max-memory", "100M")
    peer = connect(server.listening())
    workload = bytes(20_000)
    refused = 0
    for _ in range(50):  # 200 MB, were it taken
        for _ in range(200):
            peer.say(Packet.SUBMIT_JOB_BG, b"f", b"", workload)
        refused += sum(peer.hear()[0] == "ERROR" for _ in range(200))
    assert refused > 10_000 - 140 * MIB // len(workload)
    assert server.resident() < 140 * MIB
    assert peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"") == (
        *("ERROR", b"QUEUE_ERROR"),
        b"The job server has no memory left for new jobs",
    )
    no_room = b"The job server has no memory left for new functions"
    assert peer.ask(Packet.CAN_DO, b"g") == ("ERROR", b"QUEUE_ERROR", no_room)
    assert no_room.replace(b" ", b"+") in peer.command("maxqueue g 1")
    assert server.log.count("refusing new jobs") == 1
    worker = connect(server.listening())  # it is served all the same, and makes room
    worker.say(Packet.CAN_DO, b"f")
    while (assigned := worker.ask(Packet.GRAB_JOB))[0] == "JOB_ASSIGN":
        worker.say(Packet.WORK_COMPLETE, assigned[1], b"")
    await_true(lambda: peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED")
    assert "accepting new jobs again" in server.log
    tally("memory", jobs_sent=10_000, refused=refused)


def test_twenty_payloads_of_the_largest_size_at_once_and_no_larger_one(
    start: Start, connect: Connect
) -> None:
    server = start()
    address = server.listening()
    before = server.resident()
    count, payload = 20, bytes(MAX_PACKET - 100)
    clients = [connect(address) for _ in range(count)]
    for client in clients:
        client.say(Packet.SUBMIT_JOB, b"f", b"", payload)
        assert client.hear()[0] == "JOB_CREATED"
    worker = connect(address)
    worker.say(Packet.CAN_DO, b"f")
    for _ in clients:
        _, handle, _, workload = worker.ask(Packet.GRAB_JOB)
        assert len(workload) == len(payload)
        worker.say(Packet.WORK_COMPLETE, handle, b"done")
    for client in clients:
        assert client.hear()[2] == b"done"
    assert server.memory() - before < 3 * count * len(payload)
    header = request(Packet.SUBMIT_JOB)[:8] + (MAX_PACKET + 1).to_bytes(4, "big")
    clients[0].socket.sendall(header)
    assert clients[0].hear()[:2] == ("ERROR", b"ARGUMENT_TOO_LARGE")
    assert clients[0].closed()


def test_two_thousand_peers_that_dawdle_slow_nobody(
    start: Start, connect: Connect, files: int
) -> None:
    server = start("-f", str(files))
    address = server.listening()
    before = server.resident()
    dawdlers = [socket.create_connection(address, 10) for _ in range(2000)]
    for number, dawdler in enumerate(dawdlers):
        dawdler.sendall(b"\0REQ\0\0\0\x07"[: 1 + number % 8])
    bystander = connect(address)
    for _ in range(100):
        assert bystander.ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
    each = (server.resident() - before) // len(dawdlers)
    assert each < 8 * 1024
    for dawdler in dawdlers:
        dawdler.close()
    await_true(lambda: len(bystander.command("workers").splitlines()) == 2)
    tally("dawdlers", peers=2000, echoes_answered=100, bytes_each=each)


def flood(peer: Peer, packets: list[bytes]) -> None:
    """Send them as fast as they are answered."""
    for first in range(0, len(packets), 10_000):
        part = packets[first : first + 10_000]
        peer.socket.sendall(b"".join(part) + request(Packet.ECHO_REQ, b""))
        while peer.hear()[0] != "ECHO_RES":
            pass


def measure_wait(bystander: Peer, peer: Peer, packets: list[bytes]) -> int:
    """The longest that the bystander waited for an answer during the flood, in milliseconds."""
    flooding = threading.Thread(target=flood, args=(peer, packets))
    flooding.start()
    longest = 0.0
    while flooding.is_alive():
        begun = time.perf_counter()
        assert bystander.ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
        longest = max(longest, time.perf_counter() - begun)
        time.sleep(0.001)
    flooding.join()
    return round(longest * 1000)


def test_functions_of_workers_that_left_are_forgotten_with_their_memory(
    start: Start, connect: Connect
) -> None:
    server = start("--max-memory", "200M")
    address = server.listening()
    bystander = connect(address)
    before = server.resident()
    longest = 0
    for each in range(FLOODS):
        peer = connect(address)
        packets = [request(Packet.CAN_DO, b"%d-%d" % (each, name)) for name in range(62_000)]
        longest = max(longest, measure_wait(bystander, peer, packets))
        peer.socket.close()
        await_true(lambda: bystander.command("status").count(b"\n") <= MAX_UNUSED_FUNCTIONS + 1)
    await_true(lambda: server.resident() < before + 50 * MIB)  # 62,000 took 190
    assert bystander.ask(Packet.SUBMIT_JOB_BG, b"f", b"", bytes(1000))[0] == "JOB_CREATED"
    kept = bystander.command("status").count(b"\n") - 2  # that of the job, and the end
    named = FLOODS * 62_000
    tally("many functions", named=named, kept=kept, ms_that_others_waited_at_most=longest)


@pytest.mark.parametrize(
    ("name", "packets"),
    [
        ("status", [request(Packet.GET_STATUS_UNIQUE, b"u")] * 18_000),
        ("sleep", [request(Packet.PRE_SLEEP)] * 20_000),
        ("grab", [request(Packet.GRAB_JOB)] * 20_000),
    ],
)
def test_requests_beside_many_functions_keep_others_waiting_no_longer(
    start: Start, connect: Connect, name: str, packets: list[bytes]
) -> None:
    address = start().listening()
    bystander, worker = connect(address), connect(address)
    flood(worker, [request(Packet.CAN_DO, b"%d" % number) for number in range(10_000)])
    assert bystander.command("status").count(b"\n") == 10_001
    longest = measure_wait(bystander, worker, packets)
    counts = {"requests": len(packets), f"ms_that_others_waited_beside_{name}": longest}
    tally("costly requests", **counts)
