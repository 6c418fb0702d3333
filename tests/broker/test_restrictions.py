"""Functions of which not every job is given out: paused, limited or rationed."""

from random import Random
from time import process_time

import pytest

from gearman_py.broker import restrictions
from gearman_py.broker.broker import Broker
from gearman_py.broker.key_limits import KeyLimit
from gearman_py.broker.queues import Queues
from gearman_py.broker.rates import RateLimit
from gearman_py.broker.state import NORMAL, BrokerJob, Peer
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import TEXT, Packet
from tests.broker.snapshots import hand_over

pytestmark = pytest.mark.usefixtures("uncollected")


def ask(broker: Broker, peer: Peer, *messages: tuple[Packet, list[bytes]]) -> list[str]:
    """The names of the packets that answer; of jobs, their workloads."""
    broker.receive(peer, messages, 0)
    heard = Decoder(RESPONSE).feed(b"".join(peer.take()))
    return [
        arguments[-1].decode() if number == Packet.JOB_ASSIGN else Packet(number).name
        for number, arguments in heard
    ]


GRAB = (Packet.GRAB_JOB, list[bytes]())
SLEEP = (Packet.PRE_SLEEP, list[bytes]())


@pytest.fixture(params=[False, True], ids=["by priority", "by function"])
def broker(request: pytest.FixtureRequest) -> Broker:
    return Broker(Queues(function_first=request.param, rotate=False))


def submit(broker: Broker, client: Peer, name: bytes, *workloads: bytes) -> None:
    for workload in workloads:
        ask(broker, client, (Packet.SUBMIT_JOB_BG, [name, b"", workload]))


def test_no_more_jobs_than_the_ration_are_given_out_and_those_of_others_are(
    broker: Broker,
) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"small"]), (Packet.CAN_DO, [b"large"]))
    submit(broker, client, b"large", b"l1", b"l2", b"l3")
    submit(broker, client, b"small", b"s1")
    broker.queues.ration(broker.queues.function(b"large"), 2, 0)
    submit(broker, client, b"large", b"l4")
    given = ask(broker, worker, *[GRAB] * 5)
    assert sorted(given) == ["NO_JOB", "NO_JOB", "l1", "l2", "s1"]
    submit(broker, client, b"small", b"s2")
    assert ask(broker, worker, GRAB, GRAB) == ["s2", "NO_JOB"]
    broker.queues.end_rations(0)
    assert ask(broker, worker, GRAB, GRAB, GRAB) == ["l3", "l4", "NO_JOB"]


def test_workers_sleep_until_there_is_a_ration_for_them(broker: Broker) -> None:
    client = broker.join(1, "")
    workers = [broker.join(number, "") for number in (2, 3, 4)]
    large = broker.queues.function(b"large")
    broker.queues.ration(large, 0, 0)
    for worker in workers:
        ask(broker, worker, (Packet.CAN_DO, [b"large"]))
    submit(broker, client, b"large", b"l1", b"l2", b"l3")
    for worker in workers:
        assert ask(broker, worker, GRAB, SLEEP) == ["NO_JOB"]
    submit(broker, client, b"large", b"l4")
    broker.tick(2, 2)  # nor is one woken later
    assert [ask(broker, worker) for worker in workers] == [[], [], []]
    broker.queues.ration(large, 2, 2)
    assert sorted(ask(broker, worker) for worker in workers) == [[], ["NOOP"], ["NOOP"]]
    broker.queues.end_rations(2)
    assert sum(ask(broker, worker) == ["NOOP"] for worker in workers) == 1


def test_a_server_that_ends_gives_out_nothing_all_the_same(broker: Broker) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"large"]))
    submit(broker, client, b"large", b"l1")
    broker.queues.close()
    broker.queues.ration(broker.queues.function(b"large"), 1, 0)
    assert ask(broker, worker, GRAB) == ["NO_JOB"]
    broker.queues.end_rations(0)
    assert ask(broker, worker, GRAB) == ["NO_JOB"]


def complete(handle: bytes) -> tuple[Packet, list[bytes]]:
    return (Packet.WORK_COMPLETE, [handle, b""])


