"""Ordinary jobs in C: the same bytes and the same state as by the handlers in Python."""

import gc
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from gearman_py.broker.broker import FACTS, HANDLERS, Broker, handle_messages
from gearman_py.broker.limits import MAX_SUBMITTED
from gearman_py.broker.queues import Queues
from gearman_py.broker.state import BrokerJob, Function, Peer
from gearman_py.protocol.codec import LARGE, Message
from gearman_py.protocol.packets import TEXT, Packet
from tests.properties import UNSHRUNK, depth


@pytest.fixture(scope="session")
def twins(native: Any) -> Any:
    """The accelerator, told of the broker."""
    native.slots = native.learn_broker(FACTS)
    return native


def dump(broker: Broker) -> object:
    """All that the broker refers to: equal for brokers in the same state."""
    places: dict[int, int] = {}

    def walk(value: Any) -> object:
        if isinstance(value, list | tuple | deque):
            items: object = [walk(each) for each in value]
            return items if type(value) in (list, tuple, deque) else (items, *slots(value))
        if isinstance(value, dict):
            return [(walk(key), walk(each)) for key, each in value.items()], *slots(value)
        if isinstance(value, set):
            if {type(each).__module__ for each in value} <= {"builtins"}:
                return sorted(value, key=repr)
            return sorted(getattr(each, "name", None) or each.number for each in value)
        if value is None or isinstance(value, int | float | bytes | str):
            return value
        if not type(value).__module__.startswith("gearman_py."):
            return None
        if id(value) in places:
            return places[id(value)]
        places[id(value)] = len(places)
        return type(value).__name__, *slots(value)

    def slots(value: Any) -> Iterator[object]:
        for name in slot_names(value.__class__):
            found = getattr(value, name, "unset")
            # What a peer leaves behind is dropped in the order of a set.
            yield name, walk(set(found) if name == "_unused" else found)

    return (
        *(walk(broker.queues), walk(list(broker.peers)), [walk(peer) for peer in broker.dirty]),
        broker.queues.counts.received_packets(),
    )


@cache
def slot_names(cls: type) -> list[str]:
    names = [name for base in cls.__mro__ for name in sorted(vars(base).get("__slots__", ()))]
    return [name for name in names if name != "packets"]  # see received_packets


FUNCTIONS = [b"f", b"g"]
names = st.sampled_from([*FUNCTIONS * 10, b"h", b"x" * 8193])
fresh = st.integers(0, 10**9).map(b"%d".__mod__)
uniques = fresh | fresh | st.sampled_from([b"", b"u", b"v", b"-", b"x" * 64, b"x" * 65])
workloads = st.sampled_from([0, 1, 3, LARGE - 1, LARGE]).map(bytes)
SUBMISSIONS = [
    *(Packet.SUBMIT_JOB, Packet.SUBMIT_JOB_HIGH, Packet.SUBMIT_JOB_LOW),
    *(Packet.SUBMIT_JOB_BG, Packet.SUBMIT_JOB_HIGH_BG, Packet.SUBMIT_JOB_LOW_BG),
]
GRABS = [Packet.GRAB_JOB, Packet.GRAB_JOB_UNIQ, Packet.GRAB_JOB_ALL]
LIFTED = [b"resume f", b"limit f running=0 rate=0 per-key=0", b"maxqueue f 0"]
COMMANDS = [
    *(b"pause f", b"limit f running=1", b"limit f rate=1/s"),
    *(b"maxqueue f 1", b"limit f per-key=1", b"drop function g"),
]
PEERS = 4


