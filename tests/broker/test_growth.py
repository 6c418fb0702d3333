"""What one peer can make of the broker's tables costs the others neither time nor memory."""

import sys
from time import process_time

import pytest

from gearman_py.broker.broker import Broker
from gearman_py.broker.limits import (
    MAX_FUNCTIONS_OF_WORKER,
    MAX_FUNCTIONS_WITH_SETTINGS,
    MAX_NAME_WITH_SETTINGS,
    MAX_TIMEOUTS,
    MAX_UNUSED_FUNCTIONS,
    SLICE,
)
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import TEXT, Packet

pytestmark = pytest.mark.usefixtures("uncollected")


def say(broker: Broker, peer: Peer, packet: int, *arguments: bytes, now: float = 0) -> bytes:
    broker.receive(peer, [(packet, list(arguments))], now)
    return b"".join(peer.take())


def hear(data: bytes) -> list[tuple[int, list[bytes]]]:
    return list(Decoder(RESPONSE).feed(data))


def able(broker: Broker, count: int) -> Peer:
    worker = broker.join(1, "")
    messages = [(Packet.CAN_DO, [b"f%d" % number]) for number in range(count)]
    broker.receive(worker, messages, 0)
    return worker


def tick_until_quiet(broker: Broker) -> int:
    """Let the broker do in slices what it has put off; how many ticks that took."""
    ticks = 1
    while broker.tick(0, 0) <= 0:
        ticks += 1
    return ticks


def cost(count: int, *messages: tuple[Packet, list[bytes]]) -> float:
    """CPU seconds of packets of a worker with ``count`` functions, 1 of which has a job."""
    broker = Broker()
    worker = able(broker, count)
    times = []
    for _ in range(5):
        began = process_time()
        for _ in range(100):
            broker.receive(worker, messages, 0)
            worker.take()
        times.append(process_time() - began)
    return min(times)


@pytest.mark.parametrize(
    "messages",
    [
        [(Packet.GRAB_JOB, [])],
        [(Packet.PRE_SLEEP, []), (Packet.GRAB_JOB, [])],
        [(Packet.GET_STATUS_UNIQUE, [b"u"])],
        [
            (Packet.SUBMIT_JOB_BG, [b"f7", b"", b""]),
            (Packet.GRAB_JOB, []),
            (Packet.CANT_DO, [b"f7"]),
            (Packet.CAN_DO, [b"f7"]),
            (Packet.GRAB_JOB, []),
        ],
    ],
    ids=["grab", "sleep", "unique", "job"],
)
def test_packet_costs_the_same_with_ten_and_ten_thousand_functions(
    messages: list[tuple[Packet, list[bytes]]],
) -> None:
    assert cost(10_000, *messages) < 10 * cost(10, *messages)


def cost_without_lease(count: int) -> float:
    """CPU seconds of grabs while other functions have jobs and stored ones are withheld."""
    broker = Broker()
    client, worker = broker.join(1, ""), able(broker, 1)
    for number in range(count):
        say(broker, client, Packet.SUBMIT_JOB, b"g%d" % number, b"", b"")
    broker.queues.lease = 0.0
    times = []
    for _ in range(5):
        began = process_time()
        for _ in range(100):
            say(broker, worker, Packet.GRAB_JOB)
        times.append(process_time() - began)
    return min(times)


def test_grab_costs_the_same_with_ten_and_ten_thousand_functions_while_the_lease_is_over() -> None:
    assert cost_without_lease(10_000) < 10 * cost_without_lease(10)


def test_memory_of_uniques_that_are_gone_is_given_back() -> None:
    broker = Broker()
    client = broker.join(1, "")
    for number in range(20_000):
        say(broker, client, Packet.SUBMIT_JOB, b"f", b"unique-%d" % number, b"")
    broker.queues.shrink()
    full = sys.getsizeof(broker.queues.uniques)
    last = next(iter(broker.queues.jobs))
    for job in list(broker.queues.jobs):
        if job is not last:
            broker.cancel(broker.queues.handle(job))
    broker.queues.shrink()
    assert sys.getsizeof(broker.queues.uniques) < full / 100
    joined = say(broker, broker.join(2, ""), Packet.SUBMIT_JOB, b"f", last.unique, b"")
    assert hear(joined)[0][1] == [broker.queues.handle(last)]


def test_function_that_nothing_uses_is_forgotten() -> None:
    broker = Broker()
    for _ in range(3):
        broker.gone(able(broker, 5000), 0)
        tick_until_quiet(broker)
    assert len(broker.queues.functions) <= MAX_UNUSED_FUNCTIONS
    client = broker.join(1, "")
    for number in range(3 * MAX_UNUSED_FUNCTIONS):
        answer = say(broker, client, Packet.SUBMIT_JOB_BG, b"g%d" % number, b"", b"")
        broker.cancel(hear(answer)[0][1][0])
    assert len(broker.queues.functions) <= MAX_UNUSED_FUNCTIONS