def test_paused_function_takes_jobs_and_gives_none_until_it_is_resumed(broker: Broker) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]), SLEEP)
    function = broker.queues.function(b"f")
    broker.queues.pause(function, 0)
    submit(broker, client, b"f", b"1")
    assert ask(broker, worker, GRAB, SLEEP) == ["NO_JOB"]
    broker.queues.resume(function, 0)
    assert ask(broker, worker, GRAB) == ["NOOP", "1"]


def test_paused_server_takes_jobs_and_gives_none_until_it_is_resumed(broker: Broker) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]), (Packet.CAN_DO, [b"g"]), SLEEP)
    broker.queues.pause_server()
    broker.queues.pause(broker.queues.function(b"f"), 0)
    submit(broker, client, b"f", b"1")
    submit(broker, client, b"g", b"2")
    assert ask(broker, worker, GRAB, SLEEP) == ["NO_JOB"]
    broker.queues.resume(broker.queues.function(b"f"), 0)
    broker.queues.close()  # as an operator moves jobs
    broker.queues.reopen(0)
    assert ask(broker, worker, GRAB, SLEEP) == ["NO_JOB"]
    broker.queues.resume_server(0)
    assert ask(broker, worker)[:1] == ["NOOP"]
    assert sorted(ask(broker, worker, GRAB, GRAB)) == ["1", "2"]


def test_pause_outlives_jobs_and_workers(broker: Broker) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    broker.queues.pause(broker.queues.function(b"f"), 0)
    for number in range(2000):  # that many unused functions are forgotten
        broker.queues.function(b"%d" % number)
    submit(broker, client, b"f", b"1")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    assert ask(broker, worker, GRAB) == ["NO_JOB"]


def test_ended_job_of_a_limited_function_is_followed_by_one_of_the_same_worker(
    broker: Broker,
) -> None:
    client, busy, idle = (broker.join(number, "") for number in (1, 2, 3))
    broker.queues.limit_running(broker.queues.function(b"f"), 1, 0)
    for worker in (busy, idle):
        ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    submit(broker, client, b"f", b"1", b"2", b"3")
    assert ask(broker, busy, GRAB) == ["1"]
    assert ask(broker, idle, GRAB, SLEEP) == ["NO_JOB"]
    assert ask(broker, busy, complete(b"H:localhost:1"), GRAB) == ["2"]
    broker.tick(0.5, 0)
    assert ask(broker, idle) == []
    # When the worker does not ask again, another is woken within a moment.
    assert ask(broker, busy, complete(b"H:localhost:2")) == []
    assert broker.queues.next_event < 0.5
    broker.tick(0.5, 0)
    assert ask(broker, idle, GRAB) == ["NOOP", "3"]


def test_worker_that_falls_asleep_as_a_limited_job_ends_is_woken(broker: Broker) -> None:
    client, busy, idle = (broker.join(number, "") for number in (1, 2, 3))
    broker.queues.limit_running(broker.queues.function(b"f"), 1, 0)
    for worker in (busy, idle):
        ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    submit(broker, client, b"f", b"1", b"2")
    assert ask(broker, busy, GRAB) == ["1"]
    assert ask(broker, idle, GRAB) == ["NO_JOB"]
    assert ask(broker, busy, complete(b"H:localhost:1")) == []
    assert ask(broker, idle, SLEEP) == ["NOOP"]


def test_no_more_jobs_are_started_in_any_period_than_the_rate_allows(broker: Broker) -> None:
    client, busy, idle = (broker.join(number, "") for number in (1, 2, 3))
    broker.queues.limit_rate(broker.queues.function(b"f"), RateLimit("2/s"), 0)
    for worker in (busy, idle):
        ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    submit(broker, client, b"f", b"1", b"2", b"3", b"4", b"5")
    assert ask(broker, busy, GRAB) == ["1"]
    broker.receive(busy, [GRAB], 0.6)
    busy.take()
    assert ask(broker, idle, GRAB, SLEEP) == ["NO_JOB"]
    assert broker.queues.next_event == 1
    broker.tick(1, 0)  # the first was started a second ago, the other was not
    assert ask(broker, idle) == ["NOOP"]
    broker.receive(idle, [GRAB, GRAB], 1)
    given = Decoder(RESPONSE).feed(b"".join(idle.take()))
    assert [number for number, _ in given] == [Packet.JOB_ASSIGN, Packet.NO_JOB]