class InBoth(RuleBasedStateMachine):
    """Two brokers that are told the same, one by the handlers in Python, one by their twins."""

    twins: Any

    @initialize(
        wakeup=st.sampled_from([1, 1, 1, 0, 2]),
        function_first=st.sampled_from([False, False, False, True]),
        rotate=st.booleans(),
        durable=st.sampled_from([False] * 9 + [True]),
    )
    def begin(self, **options: Any) -> None:
        self.now = 1000.0
        self.brokers = [Broker(Queues(b"H:x", **options)) for _ in range(2)]
        self.peers = [
            [broker.join(number, "", operator=True) for number in range(PEERS)]
            for broker in self.brokers
        ]
        self.heard: list[list[bytes]] = [[], []]
        for function in FUNCTIONS:
            for number in (1, 2):
                self.tell(number, (Packet.CAN_DO, [function]))
            # The first job of a priority makes its queue, which is done in Python.
            self.tell(0, *[(packet, [function, b"", b""]) for packet in SUBMISSIONS])

    def tell(self, number: int, *messages: Message) -> None:
        for broker, peers, handle in zip(
            self.brokers, self.peers, (handle_messages, self.twins.handle_messages), strict=True
        ):
            broker.now = self.now
            left = list(messages)
            while left and peers[number].max_owed >= 0:
                done = handle(broker, peers[number], left)
                left = left[done:]
                if left:
                    peers[number].take()
        self.compare()

    def lift_restrictions(self) -> None:
        """Most jobs are ordinary ones."""
        for broker, peers in zip(self.brokers, self.peers, strict=True):
            for command in LIFTED:
                handle_messages(broker, peers[0], [(TEXT, [command])])
            broker.queues.end_rations(self.now)
            broker.queues.full = False
            for peer in peers:
                peer.take()

    def compare(self) -> None:
        first, second = map(dump, self.brokers)
        assert first == second

    peer = st.sampled_from([1, 2, 1, 2, 0, 3])  # two are workers from the beginning
    often = st.sampled_from([True, True, True, False])

    @rule(
        number=peer,
        submissions=st.lists(
            st.tuples(st.sampled_from(SUBMISSIONS), names, uniques, workloads), max_size=4
        ),
        ordinary=often,
    )
    def submit(
        self,
        number: int,
        submissions: list[tuple[Packet, bytes, bytes, bytes]],
        ordinary: bool,
    ) -> None:
        if ordinary:
            self.lift_restrictions()
        self.tell(number, *[(packet, list(arguments)) for packet, *arguments in submissions])

    @rule(number=peer, packet=st.sampled_from(GRABS), times=st.integers(1, 3), ordinary=often)
    def grab(self, number: int, packet: Packet, times: int, ordinary: bool) -> None:
        if ordinary:
            self.lift_restrictions()
        self.tell(number, *[(packet, [])] * times, (Packet.PRE_SLEEP, []))

    @rule(
        number=peer,
        packet=st.sampled_from([Packet.WORK_COMPLETE] * 6 + [Packet.WORK_FAIL, Packet.WORK_STATUS]),
        result=workloads,
        sleeps=st.booleans(),
    )
    def end(self, number: int, packet: Packet, result: bytes, sleeps: bool) -> None:
        if not self.peers[0][number].running:
            numbers = range(PEERS)
            number = next((each for each in numbers if self.peers[0][each].running), number)
        handle = next(iter(self.peers[0][number].running), b"H:x:7")
        rest = {Packet.WORK_COMPLETE: [result], Packet.WORK_STATUS: [b"1", b"2"]}.get(packet, [])
        after = Packet.PRE_SLEEP if sleeps else Packet.GRAB_JOB
        self.tell(number, (packet, [handle, *rest]), (after, []))

    @rule(number=st.sampled_from([1, 2]), grab=st.sampled_from(GRABS))
    def do_all(self, number: int, grab: Packet) -> None:
        """Do all jobs that may be given out, and sleep."""
        self.lift_restrictions()
        for _ in range(50):
            self.tell(number, (grab, []))
            for peers in self.peers:
                peers[number].take()
            if not self.peers[0][number].running:
                break
            for handle in list(self.peers[0][number].running):
                self.tell(number, (Packet.WORK_COMPLETE, [handle, b"result"]))
        self.tell(number, (Packet.PRE_SLEEP, []))

    @rule(
        number=peer,
        message=st.sampled_from(
            [
                (Packet.CAN_DO, [b"f"]),
                (Packet.CAN_DO_TIMEOUT, [b"g", b"2000"]),
                (Packet.CANT_DO, [b"f"]),
                (Packet.RESET_ABILITIES, []),
                (Packet.OPTION_REQ, [b"retries"]),
                (Packet.SUBMIT_JOB_EPOCH, [b"f", b"e", b"1001", b""]),
                (Packet.SUBMIT_REDUCE_JOB, [b"f", b"", b"r", b"", b"w"]),
                (Packet.NOOP, []),
            ]
        ),
    )
    def say_something_else(self, number: int, message: Message) -> None:
        self.tell(number, message)

    @rule(command=st.sampled_from(COMMANDS))
    def command(self, command: bytes) -> None:
        self.tell(0, (TEXT, [command]))

    @rule(full=st.booleans())
    def memory_is_scarce(self, full: bool) -> None:
        for broker in self.brokers:
            broker.queues.full = full

    @rule(jobs=st.sampled_from([None, 0, 1]))
    def ration(self, jobs: int | None) -> None:
        for broker in self.brokers:
            if jobs is None:
                broker.queues.end_rations(self.now)
            else:
                broker.queues.ration(broker.queues.function(b"f"), jobs, self.now)

    @precondition(lambda self: self.brokers[0].queues.durable)
    @rule()
    def store(self) -> None:
        for broker in self.brokers:
            broker.stored(broker.queues.changes.take(deliveries=True), self.now)
        self.compare()

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for broker in self.brokers:
            broker.tick(self.now, self.now)
        self.compare()

    @rule(number=peer)
    def leave(self, number: int) -> None:
        for broker, peers in zip(self.brokers, self.peers, strict=True):
            broker.gone(peers[number], self.now)
            peers[number] = broker.join(number, "", operator=True)
        self.tell(number, (Packet.CAN_DO, [b"f"]), (Packet.PRE_SLEEP, []))

    @rule(number=peer)
    def read(self, number: int) -> None:
        first, second = (peers[number].take() for peers in self.peers)
        assert first == second