def test_function_of_one_worker_alone_is_forgotten_with_it() -> None:
    broker = Broker()
    worker, client = broker.join(1, ""), broker.join(2, "")
    for name in (b"wc", b"wc@worker1", b"trial@worker1/wc"):
        say(broker, worker, Packet.CAN_DO, name)
    say(broker, worker, Packet.CANT_DO, b"trial@worker1/wc")
    assert set(broker.queues.functions) == {b"wc", b"wc@worker1"}
    say(broker, client, Packet.SUBMIT_JOB_BG, b"wc@worker1", b"", b"")
    broker.gone(worker, 0)
    tick_until_quiet(broker)
    assert set(broker.queues.functions) == {b"wc", b"wc@worker1"}  # one has a job
    again = broker.join(3, "")
    say(broker, again, Packet.CAN_DO, b"wc@worker1")
    (_, (handle, *_)), *_ = hear(say(broker, again, Packet.GRAB_JOB))
    say(broker, again, Packet.WORK_COMPLETE, handle, b"")
    broker.gone(again, 0)
    tick_until_quiet(broker)
    assert set(broker.queues.functions) == {b"wc"}


def test_worker_with_many_functions_leaves_them_in_slices_and_its_job_at_once() -> None:
    broker = Broker()
    leaving, other = able(broker, 5000), able(broker, 1)
    client = broker.join(1, "")
    say(broker, client, Packet.SUBMIT_JOB_BG, b"f0", b"", b"")
    assert hear(say(broker, leaving, Packet.GRAB_JOB))[0][0] == Packet.JOB_ASSIGN
    broker.gone(leaving, 0)
    assert hear(say(broker, other, Packet.GRAB_JOB))[0][0] == Packet.JOB_ASSIGN
    ticks = tick_until_quiet(broker)
    assert 5000 / SLICE - 1 <= ticks <= 5000 / SLICE + 1
    assert list(broker.queues.functions[b"f0"].workers) == [other]
    assert all(
        not function.workers or name == b"f0" for name, function in broker.queues.functions.items()
    )


def test_function_with_a_limit_or_a_job_is_kept() -> None:
    broker = Broker()
    client = broker.join(1, "")
    say(broker, client, TEXT, b"maxqueue limited 5")
    say(broker, client, Packet.SUBMIT_JOB_BG, b"queued", b"", b"")
    broker.gone(able(broker, 5000), 0)
    assert {b"limited", b"queued"} <= broker.queues.functions.keys()


@pytest.mark.parametrize(
    ("kept", "ended"),
    [
        (b"maxqueue %b 5", b"maxqueue %b"),
        (b"pause %b", b"resume %b"),
        (b"limit %b running=5", b"limit %b running=0"),
    ],
)
def test_operator_commands_make_only_a_bounded_number_of_functions(
    kept: bytes, ended: bytes
) -> None:
    broker = Broker()
    peer = broker.join(1, "")

    def type_line(line: bytes) -> bytes:
        return say(broker, peer, TEXT, line)

    for number in range(MAX_FUNCTIONS_WITH_SETTINGS):
        assert type_line(kept % b"f%d" % number) == b"OK\r\n"
    refusal = type_line(kept % b"one-more")
    assert refusal.startswith(b"ERR QUEUE_ERROR 10000+functions+are+limited+or+paused")
    assert type_line(kept % b"f7") == b"OK\r\n", "it has settings"
    assert say(broker, peer, Packet.CAN_DO, b"one-more") == b"", "others may use new functions"
    assert type_line(kept % b"one-more") == refusal
    assert type_line(ended % b"f0") == b"OK\r\n"
    assert type_line(kept % b"one-more") == b"OK\r\n"
    assert type_line(kept % (b"f" * (MAX_NAME_WITH_SETTINGS + 1))).startswith(b"ERR QUEUE_ERROR")
    for number in range(MAX_FUNCTIONS_WITH_SETTINGS):
        type_line(ended % b"f%d" % number)
    assert len(broker.queues.functions) <= MAX_UNUSED_FUNCTIONS + 1


def test_worker_may_register_many_functions_but_not_any_number() -> None:
    broker = Broker()
    worker = able(broker, MAX_FUNCTIONS_OF_WORKER)
    assert not worker.owed
    ((kind, _),) = hear(say(broker, worker, Packet.CAN_DO, b"one more"))
    assert kind == Packet.ERROR
    assert say(broker, worker, Packet.CAN_DO, b"f0") == b""


