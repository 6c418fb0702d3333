"""Jobs that may be another server's by now, and those of other servers."""

from math import inf

import pytest

from gearman_py.broker.restriction_records import make_record
from gearman_py.broker.state import Function
from gearman_py.broker.stored_jobs import restore_record
from gearman_py.protocol.packets import TEXT, Packet
from gearman_py.store.base import Record
from tests.broker.snapshots import hand_over
from tests.broker.test_durable import FIRST, DurableTable

FOREIGN = b"H:gone:17"


@pytest.fixture
def table() -> DurableTable:
    return DurableTable()


def record(number: int, workload: bytes = b"w", unique: bytes = b"", due: int = 0) -> Record:
    return Record(number, b"f", unique, 1, due, b"", workload, 2)


def test_stored_jobs_are_withheld_when_the_lease_is_over(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.background(client)
    table.commit()
    table.broker.queues.lease = 0.0
    assert table.grab(worker) is None
    table.say(client, Packet.SUBMIT_JOB, b"f", b"", b"in the foreground")
    assert table.grab(worker) == b"H:test:2"
    table.say(worker, Packet.PRE_SLEEP)
    table.broker.queues.extend(inf, table.now)
    assert table.hear(worker) == [("NOOP",)]
    assert table.grab(worker) == FIRST


@pytest.mark.parametrize("way", ["given back", "joined", "stored", "due", "adopted"])
def test_job_that_is_queued_after_the_lease_is_withheld_too(table: DurableTable, way: str) -> None:
    client, worker, queues = table.peer(), table.worker(b"f"), table.broker.queues
    loser = table.worker(b"f")
    if way == "given back":
        table.background(client)
        table.commit()
        assert table.grab(loser) == FIRST
    queues.lease = 0.0
    assert table.grab(worker) is None
    if way == "given back":
        table.broker.gone(loser, table.now)
    elif way == "joined":
        table.say(client, Packet.SUBMIT_JOB, b"f", b"unique", b"")
        table.background(table.peer(), b"unique")
        table.commit()
    elif way == "stored":
        table.background(client)
        table.commit()
    else:
        due = 10 if way == "due" else 0
        restore_record(queues, record(-1, due=due), 5.0, FOREIGN, table.now)
        table.broker.tick(table.now, 20.0)
    assert table.grab(worker) is None
    queues.extend(inf, table.now)
    assert table.grab(worker) == (FOREIGN if way in {"due", "adopted"} else FIRST)


def test_job_whose_record_is_not_stored_goes_on_in_the_foreground_once(table: DurableTable) -> None:
    client, worker, queues = table.peer(), table.worker(b"f"), table.broker.queues
    table.say(client, Packet.SUBMIT_JOB, b"f", b"unique", b"")
    table.background(table.peer(), b"unique")
    queues.lease = 0.0
    assert table.grab(table.worker(b"other")) is None
    table.refuse()
    queues.extend(inf, table.now)
    assert table.grab(worker) == FIRST
    assert table.grab(worker) is None
    assert queues.function(b"f").total == 1


def test_withheld_job_that_is_cancelled_never_runs(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.background(client)
    table.commit()
    table.broker.queues.lease = 0.0
    assert table.grab(worker) is None
    assert table.broker.cancel(FIRST)
    table.broker.queues.extend(inf, table.now)
    assert table.grab(worker) is None
    assert table.take().changes.removed == [1]


@pytest.mark.parametrize("later", [False, True])
def test_a_late_result_is_refused_while_another_server_may_have_the_job(
    table: DurableTable, later: bool
) -> None:
    slow, worker = table.peer(), table.worker(b"f")
    table.say(slow, Packet.CAN_DO_TIMEOUT, b"f", b"1000")
    table.background(table.peer())
    table.commit()
    assert table.grab(slow) == FIRST
    table.tick(1.5)
    if later:
        table.ask(b"reschedule job %b %d" % (FIRST, table.wall + 60))
        table.commit()
    table.broker.queues.lease = 0.0
    assert table.grab(worker) is None
    ((kind, code, _),) = table.say(slow, Packet.WORK_COMPLETE, FIRST, b"late")
    assert (kind, code) == ("ERROR", b"JOB_NOT_FOUND")
    table.broker.queues.extend(inf, table.now)
    table.tick(100)
    assert table.grab(worker) == FIRST


def test_job_of_another_server_keeps_its_handle(table: DurableTable) -> None:
    worker = table.worker(b"f")
    table.say(worker, Packet.PRE_SLEEP)
    restore_record(table.broker.queues, record(-1), 0.0, FOREIGN, table.now)
    assert table.hear(worker) == [("NOOP",)]
    asker = table.peer()
    known = [("STATUS_RES", FOREIGN, b"1", b"0", b"0", b"0")]
    assert table.say(asker, Packet.GET_STATUS, FOREIGN) == known
    assert table.grab(worker) == FOREIGN
    table.say(worker, Packet.WORK_COMPLETE, FOREIGN, b"")
    assert table.take().changes.removed == [-1]
    known = [("STATUS_RES", FOREIGN, b"0", b"0", b"0", b"0")]
    assert table.say(asker, Packet.GET_STATUS, FOREIGN) == known
    table.background(asker)
    table.commit()
    assert table.hear(asker) == [("JOB_CREATED", FIRST)], "numbers of its own go on from one"


def test_two_servers_may_have_taken_the_same_unique(table: DurableTable) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.background(client, b"unique")
    table.commit()
    restore_record(table.broker.queues, record(-1, unique=b"unique"), 0.0, FOREIGN, table.now)
    table.hear(client)
    assert table.background(client, b"unique") == [("JOB_CREATED", FIRST)]
    for _ in range(2):
        table.say(worker, Packet.WORK_COMPLETE, table.grab(worker) or b"", b"")
    assert not len(table.broker.queues.jobs)
    assert sorted(table.take().changes.removed) == [-1, 1]


def adopt(table: DurableTable, *records: Record, reading: bool) -> None:
    """Read these records of a server that is gone; ``reading``: there are more."""
    queues = table.broker.queues
    queues.adopted.reading = True
    for each in records:
        restore_record(queues, each, 0.0, b"H:gone:%d" % -each.number, table.now)
    queues.adopted.reading = reading
    table.broker.tick(table.now, 0.0)


def pause_record(table: DurableTable, number: int) -> Record:
    """A pause of the function f, as it is stored."""
    function = Function(b"f", set(), table.broker.queues.counts.others)
    function.paused = True
    job = make_record(function, number, {})
    return Record(number, job.function.name, b"", 1, 0, b"", job.workload, 0)


@pytest.mark.parametrize("reloads", [False, True])
def test_jobs_of_another_server_wait_until_its_pauses_and_limits_are_known(
    table: DurableTable, reloads: bool
) -> None:
    worker = table.worker(b"f")
    table.say(worker, Packet.PRE_SLEEP)
    adopt(table, record(-1), record(-2), reading=True)
    assert (table.hear(worker), table.grab(worker)) == ([], None)
    if reloads:
        table.broker, (worker,) = hand_over(table.broker, [worker])
    adopt(table, record(-3), pause_record(table, -4), reading=True)
    adopt(table, reading=False)
    assert table.grab(worker) is None
    table.broker.receive(table.peer(), [(TEXT, [b"resume f"])], table.now)
    for handle in (b"H:gone:1", b"H:gone:2", b"H:gone:3"):
        assert table.grab(worker) == handle
    assert table.grab(worker) is None


def test_jobs_of_another_server_can_be_changed_before_all_are_read(table: DurableTable) -> None:
    client, worker, ops = table.peer(), table.worker(b"f"), table.peer()
    adopt(table, *map(record, (-1, -2, -3)), reading=True)
    table.background(client)
    table.commit()
    assert table.grab(worker) == FIRST, "others are served"
    assert table.broker.cancel(b"H:gone:1")
    table.broker.receive(ops, [(TEXT, [b"reschedule job H:gone:2 4102444800"])], table.now)
    adopt(table, reading=False)
    assert table.grab(worker) == b"H:gone:3"
    assert table.grab(worker) is None
    assert table.broker.queues.function(b"f").scheduled == 1