@pytest.mark.slow
def test_any_conversation_is_the_same(twins: Any) -> None:
    machine = type("Machine", (InBoth,), {"twins": twins})
    bounds = settings(max_examples=depth(100), stateful_step_count=30, phases=UNSHRUNK)
    run_machine(machine, settings=bounds)


NOT_ORDINARY: list[Message] = [
    *((TEXT, [command]) for command in [*COMMANDS, b"server pause"]),
    (Packet.OPTION_REQ, [b"retries"]),
    (Packet.CAN_DO_TIMEOUT, [b"f", b"2000"]),
    (Packet.RESET_ABILITIES, []),
]


@pytest.mark.parametrize("message", NOT_ORDINARY, ids=str)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("options", [{}, {"wakeup": 0}, {"function_first": True}], ids=str)
def test_what_is_not_ordinary_is_the_same(
    twins: Any, message: Message, when: str, options: dict[str, Any]
) -> None:
    """Said by a worker before it takes jobs, or while it runs some and others are queued."""
    both: InBoth = type("Machine", (InBoth,), {"twins": twins})()
    both.begin(**{"wakeup": 1, "function_first": False, "rotate": True, "durable": False} | options)
    if when == "before":
        both.tell(1, message)
    both.tell(1, *[(grab, []) for grab in GRABS * 3])
    if when == "after":
        both.tell(1, message)
    for number, handle in enumerate(list(both.peers[0][1].running)):
        if number % 3 == 0:
            both.tell(1, (Packet.WORK_STATUS, [handle, b"1", b"2"]))
        both.tell(1, (Packet.WORK_COMPLETE, [handle, b"result"]))
    both.tell(0, *[(Packet.SUBMIT_JOB, [b"f", unique, b"w"]) for unique in (b"-", b"-", b"x" * 65)])
    both.pass_time(1.0)
    both.tell(2, *[(Packet.GRAB_JOB, [])] * 9, (Packet.PRE_SLEEP, []))
    both.tell(1, *[(Packet.GRAB_JOB, [])] * 9, (Packet.PRE_SLEEP, []))
    both.tell(0, (Packet.SUBMIT_JOB_BG, [b"f", b"woken", b"w"]))
    both.tell(3, (Packet.CAN_DO, [b"f"]), (Packet.PRE_SLEEP, []))


def test_submissions_are_counted_before_python_forgets_a_function(twins: Any) -> None:
    """In one turn to more functions than are told apart, some of them new to the connection."""
    both: InBoth = type("Machine", (InBoth,), {"twins": twins})()
    both.begin(wakeup=1, function_first=False, rotate=True, durable=False)
    names = [*FUNCTIONS, *(b"f%d" % number for number in range(MAX_SUBMITTED))]
    for packet in SUBMISSIONS[:2]:
        both.tell(3, *[(packet, [name, b"", b"w"]) for name in names for _ in range(3)])
    counts = both.brokers[1].queues.counts
    own = both.peers[1][3].submissions
    for name in names:
        function = both.brokers[1].queues.functions[name]
        left = function.counts.submitters.get(("", b"-"), (0, 0.0))
        assert left[0] + own.get(function, [0])[0] == 6
    assert counts.received_packets()[SUBMISSIONS[1].name] == 3 * len(names) + len(FUNCTIONS)


class Conversation:
    """A client and a worker of one broker, whose jobs are handled in C."""

    def __init__(self, twins: Any) -> None:
        self.handle = twins.handle_messages
        self.broker = Broker(Queues(b"H:x"))
        self.broker.now = 1.0
        self.client, self.worker = (self.broker.join(number, "") for number in range(2))
        # The first job of a priority makes its queue, which is done in Python.
        self.tell(self.client, *[(packet, [b"f", b"", b""]) for packet in SUBMISSIONS])
        self.tell(self.worker, (Packet.CAN_DO, [b"f"]), *[(Packet.GRAB_JOB, [])] * 6)
        self.end_all()

    def tell(self, peer: Peer, *messages: Message) -> None:
        assert self.handle(self.broker, peer, list(messages)) == len(messages)

    def end_all(self) -> None:
        for handle in list(self.worker.running):
            self.tell(self.worker, (Packet.WORK_COMPLETE, [handle, b""]))
        self.client.take()
        self.worker.take()
        self.broker.dirty.clear()
        self.broker.queues.counts.settle()

    def run_job(self, packet: Packet, unique: bytes, grab: Packet, workload: bytes) -> None:
        """One job, for which a sleeping worker is woken."""
        tell, worker = self.tell, self.worker
        tell(worker, (grab, []), (Packet.PRE_SLEEP, []))
        tell(self.client, (packet, [b"f", unique, workload]))
        tell(worker, (grab, []))
        (handle,) = worker.running
        worker.take()
        tell(worker, (Packet.WORK_COMPLETE, [handle, workload]))
        self.client.take()
        self.broker.dirty.clear()