def test_names_of_a_worker_take_a_bounded_part_of_the_memory() -> None:
    broker = Broker()
    worker = broker.join(1, "")
    long = [b"%05d" % number + bytes(4000) for number in range(2000)]
    answers = [say(broker, worker, Packet.CAN_DO, name) for name in long]
    taken = answers.count(b"")
    assert 500 < taken < 1100, "these names take 4 MiB"
    assert len(broker.queues.functions) == taken, "a function that is refused is not created"
    assert say(broker, worker, Packet.CAN_DO, long[0]) == b"", "it has that one"
    assert say(broker, worker, Packet.CAN_DO, b"a short one") == b""
    assert say(broker, broker.join(2, ""), Packet.CAN_DO, long[-1]) == b"", "others may"


def test_listing_of_many_jobs_comes_in_parts_and_before_what_is_said_later() -> None:
    broker = Broker()
    client = broker.join(1, "")
    for number in range(5000):
        say(broker, client, Packet.SUBMIT_JOB_BG, b"f", b"unique-%d" % number, b"")
    asked = [(TEXT, [b"show unique jobs"]), (TEXT, [b"version"])]
    rest = broker.receive(client, asked, 0)
    parts = [b"".join(client.take())]
    while rest or client.owed:
        rest = broker.receive(client, rest, 0)
        parts.append(b"".join(client.take()))
    assert len(parts) > 1
    rows = [b"unique-%d" % number for number in range(5000)]
    assert b"".join(parts).split(b"\n") == [*rows, b".", b"OK ", b""]


def test_jobs_that_can_be_moved_are_searched_for_in_slices() -> None:
    broker = Broker()
    client, operator = broker.join(1, ""), broker.join(2, "", operator=True)
    for _ in range(5000):
        say(broker, client, Packet.SUBMIT_JOB, b"stays", b"", b"")
    say(broker, client, Packet.SUBMIT_JOB_BG, b"f", b"", b"moves")
    say(broker, client, Packet.SUBMIT_JOB_BG, b"f", b"", b"ends")
    worker = broker.join(3, "")
    say(broker, worker, Packet.CAN_DO, b"f")
    listing = [say(broker, operator, TEXT, b"move jobs")]
    assert hear(say(broker, worker, Packet.GRAB_JOB)) == [(Packet.NO_JOB, [])], "none is assigned"
    while operator.listing:
        operator.continue_listing()
        listing.append(b"".join(operator.take()))
    assert len(listing) > 10
    *rows, end = b"".join(listing).splitlines()
    assert ([row.rpartition(b"\t")[2] for row in rows], end) == ([b"bW92ZXM=", b"ZW5kcw=="], b".")


def test_search_for_jobs_to_move_that_finds_none_has_jobs_assigned_again() -> None:
    broker = Broker()
    client, operator = broker.join(1, ""), broker.join(2, "", operator=True)
    for number in range(1000):
        kind = Packet.SUBMIT_JOB if number < 999 else Packet.SUBMIT_JOB_BG
        say(broker, client, kind, b"f", b"", b"")
    say(broker, operator, TEXT, b"move jobs")
    (last,) = (job for job in broker.queues.jobs if job.background)
    broker.cancel(broker.queues.handle(last))
    answer = b""
    while operator.listing:
        operator.continue_listing()
        answer += b"".join(operator.take())
    assert answer == b".\n"
    worker = broker.join(3, "")
    say(broker, worker, Packet.CAN_DO, b"f")
    assert hear(say(broker, worker, Packet.GRAB_JOB))[0][0] == Packet.JOB_ASSIGN


def test_jobs_that_are_due_at_one_time_are_queued_in_slices() -> None:
    broker = Broker()
    client = broker.join(1, "")
    count = 3 * SLICE
    for _ in range(count):
        say(broker, client, Packet.SUBMIT_JOB_EPOCH, b"f", b"", b"10", b"")
    function = broker.queues.functions[b"f"]
    steps = []
    while function.queued < count:
        following = broker.tick(100, 100)
        steps.append(function.queued)
        assert following <= 100 or function.queued == count, "it is to be called again at once"
    assert steps == [SLICE, 2 * SLICE, count]


def test_client_of_many_jobs_leaves_in_slices() -> None:
    broker = Broker()
    client = broker.join(1, "")
    for _ in range(3 * SLICE):
        say(broker, client, Packet.SUBMIT_JOB, b"f", b"", b"")
    broker.gone(client, 0)
    assert 0 < len(broker.queues.jobs) < 3 * SLICE
    for _ in range(3):
        broker.tick(0, 0)
    assert not len(broker.queues.jobs)


