"""What happens between a submission and its commit, or its refusal."""

import pytest

from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.pending_changes import CommitGroup
from gearman_py.broker.queues import Queues
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import TEXT, Packet
from tests.broker.test_rules import Heard, Table

ERROR = ("ERROR", b"QUEUE_ERROR", b"the job could not be stored: no space left")
FIRST = b"H:test:1"


class DurableTable(Table):
    """Its store does nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__(queues=Queues(b"H:test", durable=True, failed=FailedJobs(10)))

    def background(self, peer: Peer, unique: bytes = b"") -> Heard:
        return self.say(peer, Packet.SUBMIT_JOB_BG, b"f", unique, b"w")

    def take(self) -> CommitGroup:
        return self.broker.queues.changes.take(deliveries=True)

    def take_some(self, most: int) -> list[bytes]:
        """Store the next group of at most ``most`` bytes; the workloads in it."""
        group = self.broker.queues.changes.take(deliveries=True, most=most)
        self.broker.stored(group, self.now)
        records = [*group.changes.added, *group.changes.rewritten]
        return [record.workload for record in records]

    def commit(self) -> None:
        self.broker.stored(self.take(), self.now)

    def refuse(self) -> None:
        self.broker.refused(self.take(), "no space left", self.now)

    def hear(self, peer: Peer) -> Heard:
        messages = Decoder(RESPONSE).feed(b"".join(peer.take()))
        return [(Packet(number).name, *arguments) for number, arguments in messages]


@pytest.fixture
def table() -> DurableTable:
    return DurableTable()


def test_job_is_neither_acknowledged_nor_given_out_before_its_commit(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.say(worker, Packet.PRE_SLEEP)
    assert table.background(client) == []
    assert table.hear(worker) == []
    assert table.grab(worker) is None
    table.say(worker, Packet.PRE_SLEEP)
    table.commit()
    assert table.hear(client) == [("JOB_CREATED", FIRST)]
    assert table.hear(worker) == [("NOOP",)]
    assert table.grab(worker) == FIRST


def test_each_job_of_a_group_wakes_a_worker(table: DurableTable) -> None:
    client, workers = table.peer(), [table.worker(b"f") for _ in range(3)]
    for worker in workers:
        table.say(worker, Packet.PRE_SLEEP)
    table.background(client)
    table.background(client)
    table.commit()
    assert [table.hear(worker) for worker in workers] == [[("NOOP",)], [("NOOP",)], []]


def test_peer_is_told_nothing_that_comes_after_what_it_waits_for(table: DurableTable) -> None:
    client = table.peer()
    table.say(client, Packet.ECHO_REQ, b"before")
    table.background(client)
    assert table.say(client, Packet.ECHO_REQ, b"between") == []
    first = table.take()
    table.background(client)
    assert table.say(client, Packet.ECHO_REQ, b"after") == []
    owed = client.owed
    table.broker.stored(first, table.now)
    assert table.hear(client) == [("JOB_CREATED", FIRST), ("ECHO_RES", b"between")]
    assert 0 < client.owed < owed
    table.commit()
    assert table.hear(client) == [("JOB_CREATED", b"H:test:2"), ("ECHO_RES", b"after")]
    assert client.owed == 0


def test_group_is_bounded_in_bytes_and_others_are_served_between(table: DurableTable) -> None:
    hog, other = table.peer(), table.peer()
    large = [b"%d" % number * 40 for number in range(3)]
    for workload in large:
        table.say(hog, Packet.SUBMIT_JOB_BG, b"f", b"", workload)
    table.say(hog, Packet.SUBMIT_JOB_BG, b"f", b"", b"small")
    table.say(other, Packet.SUBMIT_JOB_BG, b"f", b"", b"of another")
    assert table.take_some(50) == [large[0], b"of another"], "all of one peer's first"
    assert [said for said, *_ in table.hear(other)] == ["JOB_CREATED"]
    assert table.hear(hog) == [("JOB_CREATED", FIRST)]
    table.say(other, Packet.SUBMIT_JOB_BG, b"f", b"", b"x")
    assert table.take_some(1) == [large[1], b"x"], "a job that is larger than a group is in none"
    assert table.take_some(50) == [large[2], b"small"]
    assert [said for said, *_ in table.hear(hog)] == ["JOB_CREATED"] * 3
    assert table.broker.queues.changes.empty
    worker = table.worker(b"f")
    handles = [table.grab(worker) for _ in range(6)]
    assert handles == [b"H:test:%d" % number for number in (1, 5, 2, 6, 3, 4)]


def test_jobs_that_were_changed_are_in_bounded_groups_with_their_answers(
    table: DurableTable,
) -> None:
    client, ops = table.peer(), table.peer()
    for _ in range(3):
        table.say(client, Packet.SUBMIT_JOB_BG, b"f", b"", bytes(40))
    table.commit()
    worker = table.worker(b"f")
    for _ in range(3):
        handle = table.grab(worker)
        assert handle
        table.say(worker, Packet.WORK_FAIL, handle)
    table.commit()
    table.broker.receive(ops, [(TEXT, [b"retry jobs function=f"])], table.now)
    table.say(client, Packet.SUBMIT_JOB_BG, b"f", b"", bytes(10))
    sizes = [len(table.take_some(50)) for _ in range(2)]
    assert not ops.take(), "it is told that all are queued before they are stored"
    sizes.append(len(table.take_some(50)))
    assert sorted(sizes) == [1, 1, 2]
    assert b"".join(ops.take()).endswith(b"H:test:3\n.\n")
    assert table.broker.queues.changes.empty


def test_refused_job_was_never_there(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.background(client, b"u")
    table.refuse()
    assert table.hear(client) == [ERROR]
    assert client.owed == 0
    assert table.grab(worker) is None
    assert table.ask(b"status") == b"f\t0\t0\t1\n.\n"
    assert table.broker.queues.changes.empty
    table.background(client, b"u")
    table.commit()
    assert table.hear(client) == [("JOB_CREATED", b"H:test:2")]


def test_retry_that_cannot_be_stored_leaves_the_job_failed_and_says_so_to_all(
    table: DurableTable,
) -> None:
    client, worker, operator = table.peer(), table.worker(b"f"), table.peer()
    table.background(client, b"u")
    table.commit()
    assert table.grab(worker) == FIRST
    table.say(worker, Packet.WORK_FAIL, FIRST)
    table.commit()
    table.hear(client)
    table.broker.receive(operator, [(TEXT, [b"retry job " + FIRST])], table.now)
    assert table.background(client, b"u") == [], "it joins the job, and waits with it"
    table.refuse()
    assert b"".join(operator.take()) == (
        b"ERR QUEUE_ERROR the+job+could+not+be+stored:+no+space+left\r\n"
    )
    assert table.hear(client) == [ERROR]
    assert table.grab(worker) is None
    assert table.ask(b"jobs failed").startswith(FIRST + b"\tstate=failed\t")
    table.broker.receive(operator, [(TEXT, [b"retry job " + FIRST])], table.now)
    table.commit()
    assert b"".join(operator.take()) == b"OK\r\n"
    assert table.grab(worker) == FIRST


def test_submission_that_joins_a_job_not_stored_yet_waits_with_it(table: DurableTable) -> None:
    client, other = table.peer(), table.peer()
    table.background(client, b"u")
    group = table.take()
    table.background(other)
    assert table.background(other, b"u") == []
    table.broker.stored(group, table.now)
    assert table.hear(client) == [("JOB_CREATED", FIRST)]
    assert table.hear(other) == [], "its own first job comes first"
    table.commit()
    assert table.hear(other) == [("JOB_CREATED", b"H:test:2"), ("JOB_CREATED", FIRST)]


@pytest.mark.parametrize("stays", [True, False])
def test_refused_job_that_somebody_waits_for_goes_on_in_the_foreground(
    table: DurableTable, stays: bool
) -> None:
    client, waiting, worker = table.peer(), table.peer(), table.worker(b"f")
    table.background(client, b"u")
    assert table.submit(waiting, unique=b"u") == FIRST
    if not stays:
        table.broker.gone(waiting, table.now)
    table.refuse()
    assert table.hear(client) == [ERROR]
    assert table.grab(worker) == (FIRST if stays else None)
    if stays:
        table.say(worker, Packet.WORK_COMPLETE, FIRST, b"r")
        assert table.hear(waiting) == [("WORK_COMPLETE", FIRST, b"r")]
    assert table.broker.queues.changes.empty, "nothing of it is on the disk"


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("leaves", ["before", "after"])
def test_foreground_job_joined_in_the_background_stays_though_its_client_leaves(
    table: DurableTable, running: bool, leaves: str
) -> None:
    waiting, client, worker = table.peer(), table.peer(), table.worker(b"f")
    table.submit(waiting, unique=b"u")
    if running:
        table.grab(worker)
    assert table.background(client, b"u") == []
    if leaves == "before":
        table.broker.gone(waiting, table.now)
    group = table.take()
    assert [(one.number, one.deliveries) for one in group.changes.added] == [(1, running)]
    table.broker.stored(group, table.now)
    if leaves == "after":
        table.broker.gone(waiting, table.now)
    assert table.hear(client) == [("JOB_CREATED", FIRST)]
    table.broker.gone(worker, table.now)
    assert table.grab(table.worker(b"f")) == FIRST


def test_joined_job_that_ends_before_its_commit_is_removed_after_it(table: DurableTable) -> None:
    waiting, client, worker = table.peer(), table.peer(), table.worker(b"f")
    table.submit(waiting, unique=b"u")
    table.grab(worker)
    table.background(client, b"u")
    group = table.take()
    table.say(worker, Packet.WORK_COMPLETE, FIRST, b"r")
    table.broker.stored(group, table.now)
    assert table.hear(client) == [("JOB_CREATED", FIRST)]
    assert table.take().changes.removed == [1]


def test_cancelled_before_its_commit_a_job_is_acknowledged_and_removed(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.background(client)
    group = table.take()
    assert table.broker.cancel(FIRST)
    table.broker.stored(group, table.now)
    assert table.hear(client) == [("JOB_CREATED", FIRST)]
    assert table.grab(worker) is None
    assert table.take().changes.removed == [1]
    assert table.ask(b"status") == b"f\t0\t0\t1\n.\n"


def test_client_that_left_is_owed_nothing_and_its_job_is_kept(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.background(client)
    table.broker.gone(client, table.now)
    table.commit()
    assert table.grab(worker) == FIRST


def test_epoch_job_waits_for_its_commit_and_for_its_time(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    due = int(table.wall) + 5
    table.say(client, Packet.SUBMIT_JOB_EPOCH, b"f", b"", b"%d" % due, b"w")
    group = table.take()
    assert group.changes.added[0].due == due
    table.broker.stored(group, table.now)
    assert table.hear(client) == [("JOB_CREATED", FIRST)]
    table.broker.tick(table.now, due - 1)
    assert table.grab(worker) is None
    table.broker.tick(table.now, due)
    assert table.grab(worker) == FIRST


def test_deliveries_are_told_of_jobs_that_still_run(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.background(client)
    table.background(client)
    table.commit()
    quick, slow = table.grab(worker), table.grab(worker)
    assert quick == FIRST
    table.say(worker, Packet.WORK_COMPLETE, FIRST, b"")
    table.background(client)
    assert table.broker.queues.changes.take(deliveries=False).changes.delivered == {}
    assert slow == b"H:test:2"
    assert table.take().changes.delivered == {2: 1}


def test_worker_that_loses_a_stored_job_again_and_again_is_counted(table: DurableTable) -> None:
    client = table.peer()
    table.background(client)
    table.commit()
    for count in (1, 2, 3):
        worker = table.worker(b"f")
        table.grab(worker)
        table.broker.gone(worker, table.now)
        assert table.take().changes.delivered == {1: count}