KINDS = {
    "background": (Packet.SUBMIT_JOB_BG, b"unique", Packet.GRAB_JOB, b"workload"),
    "foreground": (Packet.SUBMIT_JOB, b"unique", Packet.GRAB_JOB_UNIQ, b"workload"),
    "high, without unique": (Packet.SUBMIT_JOB_HIGH, b"", Packet.GRAB_JOB_ALL, b""),
    "low, large": (Packet.SUBMIT_JOB_LOW, b"unique", Packet.GRAB_JOB_UNIQ, bytes(LARGE)),
    "declined": (Packet.SUBMIT_JOB, b"-", Packet.GRAB_JOB, b"workload"),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "declined"])
def test_ordinary_jobs_take_no_python(twins: Any, kind: str) -> None:
    conversation = Conversation(twins)

    def refuse(broker: Broker, peer: Peer, arguments: Sequence[bytes]) -> None:
        raise AssertionError("this was handled in Python")

    twins.learn_broker({**FACTS, "HANDLERS": [refuse] * len(HANDLERS)})
    try:
        for _ in range(100):
            conversation.run_job(*KINDS[kind])
        conversation.end_all()
        with pytest.raises(AssertionError, match="handled in Python"):
            conversation.run_job(*KINDS["declined"])
    finally:
        twins.learn_broker(FACTS)


def test_only_the_broker_as_it_is_known_is_handled_in_c(twins: Any) -> None:
    class OtherQueues(Queues):
        pass

    broker = Broker(OtherQueues())
    peer = broker.join(1, "")
    messages: list[Message] = [(Packet.CAN_DO, [b"f"]), (Packet.GRAB_JOB, [])]
    assert twins.handle_messages(broker, peer, messages) == 2
    assert twins.handle_messages(broker, peer, ((Packet.GRAB_JOB, []),)) == 1
    for facts in ({**FACTS, "job": int}, {**FACTS, "queues": OtherQueues, "peer": Function}):
        with pytest.raises((ImportError, AttributeError)):
            twins.learn_broker(facts)
    assert twins.learn_broker(FACTS) == twins.slots
    with pytest.raises((TypeError, IndexError)):
        twins.handle_messages(broker, peer, [(10**6, [])])


@pytest.mark.parametrize("kind", KINDS)
def test_each_allocation_may_fail(twins: Any, kind: str) -> None:
    """It is a MemoryError, as in Python."""
    memory: Any = pytest.importorskip("_testcapi")
    packet, unique, grab, workload = KINDS[kind]
    steps: dict[str, Message] = {
        "sleep": (Packet.PRE_SLEEP, []),
        "submit": (packet, [b"f", unique, workload]),
        "grab": (grab, []),
        "complete": (Packet.WORK_COMPLETE, [b"H:x:7", workload]),
    }
    all_failures = 0
    for last in range(len(steps)):
        failures = number = 0
        while number < failures + 5:  # none was left to fail in the last five
            number += 1
            conversation = Conversation(twins)
            *before, messages = [[each] for each in list(steps.values())[: last + 1]]
            for place, each in enumerate(before):
                peer = conversation.client if place == 1 else conversation.worker
                conversation.tell(peer, *each)
            peer = conversation.client if last == 1 else conversation.worker
            broker, handle = conversation.broker, conversation.handle
            memory.set_nomemory(number, number + 1)
            try:
                handle(broker, peer, messages)
            except MemoryError:
                failures += 1
            finally:
                memory.remove_mem_hooks()
        all_failures += failures
    assert all_failures > 5


JOBS = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_jobs_leave_nothing_behind(twins: Any, kind: str) -> None:
    conversation = Conversation(twins)
    facts = KINDS[kind]
    times = JOBS // len(KINDS)

    def held() -> tuple[int, ...]:
        conversation.end_all()
        gc.collect()
        shared = *facts[1::2], b"", b"f", None, BrokerJob, conversation.client, conversation.worker
        return sys.getallocatedblocks(), *map(sys.getrefcount, shared)

    conversation.run_job(*facts)
    before = held()
    for number in range(times):
        conversation.run_job(*facts)
        if number % 1000 == 0:
            conversation.end_all()
    blocks, *references = (now - then for now, then in zip(held(), before, strict=True))
    assert max(map(abs, references)) < 10
    assert blocks < 1000, f"of {times} jobs"