def test_late_result_counts_while_nobody_else_has_the_job() -> None:
    broker = Broker()
    client, worker = broker.join(1, ""), broker.join(2, "")
    say(broker, worker, Packet.CAN_DO_TIMEOUT, b"f", b"1000")
    say(broker, client, Packet.SUBMIT_JOB, b"f", b"", b"")
    handle = hear(say(broker, worker, Packet.GRAB_JOB))[0][1][0]
    broker.tick(1.5, 1.5)
    assert say(broker, worker, Packet.WORK_COMPLETE, handle, b"late", now=1.6) == b""
    assert hear(b"".join(client.take())) == [(Packet.WORK_COMPLETE, [handle, b"late"])]
    assert not len(broker.queues.jobs)


def test_late_result_does_not_count_once_another_has_the_job() -> None:
    broker = Broker()
    client, slow, quick = (broker.join(number, "") for number in range(3))
    for worker in slow, quick:
        say(broker, worker, Packet.CAN_DO_TIMEOUT, b"f", b"1000")
    say(broker, client, Packet.SUBMIT_JOB, b"f", b"", b"")
    handle = hear(say(broker, slow, Packet.GRAB_JOB))[0][1][0]
    broker.tick(1.5, 1.5)
    say(broker, quick, Packet.GRAB_JOB, now=1.5)
    ((kind, _),) = hear(say(broker, slow, Packet.WORK_COMPLETE, handle, b"late", now=1.6))
    assert kind == Packet.ERROR
    assert client.take() == []


@pytest.mark.parametrize("background", [False, True])
def test_job_that_is_always_late_fails_for_who_waits_and_else_is_tried_on(
    background: bool,
) -> None:
    broker = Broker()
    client, worker = broker.join(1, ""), broker.join(2, "")
    say(broker, worker, Packet.CAN_DO_TIMEOUT, b"f", b"1000")
    submit = Packet.SUBMIT_JOB_BG if background else Packet.SUBMIT_JOB
    say(broker, client, submit, b"f", b"", b"")
    for attempt in range(MAX_TIMEOUTS):
        assert not client.owed
        say(broker, worker, Packet.GRAB_JOB, now=attempt * 10)
        broker.tick(attempt * 10 + 5, 0)
    heard = [kind for kind, _ in hear(b"".join(client.take()))]
    assert heard == ([] if background else [Packet.WORK_FAIL])
    assert len(broker.queues.jobs) == background


def reset_cost(count: int) -> float:
    """CPU seconds for which a worker with ``count`` functions that resets them holds the others."""
    times = []
    for _ in range(5):
        broker = Broker()
        worker = able(broker, count)
        began = process_time()
        broker.receive(worker, [(Packet.RESET_ABILITIES, [])], 0)
        times.append(process_time() - began)
        tick_until_quiet(broker)
        assert not any(function.workers for function in broker.queues.functions.values())
    return min(times)


@pytest.mark.slow
def test_reset_of_many_functions_is_done_in_slices() -> None:
    assert reset_cost(MAX_FUNCTIONS_OF_WORKER) < 5 * reset_cost(SLICE)


def test_reset_counts_at_once_and_what_is_registered_after_it_stays() -> None:
    broker = Broker()
    worker, client = able(broker, 3 * SLICE), broker.join(2, "")
    say(broker, client, Packet.SUBMIT_JOB_BG, b"f0", b"", b"")
    say(broker, client, Packet.SUBMIT_JOB_BG, b"f1", b"", b"")
    say(broker, worker, Packet.RESET_ABILITIES)
    assert hear(say(broker, worker, Packet.GRAB_JOB)) == [(Packet.NO_JOB, [])]
    say(broker, worker, Packet.CAN_DO, b"f1")
    assert tick_until_quiet(broker) > 1
    workers = {
        function.name: len(function.workers) for function in broker.queues.functions.values()
    }
    assert (workers.pop(b"f1"), set(workers.values())) == (1, {0})
    ((number, arguments),) = hear(say(broker, worker, Packet.GRAB_JOB))
    assert (number, arguments[1]) == (Packet.JOB_ASSIGN, b"f1")
    assert hear(say(broker, worker, Packet.GRAB_JOB)) == [(Packet.NO_JOB, [])]


def test_worker_that_sleeps_and_has_reset_is_not_woken_in_place_of_another() -> None:
    broker = Broker()
    former, client = able(broker, 3 * SLICE), broker.join(2, "")
    say(broker, former, Packet.PRE_SLEEP)
    say(broker, former, Packet.RESET_ABILITIES)
    other = broker.join(3, "")
    say(broker, other, Packet.CAN_DO, b"f0")
    say(broker, other, Packet.PRE_SLEEP)
    say(broker, client, Packet.SUBMIT_JOB_BG, b"f0", b"", b"")
    assert hear(b"".join(other.take())) == [(Packet.NOOP, [])]
    assert former.take() == []