def submit_keyed(broker: Broker, client: Peer, *uniques: bytes) -> None:
    """Jobs whose workloads are their uniques."""
    for unique in uniques:
        ask(broker, client, (Packet.SUBMIT_JOB_BG, [b"f", unique, unique]))


def test_no_more_jobs_of_a_key_run_than_its_limit_allows(broker: Broker) -> None:
    client, busy, idle = (broker.join(number, "") for number in (1, 2, 3))
    function = broker.queues.function(b"f")
    for worker in (busy, idle):
        ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    submit_keyed(broker, client, b"a:1", b"a:2", b"b:1", b"a:3", b"a", b"", b"b:2", b"ab:1")
    assert ask(broker, busy, GRAB) == ["a:1"]
    broker.queues.limit_per_key(function, KeyLimit(1), 0)
    assert ask(broker, busy, *[GRAB] * 4) == ["b:1", "", "ab:1", "NO_JOB"]
    assert ask(broker, idle, GRAB, SLEEP) == ["NO_JOB"]
    submit_keyed(broker, client, b"b:3")
    assert ask(broker, idle) == [], "it would be given nothing"
    broker.queues.limit_per_key(function, KeyLimit(2), 0)
    assert ask(broker, idle, *[GRAB] * 3) == ["NOOP", "a:2", "b:2", "NO_JOB"]
    broker.queues.limit_per_key(function, None, 0)
    assert ask(broker, idle, *[GRAB] * 4) == ["a:3", "a", "b:3", "NO_JOB"]


def test_key_is_the_unique_up_to_the_separator(broker: Broker) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    broker.queues.limit_per_key(broker.queues.function(b"f"), KeyLimit(1, b"--"), 0)
    submit_keyed(broker, client, b"a-1--1", b"a-2--1", b"a-1--2", b"a-1")
    assert ask(broker, worker, *[GRAB] * 3) == ["a-1--1", "a-2--1", "NO_JOB"]


def test_jobs_of_full_keys_cost_others_nothing(broker: Broker) -> None:
    """A grab costs the same with ten and with ten thousand of them."""

    def cost(count: int) -> float:
        client, worker = broker.join(1, ""), broker.join(2, "")
        ask(broker, worker, (Packet.CAN_DO, [b"f"]))
        broker.queues.limit_per_key(broker.queues.function(b"f"), KeyLimit(1), 0)
        submit_keyed(broker, client, *[b"full:%d" % number for number in range(count)])
        ask(broker, worker, GRAB)
        times = []
        for attempt in range(5):
            began = process_time()
            for number in range(50):
                submit_keyed(broker, client, b"%d-%d:" % (attempt, number))
                assert ask(broker, worker, GRAB, GRAB)[1:] == ["NO_JOB"]
            times.append(process_time() - began)
        broker.gone(worker, 0)
        for job in list(broker.queues.jobs):
            broker.cancel(broker.queues.handle(job))
        return min(times)

    assert cost(10_000) < 10 * cost(10)


def test_removed_jobs_of_a_full_key_are_not_remembered(broker: Broker) -> None:
    client = broker.join(1, "")
    function = broker.queues.function(b"f")
    limit = KeyLimit[BrokerJob](1)
    broker.queues.limit_per_key(function, limit, 0)
    submit_keyed(broker, client, *[b"a:%d" % number for number in range(1000)])
    for job in list(broker.queues.jobs)[1:]:
        broker.cancel(broker.queues.handle(job))
    (line,) = limit.queues[NORMAL]._lines.values()
    assert len(line.entries) < 100


def command(broker: Broker, line: bytes) -> None:
    operator = broker.join(9, "")
    broker.receive(operator, [(TEXT, [line])], 0)
    assert b"".join(operator.take()) == b"OK\r\n"
    broker.gone(operator, 0)


def run_limit_commands(broker: Broker, *limits: str) -> list[float]:
    """The CPU times of the commands, and of each turn of the loop until all is done."""
    times = list[float]()
    for text in limits:
        began = process_time()
        command(broker, b"limit f " + text.encode())
        times.append(process_time() - began)
    while broker.queues.next_event <= 0:
        began = process_time()
        broker.tick(0, 0)
        times.append(process_time() - began)
    return times


