"""Faults that peers, networks and clocks have, done to a real server: none of them loses a job."""

import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gearman_py import AsyncClient, Client, ConnectionLost, Retry, Worker
from gearman_py.net import keepalive
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from gearman_py.testing import running
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.tally import tally
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
DEATHS = int(os.environ.get("DEATHS", "20"))
CUTS = int(os.environ.get("CUTS_OF_LINES", "30"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "5000"))
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
HOUR = 3600

# A worker that takes a job and does nothing with it.
HOLDER = """
import sys, time
from tests.peer import Peer
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
peer = Peer((sys.argv[1], int(sys.argv[2])))
peer.say(Packet.CAN_DO, b"f")
while peer.ask(Packet.GRAB_JOB)[0] != "JOB_ASSIGN":
    time.sleep(0.01)
print("mine", flush=True)
time.sleep(1000)
"""


@contextlib.contextmanager
def holder(address: Address, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a job in hand."""
    command = [*before, sys.executable, "-c", HOLDER, address[0], str(address[1])]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout
        assert process.stdout.readline() == b"mine\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_worker_killed_in_mid_job_gives_it_to_another_at_once(
    start: Start, connect: Connect
) -> None:
    address = start().listening()
    client, other = connect(address), connect(address)
    other.say(Packet.CAN_DO, b"f")
    slowest = 0.0
    for _ in range(DEATHS):
        _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
        with holder(address) as worker:
            other.say(Packet.PRE_SLEEP)
            worker.send_signal(signal.SIGKILL)
            begun = time.monotonic()
            assert other.hear() == ("NOOP",)
            slowest = max(slowest, time.monotonic() - begun)
        assert other.ask(Packet.GRAB_JOB)[1] == handle
        other.say(Packet.WORK_COMPLETE, handle, b"done")
        assert client.hear() == ("WORK_COMPLETE", handle, b"done")
    assert client.command("status") == b"f\t0\t0\t1\n.\n"
    milliseconds = int(slowest * 1000)
    tally("worker", deaths=DEATHS, answered=DEATHS, lost=0, ms_until_given_away=milliseconds)


@pytest.fixture
def far() -> Iterator[str]:
    """The name of another network namespace on a cable to this one: 198.18.30.2, here is .1."""
    if os.geteuid():
        pytest.skip("only root can lay a cable")
    name = f"far{os.getpid() % 10000}"
    inside = ("ip", "netns", "exec", name, "ip")
    steps = (
        ("ip", "netns", "add", name),
        ("ip", "link", "add", f"{name}a", "type", "veth", "peer", f"{name}b", "netns", name),
        ("ip", "addr", "add", "198.18.30.1/30", "dev", f"{name}a"),
        ("ip", "link", "set", f"{name}a", "up"),
        (*inside, "addr", "add", "198.18.30.2/30", "dev", f"{name}b"),
        (*inside, "link", "set", f"{name}b", "up"),
        (*inside, "link", "set", "lo", "up"),
    )
    try:
        for step in steps:
            subprocess.run(step, check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], check=True)  # the kernel takes its time
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_a_worker_behind_a_dead_link_loses_its_job_to_another(
    start: Start, connect: Connect, far: str
) -> None:
    alive = ("--keepalive-idle", "1", "--keepalive-interval", "1", "--keepalive-count", "2")
    server = start("-L", "198.18.30.1", *alive)
    address = server.listening()
    await_true(lambda: "198.18.30.1" in server.log)
    port = int(server.log.partition("198.18.30.1 port ")[2].split()[0].strip(","))
    client, other = connect(address), connect(address)
    other.say(Packet.CAN_DO, b"f")
    _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    exec_ = ("ip", "netns", "exec", far)
    with holder(("198.18.30.1", port), *exec_):
        other.say(Packet.PRE_SLEEP)
        # From here on what is sent vanishes, and nobody is told.
        subprocess.run([*exec_, "ip", "addr", "flush", "dev", f"{far}b"], check=True)
        begun = time.monotonic()
        assert other.hear() == ("NOOP",)
        assert other.ask(Packet.GRAB_JOB)[1] == handle
        seconds = time.monotonic() - begun
    other.say(Packet.WORK_COMPLETE, handle, b"done")
    assert client.hear() == ("WORK_COMPLETE", handle, b"done")
    # By default 60, 10 and 3: 90 seconds.
    tally("silence", links=1, lost=0, seconds_until_noticed_of_3_allowed=int(seconds))


STALLS = """
import socket, sys
from gearman_py.protocol.codec import request
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
peer.settimeout(2)
try:
    peer.sendall(request(16, bytes(2**20)) * 64)
except TimeoutError:
    pass
print("stalled", flush=True)
sys.stdin.read()
"""


def test_a_reader_that_is_behind_and_vanishes_is_noticed(start: Start, far: str) -> None:
    alive = ("--keepalive-idle", "1", "--keepalive-interval", "1", "--keepalive-count", "1")
    server = start("-L", "198.18.30.1", *alive)
    await_true(lambda: "198.18.30.1 port " in server.log)
    port = server.log.partition("198.18.30.1 port ")[2].split()[0].strip(",")
    exec_ = ("ip", "netns", "exec", far)
    with subprocess.Popen(
        [*exec_, sys.executable, "-c", STALLS, "198.18.30.1", port],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == b"stalled\n"
        subprocess.run([*exec_, "ip", "addr", "flush", "dev", f"{far}b"], check=True)
        deadline = time.monotonic() + 60  # it is looked at every five seconds
        while "no longer answers (keepalive): closed" not in server.log:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        reader.kill()


def test_clients_and_workers_behind_a_dead_link_notice_and_come_back(
    start: Start, far: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keepalive.watch, "__defaults__", (1, 1, 2))
    exec_ = ("ip", "netns", "exec", far)
    server = start("-L", "198.18.30.2", before=exec_)
    server.listening()
    await_true(lambda: "198.18.30.2" in server.log)
    address = "198.18.30.2:" + server.log.partition("198.18.30.2 port ")[2].split()[0].strip(",")

    async def wait() -> float:
        async with AsyncClient(address) as client:
            job = await client.submit("nobody's")
            submitted.set()
            with pytest.raises(ConnectionLost):
                await job.result(timeout=LIMIT)
            return time.monotonic()

    submitted = threading.Event()
    worker = Worker(address)
    worker.add_function("echo", lambda job: job.workload)
    with running(worker), Client(address) as client, ThreadPoolExecutor() as pool:
        job = client.submit("nobody's")
        waiting = pool.submit(asyncio.run, wait())
        assert submitted.wait(LIMIT)
        # From here on what is sent vanishes, and nobody is told.
        subprocess.run([*exec_, "ip", "addr", "flush", "dev", f"{far}b"], check=True)
        begun = time.monotonic()
        with pytest.raises(ConnectionLost):
            job.result(timeout=LIMIT)
        seconds = max(time.monotonic(), waiting.result(LIMIT)) - begun
        await_true(lambda: "trying again" in caplog.text)  # the worker
        back = [*exec_, "ip", "addr", "add", "198.18.30.2/30", "dev", f"{far}b"]
        subprocess.run(back, check=True)
        assert client.do("echo", b"again", timeout=LIMIT) == b"again"
    # By default 90 seconds, as for the server.
    tally("server gone silent", waiting=2, hung=0, seconds_until_noticed_of_3_allowed=int(seconds))


class Proxy:
    """Passes bytes on to a server, until it cuts all its connections, with no goodbye."""

    def __init__(self, to: Address) -> None:
        self._to = to
        self._door = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self.address = f"127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                pair = near, socket.create_connection(self._to, LIMIT)
                with self._lock:
                    self._pairs.append(pair)
                for source, target in (pair, pair[::-1]):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self, dice: random.Random) -> int:
        """Reset about half of the connections; how many."""
        with self._lock:
            chosen = [pair for pair in self._pairs if dice.random() < 0.5]
            self._pairs = [pair for pair in self._pairs if pair not in chosen]
        for pair in chosen:
            for one in pair:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        return len(chosen)

    def close(self) -> None:
        self._door.close()
        with self._lock:
            for pair in self._pairs:
                for one in pair:
                    one.close()


def test_connections_cut_at_random_lose_nothing_and_hang_nobody(start: Start) -> None:
    server = start()
    proxy = Proxy(server.listening())
    dice = random.Random(CUTS)  # noqa: S311 - repeatable on purpose
    ran: set[bytes] = set()
    acknowledged: set[bytes] = set()
    answers: list[bytes] = []
    over = threading.Event()

    def do(workload: bytes) -> bytes:
        ran.add(workload)
        return workload[::-1]

    def foreground(number: int) -> None:
        with Client(proxy.address, timeout=LIMIT, on_lost="resubmit", retry=patient) as client:
            for job in range(10**9):
                if over.is_set():
                    return
                workload = b"%d-%d" % (number, job)
                answers.append(client.do("f", workload)[::-1])
                assert answers[-1] == workload

    def background() -> None:
        with Client(proxy.address, retry=patient) as client:
            for job in range(10**9):
                if over.is_set():
                    return
                workload = b"bg-%d" % job
                with contextlib.suppress(OSError):  # it is not acknowledged
                    client.submit("f", workload, background=True)
                    acknowledged.add(workload)

    patient = Retry(attempts=100)
    workers = [Worker(proxy.address) for _ in range(2)]
    problems: list[BaseException] = []

    def watched(target: Callable[..., None], *arguments: object) -> threading.Thread:
        def run() -> None:
            try:
                target(*arguments)
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with contextlib.ExitStack() as serving:
        for worker in workers:
            worker.add_function("f", do, workload=True)
            serving.enter_context(running(worker))
        threads = [watched(foreground, number) for number in range(3)] + [watched(background)]
        cut = 0
        while cut < CUTS and not problems:
            time.sleep(dice.uniform(0.05, 0.3))  # how long they work undisturbed
            cut += proxy.cut(dice)
        over.set()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "someone hangs"
        assert problems == []
        await_true(lambda: acknowledged <= ran)
    proxy.close()
    counts = {"answered": len(answers), "acknowledged": len(acknowledged)}
    tally("cut", connections_cut=cut, **counts, lost=0, hung=0)


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Sets the time of day of servers started with ``faked``, by so many seconds."""
    if not FAKETIME.exists():
        pytest.skip("needs Debian's faketime")
    file = tmp_path / "clock"

    def put(seconds: int) -> None:
        fresh = tmp_path / "clock.new"
        fresh.write_text(f"{seconds:+d}\n")
        fresh.rename(file)

    put(0)
    yield put


def faked(folder: Path) -> dict[str, str]:
    """The environment of a server whose clock can be set."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.timeout(60)
def test_a_clock_that_is_set_moves_epoch_jobs_and_no_time_limit(
    start: Start, connect: Connect, tmp_path: Path, clock: Callable[[int], None]
) -> None:
    address = start(**faked(tmp_path)).listening()
    client, slow, worker = connect(address), connect(address), connect(address)
    slow.say(Packet.CAN_DO_TIMEOUT, b"limited", b"4000")
    worker.say(Packet.CAN_DO, b"later")
    worker.say(Packet.PRE_SLEEP)
    due = b"%d" % (time.time() + HOUR / 2)
    _, later = client.ask(Packet.SUBMIT_JOB_EPOCH, b"later", b"", due, b"")
    _, limited = client.ask(Packet.SUBMIT_JOB, b"limited", b"", b"")
    begun = time.monotonic()
    assert slow.ask(Packet.GRAB_JOB)[1] == limited
    clock(HOUR)
    worker.socket.settimeout(30)  # while epoch jobs wait it is looked at every 10 s
    assert worker.hear() == ("NOOP",)
    assert worker.ask(Packet.GRAB_JOB)[1] == later
    if time.monotonic() - begun < 3:
        slow.say(Packet.WORK_STATUS, limited, b"1", b"2")
        assert client.hear() == ("WORK_STATUS", limited, b"1", b"2"), "its time is not over"

    clock(-HOUR)
    other = connect(address)
    other.say(Packet.CAN_DO, b"limited")
    await_true(lambda: other.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN")
    assert 3.5 < time.monotonic() - begun < 30
    other.say(Packet.WORK_COMPLETE, limited, b"done")
    while client.hear() != ("WORK_COMPLETE", limited, b"done"):
        pass
    future = b"%d" % (time.time() + 5)  # an hour and a bit, by the server's clock
    assert client.ask(Packet.SUBMIT_JOB_EPOCH, b"later", b"", future, b"")[0] == "JOB_CREATED"
    assert worker.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    clock(10)
    await_true(lambda: worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN")
    tally("clock", times_set=3, epoch_jobs_at_the_wrong_time=0, limits_at_the_wrong_time=0)


def test_more_connections_than_allowed_are_turned_away(start: Start, connect: Connect) -> None:
    allowed = CONNECTIONS // 5
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < allowed + 500:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed + 500, hard))
    server = start("-f", str(allowed + 500), "--max-connections", str(allowed))
    address = server.listening()
    bystander = connect(address)
    before = server.resident()
    held: list[socket.socket] = []
    turned = 0
    echo = request(Packet.ECHO_REQ, b"")
    try:
        for number in range(CONNECTIONS):
            one = socket.create_connection(address, LIMIT)
            held.append(one)
            one.settimeout(LIMIT)
            try:  # an answer shows that the server has it, and not only the kernel
                one.sendall(echo)
                away = one.recv(len(echo), socket.MSG_WAITALL) == b""
            except ConnectionError:
                away = True
            if away:
                turned += 1
                held.pop().close()
            if number % 500 == 0:
                assert bystander.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
        assert len(held) == allowed - 1
        each = (server.resident() - before) // max(1, len(held))
        assert each < 16 * 1024
        assert server.log.count("refusing new ones (--max-connections)") < CONNECTIONS // 100
    finally:
        for one in held:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def room() -> bool:
        peer = connect(address)
        peer.say(Packet.ECHO_REQ, b"")
        try:
            return peer.socket.recv(12) != b""
        except ConnectionResetError:
            return False

    await_true(room)
    served = len(held) + 1
    tally("connections", tried=CONNECTIONS, served=served, turned_away=turned, bytes_each=each)
