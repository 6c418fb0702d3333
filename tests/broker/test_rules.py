"""What peers hear from a broker: no sockets, and a clock that stands still."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Any

import pytest

from gearman_py.broker import admin_commands
from gearman_py.broker.broker import Broker
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.queues import Queues
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import Packet

Heard = list[tuple[Any, ...]]  # a packet's name and its arguments


class Table:
    """A broker and the peers around it."""

    def __init__(self, job_retries: int = -1, queues: Queues | None = None) -> None:
        self.broker = Broker(queues or Queues(b"H:test"), job_retries=job_retries)
        self.now = 1000.0
        self.wall = 1_800_000_000.0

    def peer(self) -> Peer:
        return self.broker.join(7, "127.0.0.1")

    def say(self, peer: Peer, packet: Packet, *arguments: bytes) -> Heard:
        self.broker.receive(peer, [(packet, list(arguments))], self.now)
        return self.hear(peer)

    def hear(self, peer: Peer) -> Heard:
        """What the peer was sent since it was last listened to."""
        if not peer.owed:
            return []
        messages = Decoder(RESPONSE).feed(b"".join(peer.take()))
        return [(Packet(number).name, *arguments) for number, arguments in messages]

    def worker(self, *functions: bytes) -> Peer:
        peer = self.peer()
        for function in functions:
            self.say(peer, Packet.CAN_DO, function)
        return peer

    def submit(
        self,
        peer: Peer,
        packet: Packet = Packet.SUBMIT_JOB,
        function: bytes = b"f",
        unique: bytes = b"",
        workload: bytes = b"data",
    ) -> bytes:
        ((name, handle),) = self.say(peer, packet, function, unique, workload)
        assert name == "JOB_CREATED"
        return bytes(handle)

    def grab(self, worker: Peer) -> bytes | None:
        """The handle of the job that the worker is given."""
        answer = self.say(worker, Packet.GRAB_JOB)[-1]
        return answer[1] if answer[0] == "JOB_ASSIGN" else None

    def ask(self, line: bytes) -> bytes:
        peer = self.peer()
        admin_commands.answer(self.broker, peer, [line])
        while peer.listing:
            peer.continue_listing()
        answer = b"".join(peer.take())
        self.broker.gone(peer, self.now)
        return answer

    def tick(self, seconds: float = 0.0) -> float:
        self.now += seconds
        self.wall += seconds
        return self.broker.tick(self.now, self.wall) - self.now


@pytest.fixture
def table() -> Table:
    return Table()


# The life of a job.


def test_submitted_job_wakes_one_sleeping_worker_and_is_assigned_once(table: Table) -> None:
    client, first, second = table.peer(), table.worker(b"f"), table.worker(b"f")
    for worker in (first, second):
        assert table.say(worker, Packet.PRE_SLEEP) == []
    handle = table.submit(client)
    assert table.hear(first) == [("NOOP",)]
    assert table.hear(second) == [], "one job wakes one worker"
    assert table.say(first, Packet.GRAB_JOB) == [("JOB_ASSIGN", handle, b"f", b"data")]
    assert table.say(second, Packet.GRAB_JOB) == [("NO_JOB",)]


def test_result_reaches_the_client_and_the_job_is_forgotten(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    handle = table.submit(client)
    table.grab(worker)
    for packet in (Packet.WORK_DATA, Packet.WORK_WARNING):
        assert table.say(worker, packet, handle, b"part") == []
    table.say(worker, Packet.WORK_STATUS, handle, b"1", b"2")
    table.say(worker, Packet.WORK_COMPLETE, handle, b"result\0with nul")
    assert table.hear(client) == [
        ("WORK_DATA", handle, b"part"),
        ("WORK_WARNING", handle, b"part"),
        ("WORK_STATUS", handle, b"1", b"2"),
        ("WORK_COMPLETE", handle, b"result\0with nul"),
    ]
    unknown = ("STATUS_RES", handle, b"0", b"0", b"0", b"0")
    assert table.say(client, Packet.GET_STATUS, handle) == [unknown]


def test_background_job_tells_nobody(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    handle = table.submit(client, Packet.SUBMIT_JOB_BG)
    table.grab(worker)
    table.say(worker, Packet.WORK_COMPLETE, handle, b"result")
    assert table.hear(client) == []


@pytest.mark.parametrize(
    ("queues", "order"),
    [
        (Queues(), [b"C", b"A", b"B", b"C", b"A", b"B"]),
        (Queues(function_first=True, rotate=False), [b"C", b"C", b"B", b"B", b"A", b"A"]),
        (Queues(function_first=True), [b"C", b"B", b"A", b"C", b"B", b"A"]),
    ],
    ids=["as 2.0", "as 1.1", "as 1.1 --round-robin"],
)
def test_functions_are_served_in_the_order_of_the_reference(
    queues: Queues, order: list[bytes]
) -> None:
    table = Table(queues=queues)
    client, worker = table.peer(), table.worker(b"A", b"B", b"C")
    high, normal, low = Packet.SUBMIT_JOB_HIGH, Packet.SUBMIT_JOB, Packet.SUBMIT_JOB_LOW
    rank = {high: 1, normal: 2, low: 3}
    wanted = [(normal, b"A"), (low, b"B"), (high, b"A"), (normal, b"B")]
    wanted += [(high, b"C"), (normal, b"C")]
    for packet, function in wanted:
        table.submit(client, packet, function, workload=b"%d" % rank[packet])
    got = [table.say(worker, Packet.GRAB_JOB)[0] for _ in wanted]
    assert [answer[2] for answer in got] == order
    for function in (b"A", b"B", b"C"):
        priorities = [answer[3] for answer in got if answer[2] == function]
        assert priorities == sorted(priorities), "in a function the higher priority comes first"


def test_grab_uniq_and_grab_all_carry_the_unique_and_the_reducer(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    handle = table.submit(client, unique=b"u")
    uniq = table.say(worker, Packet.GRAB_JOB_UNIQ)
    assert uniq == [("JOB_ASSIGN_UNIQ", handle, b"f", b"u", b"data")]
    handle = table.submit(client)
    assert table.say(worker, Packet.GRAB_JOB_ALL) == [
        ("JOB_ASSIGN_UNIQ", handle, b"f", b"", b"data")
    ]
    reduce = Packet.SUBMIT_REDUCE_JOB, b"f", b"v", b"sum", b"", b"data"
    ((_, handle),) = table.say(client, *reduce)
    assert table.say(worker, Packet.GRAB_JOB_ALL) == [
        ("JOB_ASSIGN_ALL", handle, b"f", b"v", b"sum", b"data")
    ]


# Coalescing.


def test_same_unique_joins_and_every_submission_hears_everything(table: Table) -> None:
    one, two, worker = table.peer(), table.peer(), table.worker(b"f")
    handle = table.submit(one, unique=b"u")
    assert table.submit(one, unique=b"u") == handle
    assert table.submit(two, unique=b"u") == handle
    assert table.submit(two, function=b"g", unique=b"u") != handle
    table.grab(worker)
    table.say(worker, Packet.WORK_COMPLETE, handle, b"r")
    assert table.hear(one) == [("WORK_COMPLETE", handle, b"r")] * 2
    assert table.hear(two) == [("WORK_COMPLETE", handle, b"r")]


def test_unique_dash_coalesces_on_the_workload_and_never_with_a_unique(table: Table) -> None:
    client = table.peer()
    handle = table.submit(client, unique=b"-", workload=b"same")
    assert table.submit(client, unique=b"-", workload=b"same") == handle
    assert table.submit(client, unique=b"-", workload=b"other") != handle
    assert table.submit(client, unique=b"same") != handle
    empty = {table.submit(client, unique=b"-", workload=b"") for _ in range(2)}
    assert len(empty) == 2


def test_jobs_without_a_unique_stay_apart(table: Table) -> None:
    client = table.peer()
    assert table.submit(client) != table.submit(client)


def test_unique_of_64_bytes_coalesces_and_one_of_65_is_refused(table: Table) -> None:
    client = table.peer()
    assert table.submit(client, unique=b"u" * 64) == table.submit(client, unique=b"u" * 64)
    answer = table.say(client, Packet.SUBMIT_JOB, b"f", b"u" * 65, b"")
    assert answer == [("ERROR", b"ARGUMENT_TOO_LARGE", b"Unique value too large")]


@pytest.mark.parametrize("background_first", [True, False])
def test_job_that_any_submission_wanted_in_the_background_survives_its_clients(
    table: Table, background_first: bool
) -> None:
    operator, client, worker = table.peer(), table.peer(), table.worker(b"f")
    joins = [(operator, Packet.SUBMIT_JOB_BG), (client, Packet.SUBMIT_JOB)]
    for peer, packet in joins if background_first else reversed(joins):
        handle = table.submit(peer, packet, unique=b"u")
    table.broker.gone(client, table.now)
    assert table.grab(worker) == handle


def test_unique_of_an_abandoned_job_makes_a_new_one(table: Table) -> None:
    gone, client, worker = table.peer(), table.peer(), table.worker(b"f")
    old = table.submit(gone, unique=b"u")
    table.broker.gone(gone, table.now)
    new = table.submit(client, unique=b"u")
    assert new != old
    assert table.grab(worker) == new


# Losses.


def test_worker_gone_requeues_its_job_and_wakes_another(table: Table) -> None:
    client, dying, other = table.peer(), table.worker(b"f"), table.worker(b"f")
    handle = table.submit(client)
    assert table.grab(dying) == handle
    table.say(dying, Packet.WORK_STATUS, handle, b"1", b"2")
    table.hear(client)
    table.say(other, Packet.PRE_SLEEP)
    table.broker.gone(dying, table.now)
    assert table.hear(client) == [], "the client hears nothing of it"
    assert table.hear(other) == [("NOOP",)]
    status = table.say(client, Packet.GET_STATUS, handle)
    assert status == [("STATUS_RES", handle, b"1", b"0", b"0", b"0")]
    assert table.grab(other) == handle


def test_worker_gone_between_its_noop_and_its_grab_wakes_another(table: Table) -> None:
    client, dying, other = table.peer(), table.worker(b"f"), table.worker(b"f")
    table.say(dying, Packet.PRE_SLEEP)
    table.say(other, Packet.PRE_SLEEP)
    table.submit(client)
    assert table.hear(dying) == [("NOOP",)]
    table.broker.gone(dying, table.now)
    assert table.hear(other) == [("NOOP",)]


def test_worker_that_ignores_its_noop_does_not_keep_the_job_from_others(table: Table) -> None:
    client, deaf, other = table.peer(), table.worker(b"f"), table.worker(b"f")
    table.say(deaf, Packet.PRE_SLEEP)
    table.say(other, Packet.PRE_SLEEP)
    table.submit(client)
    table.hear(deaf)
    delay = table.tick()
    assert delay is not None
    table.tick(delay)
    assert table.hear(other) == [("NOOP",)]


def test_client_gone_drops_its_queued_job_at_once(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.submit(client)
    table.broker.gone(client, table.now)
    assert table.ask(b"status") == b"f\t0\t0\t1\n.\n"
    assert table.grab(worker) is None


def test_client_gone_lets_its_running_job_end_in_silence(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    handle = table.submit(client)
    table.grab(worker)
    table.broker.gone(client, table.now)
    assert table.say(worker, Packet.WORK_COMPLETE, handle, b"r") == []


def test_job_is_given_up_after_as_many_attempts_as_allowed() -> None:
    table = Table(job_retries=2)
    client = table.peer()
    handle = table.submit(client)
    for _ in range(2):
        worker = table.worker(b"f")
        assert table.grab(worker) == handle
        table.broker.gone(worker, table.now)
    assert table.hear(client) == [("WORK_FAIL", handle)]


def postponing(table: Table) -> Peer:
    """A worker that may put jobs off."""
    worker = table.worker(b"f")
    assert table.say(worker, Packet.OPTION_REQ, b"Retries") == [("OPTION_RES", b"Retries")]
    return worker


def test_postponed_job_waits_for_its_time_and_its_attempts_are_announced(table: Table) -> None:
    table.broker.time_of_day = lambda: table.wall
    worker = postponing(table)
    handle = table.submit(table.peer(), Packet.SUBMIT_JOB_BG)
    assignment = ("JOB_ASSIGN", handle, b"f", b"data")
    assert table.say(worker, Packet.GRAB_JOB) == [("JOB_ATTEMPT", handle, b"1"), assignment]
    assert table.say(worker, Packet.WORK_RETRY, handle, b"1500", b"not yet") == []
    assert table.say(worker, Packet.GRAB_JOB) == [("NO_JOB",)]
    assert b"state=scheduled" in table.ask(b"job " + handle)
    assert table.say(worker, Packet.PRE_SLEEP) == []
    table.tick(1.4)
    assert table.hear(worker) == []
    table.tick(0.2)
    assert table.hear(worker) == [("NOOP",)]
    assert table.say(worker, Packet.GRAB_JOB) == [("JOB_ATTEMPT", handle, b"2"), assignment]
    table.say(worker, Packet.WORK_COMPLETE, handle, b"")
    assert table.ask(b"show jobs") == b".\n"


def test_job_is_postponed_as_often_as_it_may_be_tried() -> None:
    table = Table(job_retries=2, queues=Queues(b"H:test", failed=FailedJobs(10)))
    worker = postponing(table)
    handle = table.submit(table.peer(), Packet.SUBMIT_JOB_BG)
    for _ in range(2):
        assert table.grab(worker) == handle
        table.say(worker, Packet.WORK_RETRY, handle, b"0", b"no such customer")
    assert table.grab(worker) is None
    row = table.ask(b"jobs failed")
    assert b"attempts=2" in row
    assert b"reason=no such customer" in row


def test_only_who_asked_for_it_may_postpone_a_job_and_only_its_own(table: Table) -> None:
    plain, other = table.worker(b"f"), postponing(table)
    handle = table.submit(table.peer(), Packet.SUBMIT_JOB_BG)
    assert table.say(plain, Packet.GRAB_JOB) == [("JOB_ASSIGN", handle, b"f", b"data")]
    ((_, code, _),) = table.say(plain, Packet.WORK_RETRY, handle, b"0", b"")
    assert code == b"INVALID_COMMAND"
    ((_, code, _),) = table.say(other, Packet.WORK_RETRY, handle, b"0", b"")
    assert code == b"JOB_NOT_FOUND"
    table.say(plain, Packet.WORK_COMPLETE, handle, b"")


def test_time_limit_gives_the_job_to_another_and_refuses_the_late_result(table: Table) -> None:
    client, slow, other = table.peer(), table.peer(), table.worker(b"f")
    table.say(slow, Packet.CAN_DO_TIMEOUT, b"f", b"1500")
    handle = table.submit(client)
    assert table.grab(slow) == handle
    assert table.tick(1.4) < inf
    assert table.grab(other) is None
    table.tick(0.2)
    assert table.grab(other) == handle
    late = table.say(slow, Packet.WORK_COMPLETE, handle, b"late")
    assert late[0][:2] == ("ERROR", b"JOB_NOT_FOUND")
    table.say(other, Packet.WORK_COMPLETE, handle, b"r")
    assert table.hear(client) == [("WORK_COMPLETE", handle, b"r")]
    assert table.tick(10) == inf, "no timer outlives its job"


@pytest.mark.parametrize("milliseconds", [b"", b"0", b"abc", b"-5"])
def test_time_limit_that_is_none_is_none(table: Table, milliseconds: bytes) -> None:
    client, worker = table.peer(), table.peer()
    table.say(worker, Packet.CAN_DO_TIMEOUT, b"f", milliseconds)
    table.submit(client)
    table.grab(worker)
    assert table.tick(1e6) == inf


def test_function_given_up_in_mid_job_requeues_it(table: Table) -> None:
    client, worker, other = table.peer(), table.worker(b"f"), table.worker(b"f")
    handle = table.submit(client)
    table.grab(worker)
    table.say(worker, Packet.CANT_DO, b"f")
    assert table.grab(other) == handle
    answer = table.say(worker, Packet.WORK_COMPLETE, handle, b"r")
    assert answer == [("ERROR", b"JOB_NOT_FOUND", b"Job given in work result not found")]


# Failures.


def test_exception_reaches_who_asked_for_exceptions_and_is_a_failure_to_others(
    table: Table,
) -> None:
    asked, other, worker = table.peer(), table.peer(), table.worker(b"f")
    option = table.say(asked, Packet.OPTION_REQ, b"Exceptions")
    assert option == [("OPTION_RES", b"Exceptions")]
    handle = table.submit(asked, unique=b"u")
    table.submit(other, unique=b"u")
    table.grab(worker)
    table.say(worker, Packet.WORK_EXCEPTION, handle, b"ValueError: no")
    assert table.hear(asked) == [("WORK_EXCEPTION", handle, b"ValueError: no")]
    assert table.hear(other) == [("WORK_FAIL", handle)]
    # Perl workers send a failure after their exception, and die of an error in answer.
    assert table.say(worker, Packet.WORK_FAIL, handle) == []
    assert table.say(worker, Packet.WORK_FAIL, handle)[0][1] == b"JOB_NOT_FOUND"


def test_results_of_a_stranger_are_refused(table: Table) -> None:
    client, worker, stranger = table.peer(), table.worker(b"f"), table.worker(b"f")
    handle = table.submit(client)
    table.grab(worker)
    for packet, more in [
        (Packet.WORK_COMPLETE, [b"forged"]),
        (Packet.WORK_FAIL, []),
        (Packet.WORK_DATA, [b"x"]),
        (Packet.WORK_STATUS, [b"1", b"1"]),
        (Packet.WORK_EXCEPTION, [b"x"]),
    ]:
        assert table.say(stranger, packet, handle, *more)[0][:2] == ("ERROR", b"JOB_NOT_FOUND")
    assert table.hear(client) == []


@pytest.mark.parametrize("packet", [Packet.NOOP, Packet.ALL_YOURS, 5])
def test_packet_that_is_not_for_servers_is_refused(table: Table, packet: int) -> None:
    peer = table.peer()
    table.broker.receive(peer, [(packet, [])], table.now)
    assert table.hear(peer) == [("ERROR", b"INVALID_COMMAND", b"Command not expected")]


def test_unknown_option_is_an_error(table: Table) -> None:
    answer = table.say(table.peer(), Packet.OPTION_REQ, b"speed")
    assert answer[0][:2] == ("ERROR", b"UNKNOWN_OPTION")


@pytest.mark.parametrize("option", [b"exceptions", b"EXCEPTIONS", b"exceptions\0\0"])
def test_option_is_known_by_its_name_and_echoed_as_it_came(table: Table, option: bytes) -> None:
    assert table.say(table.peer(), Packet.OPTION_REQ, option) == [("OPTION_RES", option)]


def test_status_of_a_unique_ends_with_its_nul(table: Table) -> None:
    client = table.peer()
    table.submit(client, unique=b"u")
    ((_, *status),) = table.say(client, Packet.GET_STATUS_UNIQUE, b"u\0")
    assert status == [b"u", b"1", b"0", b"0", b"0", b"1"]


# Sleep.


def test_worker_that_goes_to_sleep_with_work_waiting_is_woken_at_once(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    table.submit(client)
    assert table.say(worker, Packet.PRE_SLEEP) == [("NOOP",)]
    assert table.say(worker, Packet.PRE_SLEEP) == [("NOOP",)], "a second sleep re-arms it"


def test_function_learnt_in_sleep_wakes_for_what_is_queued(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"other")
    table.submit(client)
    table.say(worker, Packet.PRE_SLEEP)
    assert table.say(worker, Packet.CAN_DO, b"f") == [("NOOP",)]


# Jobs of a later time.


def test_epoch_job_runs_when_its_time_comes_and_hides_no_other(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    due = b"%d" % (table.wall + 60)
    ((_, later),) = table.say(client, Packet.SUBMIT_JOB_EPOCH, b"f", b"", due, b"")
    low = table.submit(client, Packet.SUBMIT_JOB_LOW_BG)
    assert table.grab(worker) == low
    assert table.grab(worker) is None
    table.say(worker, Packet.PRE_SLEEP)
    assert table.tick(51) == pytest.approx(9)
    table.tick(9)
    assert table.hear(worker) == [("NOOP",)]
    assert table.grab(worker) == later


@pytest.mark.parametrize("epoch", [b"0", b"-5", b"now", b"1"])
def test_epoch_that_is_past_or_no_number_is_now(table: Table, epoch: bytes) -> None:
    client, worker = table.peer(), table.worker(b"f")
    ((_, handle),) = table.say(client, Packet.SUBMIT_JOB_EPOCH, b"f", b"", epoch, b"")
    table.tick()
    assert table.grab(worker) == handle


def test_epoch_that_no_clock_will_show_is_an_error(table: Table) -> None:
    answer = table.say(table.peer(), Packet.SUBMIT_JOB_EPOCH, b"f", b"", b"9" * 20, b"")
    assert answer[0][0] == "ERROR"


# Limits and text commands.

INCOMPLETE = b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+"


def test_full_queue_refuses_new_jobs_and_lets_joiners_in(table: Table) -> None:
    client = table.peer()
    assert table.ask(b"maxqueue f 1") == b"OK\r\n"
    table.submit(client, unique=b"u")
    table.submit(client, unique=b"u")
    full = [("ERROR", b"QUEUE_ERROR", b"Job queue is full")]
    assert table.say(client, Packet.SUBMIT_JOB, b"f", b"", b"") == full
    table.ask(b"maxqueue f")
    table.submit(client)


def test_limit_is_the_number_that_its_word_begins_with(table: Table) -> None:
    client = table.peer()
    table.ask(b"maxqueue f 1x")
    table.submit(client)
    assert table.say(client, Packet.SUBMIT_JOB, b"f", b"", b"")[0][0] == "ERROR"


def test_limits_are_for_high_normal_and_low_in_this_order(table: Table) -> None:
    client = table.peer()
    table.ask(b"maxqueue f 3 1 2")
    table.submit(client)
    for packet in (Packet.SUBMIT_JOB, Packet.SUBMIT_JOB_BG):
        assert table.say(client, packet, b"f", b"", b"")[0][0] == "ERROR"
    table.submit(client, Packet.SUBMIT_JOB_LOW)
    assert table.say(client, Packet.SUBMIT_JOB_LOW, b"f", b"", b"")[0][0] == "ERROR"
    table.submit(client, Packet.SUBMIT_JOB_HIGH)


def test_listings_count_and_cannot_be_forged(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f", b"evil\nrow\t9")
    table.say(worker, Packet.SET_CLIENT_ID, b"me\n.\n")
    table.submit(client)
    table.submit(client, Packet.SUBMIT_JOB_HIGH_BG, unique=b"u")
    table.grab(worker)
    assert table.ask(b"status") == b"evil\\x0arow\\x099\t0\t0\t1\nf\t2\t1\t1\n.\n"
    assert table.ask(b"prioritystatus").splitlines()[1] == b"f\t0\t1\t0\t1"
    rows = table.ask(b"workers").splitlines()
    assert rows[1] == b"7 127.0.0.1 me\\x0a.\\x0a : evil\\x0arow\\x099 f"
    assert table.ask(b"show unique jobs") == b"\nu\n.\n"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", b"ERR UNKNOWN_COMMAND Unknown+server+command\r\n"),
        (b"shutdown", b"ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r\n"),
        (b" status", b"ERR UNKNOWN_COMMAND Unknown+server+command\r\n"),
        (b"STATUS  ", b".\n"),
        (b"create function ", INCOMPLETE + b"create\r\n"),
        (b"maxqueue", INCOMPLETE + b"maxqueue\r\n"),
        (b"MaxQueue", INCOMPLETE + b"MaxQueue\r\n"),
        (b"DROP", INCOMPLETE + b"DROP\r\n"),
        (b"create function x", b"OK\r\n"),
        (b"verbose", b"OK WARNING\n"),
        (b"drop function x", b"ERR function not found\r\n"),
        (b"cancel job H:test:9", b"ERR UNKNOWN_JOB\r\n"),
        (b"cancel", b"ERR UNKNOWN_COMMAND Unknown+server+commandcancel\r\n"),
        (b"Show", b"ERR UNKNOWN_COMMAND Unknown+server+commandShow\r\n"),
        (b"show x", b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"),
        (b"show jobs", b".\n"),
    ],
)
def test_text_commands_answer_as_the_reference_does(
    table: Table, line: bytes, answer: bytes
) -> None:
    assert table.ask(line) == answer


def test_job_that_waits_for_its_time_counts_as_queued(table: Table) -> None:
    due = b"%d" % (table.wall + 60)
    table.say(table.peer(), Packet.SUBMIT_JOB_EPOCH, b"f", b"", due, b"")
    assert table.ask(b"prioritystatus") == b"f\t0\t1\t0\t0\n.\n"


def test_running_job_that_nobody_waits_for_is_shown_as_such(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    handle = table.submit(client)
    table.grab(worker)
    table.broker.gone(client, table.now)
    assert table.ask(b"show jobs") == handle + b"\t0\t1\t0\n.\n"


def test_cancelled_job_fails_its_clients_once_and_runs_no_more(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    handle = table.submit(client)
    table.grab(worker)
    assert table.ask(b"cancel job " + handle) == b"OK\r\n"
    assert table.hear(client) == [("WORK_FAIL", handle)]
    assert table.say(worker, Packet.WORK_COMPLETE, handle, b"r")[0][0] == "ERROR"
    assert table.hear(client) == []


def test_function_with_jobs_or_workers_is_not_dropped(table: Table) -> None:
    table.submit(table.peer(), Packet.SUBMIT_JOB_BG)
    refused = b"ERR there are still connected workers or executing clients\r\n"
    assert table.ask(b"drop function f") == refused


def heard(table: Table, peers: Sequence[Peer]) -> list[Heard]:
    return [table.hear(peer) for peer in peers]


def test_many_jobs_wake_as_many_workers(table: Table) -> None:
    client, workers = table.peer(), [table.worker(b"f") for _ in range(5)]
    for worker in workers:
        table.say(worker, Packet.PRE_SLEEP)
    for _ in range(3):
        table.submit(client, Packet.SUBMIT_JOB_BG)
    assert heard(table, workers) == [[("NOOP",)]] * 3 + [[]] * 2


@pytest.mark.parametrize(("wakeup", "woken"), [(1, 1), (2, 2), (0, 5)])
def test_new_job_wakes_as_many_workers_as_it_was_told_to(wakeup: int, woken: int) -> None:
    table = Table(queues=Queues(wakeup=wakeup))
    client, workers = table.peer(), [table.worker(b"f") for _ in range(5)]
    for worker in workers:
        table.say(worker, Packet.PRE_SLEEP)
    table.submit(client, Packet.SUBMIT_JOB_BG)
    assert heard(table, workers) == [[("NOOP",)]] * woken + [[]] * (5 - woken)


def test_maxqueue_and_create_make_no_more_functions_than_others_may(table: Table) -> None:
    assert table.ask(b"maxqueue known 5") == b"OK\r\n"
    table.broker.queues.full = True
    for line in (b"maxqueue new 5", b"create function new"):
        assert table.ask(line).startswith(b"ERR QUEUE_ERROR ")
    assert table.ask(b"maxqueue known 0") == b"OK\r\n"
    table.broker.queues.full = False
    for limit in (5, 0):
        for number in range(1500):
            table.ask(b"maxqueue f%d %d" % (number, limit))
    assert len(table.broker.queues.functions) <= 1001


# What is late, or comes back.


@pytest.mark.parametrize("taken", [False, True])
def test_parts_of_a_late_result_are_taken_exactly_if_its_end_is(table: Table, taken: bool) -> None:
    client, slow, other = table.peer(), table.peer(), table.worker(b"f")
    table.say(slow, Packet.CAN_DO_TIMEOUT, b"f", b"1000")
    handle = table.submit(client)
    assert table.grab(slow) == handle
    table.tick(1.5)
    if taken:
        assert table.grab(other) == handle
    answers = [
        *table.say(slow, Packet.WORK_DATA, handle, b"a"),
        *table.say(slow, Packet.WORK_WARNING, handle, b"b"),
        *table.say(slow, Packet.WORK_STATUS, handle, b"1", b"2"),
        *table.say(slow, Packet.WORK_COMPLETE, handle, b"c"),
    ]
    heard = [(name, *rest) for name, _, *rest in table.hear(client)]
    if taken:
        assert [answer[:2] for answer in answers] == [("ERROR", b"JOB_NOT_FOUND")] * 4
        assert not heard
    else:
        assert not answers
        assert heard == [
            ("WORK_DATA", b"a"),
            ("WORK_WARNING", b"b"),
            ("WORK_STATUS", b"1", b"2"),
            ("WORK_COMPLETE", b"c"),
        ]
        assert not table.broker.queues.progress


@pytest.mark.parametrize("how", ["rescheduled", "given back for later"])
def test_a_late_result_counts_also_while_the_job_waits_for_its_time(table: Table, how: str) -> None:
    client, slow, other = table.peer(), table.peer(), table.worker(b"f")
    table.say(slow, Packet.CAN_DO_TIMEOUT, b"f", b"1000")
    handle = table.submit(client, Packet.SUBMIT_JOB_BG)
    assert table.grab(slow) == handle
    table.tick(1.5)
    if how == "rescheduled":
        assert table.ask(b"reschedule job %b %d" % (handle, table.wall + 60)) == b"OK\r\n"
    else:
        table.say(other, Packet.OPTION_REQ, b"retries")
        table.say(other, Packet.GRAB_JOB)
        table.say(other, Packet.WORK_RETRY, handle, b"60000", b"busy")
    assert table.ask(b"status") == b"f\t1\t0\t2\n.\n"
    assert table.say(slow, Packet.WORK_COMPLETE, handle, b"late") == []
    assert table.ask(b"status") == b"f\t0\t0\t2\n.\n"
    table.tick(100)
    assert table.grab(other) is None


@pytest.mark.parametrize("reset", [False, True])
def test_functions_take_turns_also_when_their_jobs_are_given_back(
    table: Table, reset: bool
) -> None:
    client, worker = table.peer(), table.worker(b"b", b"a")
    jobs = {table.submit(client, function=each): each for each in (b"a", b"b")}
    order = []
    for _ in range(6):
        handle = table.grab(worker)
        assert handle
        order.append(function := jobs[handle])
        if reset:
            table.say(worker, Packet.RESET_ABILITIES)
            table.say(worker, Packet.CAN_DO, b"b")
            table.say(worker, Packet.CAN_DO, b"a")
        else:
            table.say(worker, Packet.CANT_DO, function)
            table.say(worker, Packet.CAN_DO, function)
    assert order == [b"a", b"b"] * 3


@pytest.mark.parametrize("how", ["leaves", "CANT_DO", "RESET_ABILITIES"])
def test_peers_are_served_while_the_jobs_of_a_worker_are_given_back(table: Table, how: str) -> None:
    client, worker = table.peer(), table.worker(b"f")
    for _ in range(3000):
        table.submit(client, Packet.SUBMIT_JOB_BG)
        table.grab(worker)
    function = table.broker.queues.functions[b"f"]
    left = [function.running]
    if how == "leaves":
        table.broker.gone(worker, table.now)
    else:
        table.say(worker, Packet[how], *[b"f"] * (how == "CANT_DO"))
    left.append(function.running)
    while table.tick() <= 0:
        left.append(function.running)
    assert max(before - after for before, after in pairwise(left)) <= 300
    assert (function.running, function.queued) == (0, 3000)


def test_a_job_that_ends_while_others_are_given_back_is_not_given_back(table: Table) -> None:
    client, worker = table.peer(), table.worker(b"f")
    handles = [table.submit(client) for _ in range(1000)]
    for _ in handles:
        table.grab(worker)
    table.say(worker, Packet.CANT_DO, b"f")
    assert table.say(worker, Packet.WORK_COMPLETE, handles[-1], b"") == []
    while table.tick() <= 0:
        pass
    function = table.broker.queues.functions[b"f"]
    assert (function.running, function.queued) == (0, 999)