@pytest.mark.parametrize("limits", [["per-key=2"], ["per-key=2", "per-key=0"]])
def test_peers_are_served_while_the_keys_of_queued_and_running_jobs_are_counted(
    broker: Broker, limits: list[str]
) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    submit_keyed(broker, client, *[b"%d:%d" % (n % 999, n) for n in range(20_000)])
    ask(broker, worker, *[GRAB] * 5_000)
    times = run_limit_commands(broker, limits[0])
    for limit in limits[1:]:
        times = run_limit_commands(broker, limit)
    assert max(times) < sum(times) / 5


def test_a_job_whose_key_has_room_is_given_out_before_all_keys_are_counted(broker: Broker) -> None:
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    submit_keyed(broker, client, b"a:1", *[b"b:%d" % n for n in range(2000)], b"c:1")
    command(broker, b"limit f per-key=1")
    assert ask(broker, worker, GRAB, GRAB, GRAB, SLEEP) == ["a:1", "b:0", "NO_JOB"]
    while broker.queues.next_event <= 0:
        broker.tick(0, 0)
    assert ask(broker, worker, GRAB, GRAB) == ["NOOP", "c:1", "NO_JOB"]


def test_jobs_that_were_copied_ahead_are_given_out_after_a_reload(broker: Broker) -> None:
    """The limit is known only then, and they are more than are looked at in one turn."""
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    command(broker, b"limit f per-key=1")
    submit_keyed(broker, client, *[b"%d:x" % n for n in range(1000)])
    broker.tick(1, 0)  # what has just come is not copied ahead
    broker, (client, worker) = hand_over(broker, [client, worker])
    assert ask(broker, worker, GRAB) == ["0:x"]
    while broker.queues.next_event <= 0:
        broker.tick(0, 0)
    assert ask(broker, worker, *[GRAB] * 1000) == [f"{n}:x" for n in range(1, 1000)] + ["NO_JOB"]


@pytest.mark.parametrize("seed", range(20))
def test_limits_per_key_hold_whenever_they_are_changed(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of a key are given out in order, each once, and no more at a time than may run."""
    monkeypatch.setattr(restrictions, "KEY_SLICE", 3)
    random = Random(seed)  # noqa: S311 - to be repeatable
    broker = Broker()
    client, worker = broker.join(1, ""), broker.join(2, "")
    ask(broker, worker, (Packet.CAN_DO, [b"f"]))
    most, waiting, running = 0, dict[bytes, list[int]](), list[tuple[bytes, bytes]]()
    for step in range(800):
        match random.choice(["submit", "submit", "grab", "grab", "end", "cancel", "limit", "tick"]):
            case "submit":
                key = b"%d" % random.randrange(5)
                submit_keyed(broker, client, b"%b:%d" % (key, step))
                waiting.setdefault(key, []).append(step)
            case "grab":
                broker.receive(worker, [GRAB], 0)
                for _, arguments in Decoder(RESPONSE).feed(b"".join(worker.take())):
                    if arguments:
                        key, _, number = arguments[-1].partition(b":")
                        assert not most or [key for key, _ in running].count(key) < most
                        assert int(number) == waiting[key].pop(0)
                        running.append((key, arguments[0]))
            case "end" if running:
                _, handle = running.pop(random.randrange(len(running)))
                ask(broker, worker, (Packet.WORK_COMPLETE, [handle, b""]))
            case "cancel" if queued := [job for job in broker.queues.jobs if job.queued]:
                job = random.choice(queued)
                key, _, number = job.workload.partition(b":")
                waiting[key].remove(int(number))
                broker.cancel(broker.queues.handle(job))
            case "limit":
                most = random.choice([0, 1, 2, 2, 3])
                command(broker, b"limit f per-key=%d" % most)
            case "tick":
                broker.tick(0, 0)
    command(broker, b"limit f per-key=0")
    while broker.queues.next_event <= 0:
        broker.tick(0, 0)
    left = sorted(number for numbers in waiting.values() for number in numbers)
    assert [name.split(":")[1] for name in ask(broker, worker, *[GRAB] * len(left))] == [
        str(number) for number in left
    ]


@pytest.mark.parametrize("text", ["", "0", "0/s", "5", "5/", "5/0s", "-5/s", "5/w", "5/s s"])
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate; expected one such as 100/s or 10/30m"):
        RateLimit(text)
