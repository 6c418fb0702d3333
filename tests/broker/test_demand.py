"""How many workers are wanted, and that this is enough of them."""

import random
from collections import deque

import pytest

from gearman_py.broker import admin_commands
from gearman_py.broker.broker import Broker
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import Packet


class Fleet:
    """A broker, its clock, and workers that are told to come and go."""

    def __init__(self, run_time: float, workers: int = 0) -> None:
        self.now = 1000.0
        self.broker = Broker()
        self.client = self.broker.join(1, "")
        self.run_time = run_time
        self.busy = deque[tuple[float, Peer, bytes]]()
        self.idle: list[Peer] = []
        self.leaving = 0
        self.hire(workers)
        self.note()

    def note(self) -> None:
        queues = self.broker.queues
        queues.demand.set_mark(queues.counts.functions, queues.functions, self.now)

    def hire(self, workers: int) -> None:
        for _ in range(workers):
            worker = self.broker.join(2, "")
            self.say(worker, Packet.CAN_DO, b"f")
            self.idle.append(worker)

    def resize(self, workers: int) -> None:
        """Those that run a job finish it first."""
        self.leaving = max(0, self.leaving + len(self.idle) + len(self.busy) - workers)
        self.hire(workers - len(self.idle) - len(self.busy))

    def say(self, peer: Peer, packet: Packet, *arguments: bytes) -> list[tuple[int, list[bytes]]]:
        self.broker.receive(peer, [(packet, list(arguments))], self.now)
        return Decoder(RESPONSE).feed(b"".join(peer.take())) if peer.owed else []

    def submit(self, jobs: int, customer: str = "") -> None:
        for number in range(jobs):
            unique = f"{customer}:{self.now}-{number}".encode() if customer else b""
            self.say(self.client, Packet.SUBMIT_JOB_BG, b"f", unique, b"")

    def step(self, seconds: float) -> None:
        """Jobs end, others begin, and time passes."""
        while self.busy and self.busy[0][0] <= self.now:
            _, worker, handle = self.busy.popleft()
            self.say(worker, Packet.WORK_COMPLETE, handle, b"")
            self.idle.append(worker)
        while self.leaving and self.idle:
            self.broker.gone(self.idle.pop(), self.now)
            self.leaving -= 1
        while self.idle:
            ((kind, arguments),) = self.say(self.idle[-1], Packet.GRAB_JOB)
            if kind == Packet.NO_JOB:
                break
            self.busy.append((self.now + self.run_time, self.idle.pop(), arguments[0]))
        self.now += seconds
        self.note()

    @property
    def wanted(self) -> int:
        queues = self.broker.queues
        return queues.demand.workers_wanted(queues.functions[b"f"], self.now)

    def ask(self, command: bytes) -> bytes:
        peer = Peer(9, "", lambda _: None)
        admin_commands.answer(self.broker, peer, [command])
        while peer.listing:
            peer.continue_listing()
        return b"".join(peer.take())


def test_as_many_are_wanted_as_are_busy_and_those_that_do_what_waits_in_time() -> None:
    fleet = Fleet(run_time=3.0, workers=20)
    assert fleet.ask(b"create function f") == b"OK\r\n"
    assert fleet.wanted == 0, "without jobs"
    fleet.submit(1)
    assert fleet.wanted == 1, "until it is known how long a run takes"
    for _ in range(120):
        fleet.submit(2)
        fleet.step(1.0)
    assert fleet.wanted == 6, "2 jobs a second, each of 3 seconds"
    fleet.resize(0)
    for _ in range(10):
        fleet.step(1.0)
    fleet.submit(200)
    came = (60 - 10) * 2 + 200  # in the last minute
    assert fleet.wanted == pytest.approx(3 * (came / 60 + 200 / 60), abs=1)
    assert b"\tworkers_wanted=%d" % fleet.wanted in fleet.ask(b"stats")
    fleet.broker.queues.demand.target = 10.0
    assert fleet.wanted == pytest.approx(3 * (came / 60 + 200 / 10), abs=1)


def test_jobs_that_wait_for_their_key_want_no_workers() -> None:
    fleet = Fleet(run_time=3.0, workers=20)
    assert fleet.ask(b"limit f per-key=2") == b"OK\r\n"
    fleet.submit(10_000, "large")
    for second in range(120):
        fleet.submit(2, f"small-{second}")
        fleet.step(1.0)
    assert fleet.wanted == pytest.approx(2 + 2 * 3, abs=1), "2 of the large one, 2 a second of 3 s"
    assert fleet.ask(b"limit f per-key=0") == b"OK\r\n"
    assert fleet.wanted > 400, "all of them wait for a worker"


def test_workers_come_for_the_keys_that_have_room() -> None:
    """Followed every ten seconds, with the jobs of one customer in the way."""
    fleet = Fleet(run_time=3.0, workers=1)
    assert fleet.ask(b"limit f per-key=2") == b"OK\r\n"
    fleet.submit(10_000, "large")
    for second in range(600):
        fleet.submit(4, f"small-{second}-a")
        fleet.submit(2, f"small-{second}-b")
        fleet.step(1.0)
        if second % 10 == 9:
            fleet.resize(fleet.wanted)
    limit = fleet.broker.queues.functions[b"f"].key_limit
    assert limit is not None
    assert fleet.wanted == pytest.approx(2 + 6 * 3, abs=4)
    assert limit.available < 6 * 60, "those with room are younger than the target"


def test_no_workers_are_wanted_that_a_limit_or_a_pause_would_leave_idle() -> None:
    fleet = Fleet(run_time=2.0, workers=1)
    fleet.submit(1000)
    for _ in range(4):
        fleet.step(1.0)
    unlimited = fleet.wanted
    assert unlimited > 30
    for command, most in (
        (b"limit f running=4", 4),
        (b"limit f running=0 rate=3/s", 6),
        (b"pause f", 0),
        (b"resume f", 6),
        (b"server pause", 0),
        (b"server resume", 6),
        (b"limit f rate=0", unlimited),
    ):
        assert fleet.ask(command) == b"OK\r\n"
        assert fleet.wanted == most, command


def test_a_job_for_later_comes_when_it_is_due() -> None:
    fleet = Fleet(run_time=2.0, workers=1)
    fleet.submit(1)
    for _ in range(10):
        fleet.step(10.0)
    for _ in range(600):
        fleet.say(fleet.client, Packet.SUBMIT_JOB_EPOCH, b"f", b"", b"4000000000", b"")
    assert fleet.wanted == 0


@pytest.mark.parametrize("seed", range(5))
def test_so_many_workers_keep_the_oldest_job_younger_than_the_target(seed: int) -> None:
    """Their number follows the estimate every ten seconds; how many jobs come changes."""
    chance = random.Random(seed)  # noqa: S311  the same each time
    fleet = Fleet(run_time=chance.choice([1.0, 2.0, 7.0]), workers=1)
    oldest, most = 0.0, 0
    for second in range(900):
        load = (2, 8, 1, 0, 5)[second // 180]  # jobs a second, on average
        fleet.submit(sum(chance.random() < load / 20 for _ in range(20)))
        fleet.step(1.0)
        if second % 10 == 0:
            fleet.resize(fleet.wanted)
        since = fleet.broker.queues.functions[b"f"].waiting_since()
        oldest = max(oldest, fleet.now - (since or fleet.now))
        most = max(most, fleet.wanted)
    assert oldest < 60
    assert most <= 2 * 8 * fleet.run_time + 2, "twice what is busy at most"
