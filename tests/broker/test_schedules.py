"""Schedules: each run is submitted once, whatever happens to the server."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearman_py.broker import admin_commands
from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.broker.schedules import SCHEDULE_NAME, without_schedules
from gearman_py.broker.state import Peer
from gearman_py.broker.stored_jobs import restore_record
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import Packet
from gearman_py.store.base import Record
from tests.broker.snapshots import hand_over
from tests.properties import depth

PERIOD = 60


def next_run(cron: str, zone: str, after: float) -> float:
    """``*/N``: whenever the seconds since 1970 can be divided by N."""
    if not cron.startswith("*/"):
        raise ValueError(f"{cron}: expected */N")
    period = int(cron[2:])
    return (after // period + 1) * period


class Server:
    """A broker, its clock, and a disk that may fail; time passes only here."""

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self.disk: dict[int, Record] = {}
        self.disk_fails = False
        self.now = 1000.0
        self.number = 1
        self.start()

    def start(self) -> None:
        queues = Queues(b"H", durable=self.durable)
        for _, record in sorted(self.disk.items()):
            restore_record(queues, record, self.now)
        self.broker = Broker(queues, time_of_day=lambda: self.now, next_run=next_run)
        self.broker.now = self.now
        assert not queues.schedules or queues.next_event < 0, "it looks at them at once"

    def store(self) -> None:
        changes = self.broker.queues.changes
        if changes.empty:
            return
        group = changes.take(deliveries=True)
        if self.disk_fails:
            self.broker.refused(group, "no space left", self.now)
            return
        self.disk |= {record.number: record for record in group.changes.added}
        for number in group.changes.removed:
            self.disk.pop(number, None)
        for record in group.changes.rewritten:
            if record.number in self.disk:
                self.disk[record.number] = record
        self.broker.stored(group, self.now)

    def wait(self, seconds: float) -> None:
        """Time passes; the server looks at it whenever something is due."""
        until = self.now + seconds
        while True:
            self.store()
            self.broker.now = self.now
            self.broker.tick(self.now, self.now)
            self.store()
            if self.now == until:
                return
            self.now = min(until, max(self.broker.queues.next_event, self.now + 1))

    def ask(self, command: str) -> list[str]:
        peer = Peer(9, "", lambda _: None)
        admin_commands.answer(self.broker, peer, [command.encode()])
        while peer.listing:
            peer.continue_listing()
        self.store()
        return b"".join(peer.take()).decode().splitlines()

    def jobs(self, function: bytes = b"f") -> int:
        return sum(job.function.name == function for job in self.broker.queues.jobs)

    def facts(self) -> dict[str, str]:
        row, _ = self.ask("schedules")
        return dict(pair.split("=", 1) for pair in row.split("\t")[1:])

    def grab(self, worker: Peer) -> list[tuple[int, list[bytes]]]:
        messages = [(Packet.CAN_DO, [b"f"]), (Packet.GRAB_JOB, list[bytes]())]
        self.broker.receive(worker, messages, self.now)
        return Decoder(RESPONSE).feed(b"".join(worker.take()))


@pytest.fixture(params=[True, False], ids=["durable", "in memory"])
def server(request: pytest.FixtureRequest) -> Server:
    return Server(durable=request.param)


def test_jobs_are_submitted_when_they_are_due(server: Server) -> None:
    facts = "function=f cron=*/60 workload=a%20b unique=u priority=high"
    assert server.ask(f"schedule set every%20minute {facts}") == ["OK"]
    server.wait(19)
    assert server.jobs() == 0
    server.wait(1)
    ((_, given),) = server.grab(server.broker.join(1, ""))
    assert given[1:] == [b"f", b"a b"]
    server.broker.cancel(given[0])
    server.wait(180)
    assert server.jobs() == 1, "they coalesce on their unique"
    assert server.facts()["last"] == "1200.000"
    assert server.facts()["next"] == "1260.000"


def test_run_is_left_out_while_the_last_one_lasts(server: Server) -> None:
    assert server.ask("schedule set s function=f cron=*/60 overlap=skip") == ["OK"]
    server.wait(200)
    assert server.jobs() == 1
    server.broker.cancel(server.facts()["handle"].encode())
    server.wait(60)
    assert server.jobs() == 1


def test_paused_schedule_submits_nothing_and_makes_up_nothing(server: Server) -> None:
    server.ask("schedule set s function=f cron=*/60 missed=all")
    assert server.ask("schedule pause s") == ["OK"]
    server.wait(600)
    assert server.jobs() == 0
    (answer,) = server.ask("schedule run s")
    assert answer.startswith("OK H:")
    assert server.jobs() == 1
    assert server.ask("schedule resume s") == ["OK"]
    server.wait(60)
    assert server.jobs() == 2
    assert server.ask("schedule delete s") == ["OK"]
    server.wait(600)
    assert server.jobs() == 2
    assert server.ask("schedules") == ["."]


@pytest.mark.parametrize(
    ("missed", "back", "jobs"),
    [("all", 1630, 2), ("once", 1630, 1), ("none", 1630, 0), ("none", 1530, 1), ("all", 1190, 0)],
)
def test_missed_runs_are_made_up_as_was_asked_for(missed: str, back: float, jobs: int) -> None:
    """Runs are due at 1200, 1500 and 1800; a run that is a minute late at most is not missed."""
    server = Server()
    server.ask(f"schedule set s function=f cron=*/300 missed={missed}")
    server.now = back
    server.start()
    server.wait(9)
    assert server.jobs() == jobs
    server.wait(1800 - server.now)
    assert server.jobs() == jobs + 1 + (back < 1500) * 2


@pytest.mark.parametrize(
    "command",
    [
        *("schedule", "schedule set", "schedule set s", "schedule set s function=f"),
        *("schedule set s cron=*/60", "schedule set s function=f cron=x", "schedule run"),
        "schedule set s function=f cron=*/60 missed=some",
        "schedule set s function=f cron=*/60 overlap=some",
        "schedule set s function=f cron=*/60 priority=some",
        "schedule set s function=f cron=*/60 zone=%FF",
        "schedule set s function=%00f cron=*/60",
        "schedule set s function=f cron=*/60 other=1",
    ],
)
def test_what_is_not_a_schedule_is_refused(server: Server, command: str) -> None:
    (answer,) = server.ask(command)
    assert answer.startswith("ERR INVALID_ARGUMENTS")
    assert server.ask("schedules") == ["."]


def test_broker_without_schedules_says_so_by_a_code_of_its_own() -> None:
    """By which AdminClient goes on to the next job server."""
    server = Server()
    server.broker.next_run = without_schedules
    (answer,) = server.ask("schedule set s function=f cron=*/60")
    assert answer.startswith("ERR NO_SCHEDULES")


def test_unknown_schedule_is_refused(server: Server) -> None:
    for command in ("pause s", "resume s", "run s", "delete s", "replace s function=f cron=*/60"):
        assert server.ask(f"schedule {command}") == ["ERR UNKNOWN_SCHEDULE"]


def test_packet_of_a_time_makes_a_job_that_is_due_then() -> None:
    server = Server(durable=False)
    asked: list[tuple[str, str, float]] = []

    def note(*arguments: Any) -> float:
        asked.append(arguments)
        return 1500.0

    server.broker.next_run = note
    client = server.broker.join(1, "")
    times = [b"30", b"", b"*", b"1", b"6"]
    server.broker.receive(client, [(Packet.SUBMIT_JOB_SCHED, [b"f", b"", *times, b"w"])], 1000)
    ((kind, _),) = Decoder(RESPONSE).feed(b"".join(client.take()))
    assert kind == Packet.JOB_CREATED
    assert asked == [("30 * * 1 0", "UTC", 1000.0)]
    worker = server.broker.join(2, "")
    server.wait(499)
    assert [kind for kind, _ in server.grab(worker)] == [Packet.NO_JOB]
    server.wait(1)
    assert [kind for kind, _ in server.grab(worker)] == [Packet.JOB_ASSIGN]


step = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 200)),
    st.tuples(st.sampled_from(["kill", "reload", "disk", "kill amid a commit"]), st.just(0)),
)


@settings(max_examples=depth(300), deadline=None)
@given(steps=st.lists(step, max_size=30))
def test_each_run_is_submitted_once(steps: list[tuple[str, int]]) -> None:
    """Whenever the server is killed or reloaded, and whenever its disk fails."""
    server = Server()
    server.ask(f"schedule set s function=f cron=*/{PERIOD} missed=all")
    began = server.now
    for what, seconds in steps:
        if what == "wait":
            server.wait(seconds)
        elif what == "kill":
            server.start()
        elif what == "kill amid a commit":  # a run is submitted, and not stored yet
            server.store()
            server.now += PERIOD
            server.broker.now = server.now
            server.broker.tick(server.now, server.now)
            server.start()
        elif what == "disk":
            server.disk_fails = not server.disk_fails
        elif not server.broker.queues.changes.replies:
            server.broker, _ = hand_over(server.broker, [])
            server.broker.next_run = next_run
    server.disk_fails = False
    server.wait(2 * PERIOD)
    expected = int(server.now // PERIOD - began // PERIOD)
    assert server.jobs() == expected
    (stored,) = [each for each in server.disk.values() if each.function == SCHEDULE_NAME]
    assert len(server.disk) == expected + 1, stored
