"""Two brokers with the same history, one of which is replaced at any point: no peer can tell."""

import itertools
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearman_py.broker import copy_ahead
from gearman_py.broker.broker import Broker
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.queues import Queues
from gearman_py.broker.restore import Restorer, SnapshotError
from gearman_py.broker.state import Peer
from gearman_py.protocol.packets import TEXT, Packet
from tests.broker.snapshots import Following, hand_over, snapshot
from tests.properties import depth

PEERS = 4
FUNCTIONS = [b"f", b"g", b"\xff\n"]
function = st.sampled_from([*FUNCTIONS[:2], *FUNCTIONS])
unique = st.sampled_from([b"", b"u", b"v", b"-"])
workload = st.sampled_from([b"", b"w", bytes(range(256))])
handle = st.integers(1, 5).map(lambda number: b"H:%d" % number)

packets = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                Packet.SUBMIT_JOB,
                Packet.SUBMIT_JOB_BG,
                Packet.SUBMIT_JOB_HIGH,
                Packet.SUBMIT_JOB_LOW,
                Packet.SUBMIT_JOB_LOW_BG,
            ]
        ),
        function,
        unique,
        workload,
    ),
    st.tuples(
        st.just(Packet.SUBMIT_JOB_EPOCH),
        *(function, unique, st.sampled_from([b"1001", b"1004", b"9999"]), workload),
    ),
    st.tuples(
        st.just(Packet.SUBMIT_REDUCE_JOB), function, unique, st.just(b"r"), st.just(b""), workload
    ),
    st.tuples(st.just(Packet.CAN_DO), function),
    st.tuples(st.just(Packet.CAN_DO_TIMEOUT), function, st.sampled_from([b"1000", b"3000"])),
    st.tuples(st.just(Packet.CANT_DO), function),
    st.tuples(st.sampled_from([Packet.RESET_ABILITIES])),
    st.tuples(st.sampled_from([Packet.PRE_SLEEP, Packet.GRAB_JOB_ALL, Packet.GRAB_JOB])),
    st.tuples(st.sampled_from([Packet.PRE_SLEEP, Packet.GRAB_JOB_UNIQ])),
    st.tuples(st.just(Packet.SET_CLIENT_ID), st.sampled_from([b"me", b"\xe9"])),
    st.tuples(
        st.just(Packet.OPTION_REQ), st.sampled_from([b"exceptions", b"retries", b"resubmits"])
    ),
    st.tuples(
        st.just(Packet.WORK_RETRY), handle, st.sampled_from([b"0", b"900", b"1500"]), st.just(b"")
    ),
    st.tuples(st.just(Packet.WORK_STATUS), handle, st.just(b"1"), st.just(b"2")),
    st.tuples(
        st.sampled_from([Packet.WORK_DATA, Packet.WORK_COMPLETE, Packet.WORK_EXCEPTION]),
        *(handle, workload),
    ),
    st.tuples(st.just(Packet.WORK_FAIL), handle),
    st.tuples(st.just(Packet.GET_STATUS), handle),
    st.tuples(st.just(Packet.GET_STATUS_UNIQUE), unique),
)
commands = st.tuples(
    st.just(TEXT),
    st.sampled_from(
        [
            *(
                b"status",
                b"prioritystatus",
                b"workers",
                b"connections",
                b"show jobs",
                b"show unique jobs",
                b"stats",
            ),
            *(b"maxqueue f 2", b"maxqueue g 1 2 3", b"create function h", b"drop function h"),
            *(b"cancel job H:1", b"cancel job H:2"),
            *(b"pause f", b"resume f", b"limit g running=1", b"limit g running=0"),
            *(b"prioritize job H:1 high", b"prioritize job H:2 low", b"reschedule job H:1 now"),
            *(b"reschedule job H:2 1004", b"reschedule job H:3 now", b"jobs scheduled"),
            *(b"jobs failed", b"retry jobs", b"retry job H:1", b"discard job H:2"),
            *(b"server pause", b"server resume", b"server resume", b"server"),
            *(b"limit f rate=1/s", b"limit f rate=2/3s", b"limit f rate=0"),
        ]
    ),
)
peer = st.integers(0, PEERS - 1)
work = st.sampled_from([(Packet.PRE_SLEEP,), (Packet.GRAB_JOB_ALL,)])
steps = st.one_of(
    st.tuples(st.just("say"), peer, packets),
    st.tuples(st.just("say"), st.integers(2, 3), work),
    st.tuples(st.just("say"), peer, commands),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 2.5])),
    st.tuples(st.just("leave"), peer),
    st.tuples(st.just("read"), peer),
    st.tuples(st.just("fail"), st.integers(2, 3), function),
    st.tuples(st.just("postpone"), st.integers(2, 3), function),
)


class Side:
    """A broker and its peers. What they are owed is taken when they read."""

    def __init__(self, durable: bool, function_first: bool) -> None:
        queues = Queues(
            b"H", durable=durable, function_first=function_first, failed=FailedJobs(3, 20.0)
        )
        self.broker = Broker(queues, job_retries=2, time_of_day=lambda: self.now)
        self.following: Following | None = None
        self.now = 1000.0
        self.peers: list[Peer] = [
            self.broker.join(number, "there", now=self.now) for number in range(PEERS)
        ]
        for worker in (2, 3):
            for name in FUNCTIONS[:2]:
                self.do("say", worker, (Packet.CAN_DO_TIMEOUT, name, b"2000"))

    def do(self, what: str, *arguments: Any) -> bytes:
        self.now += 0.001
        match what:
            case "say":
                number, (packet, *rest) = arguments
                self.broker.receive(self.peers[number], [(packet, rest)], self.now)
            case "fail":
                number, name = arguments
                self.do("say", number, (Packet.SUBMIT_JOB_BG, name, b"", b"w"))
                self.do("say", number, (Packet.GRAB_JOB,))
                for running in list(self.peers[number].running):
                    self.do("say", number, (Packet.WORK_EXCEPTION, running, b"why"))
            case "postpone":
                number, name = arguments
                self.do("say", number, (Packet.OPTION_REQ, b"retries"))
                self.do("say", number, (Packet.SUBMIT_JOB_BG, name, b"", b"w"))
                self.do("say", number, (Packet.GRAB_JOB,))
                for running in list(self.peers[number].running):
                    self.do("say", number, (Packet.WORK_RETRY, running, b"1500", b"why"))
            case "wait":
                self.now += arguments[0]
            case "leave":
                (number,) = arguments
                self.broker.gone(self.peers[number], self.now)
                self.peers[number] = self.broker.join(number, "again", now=self.now)
            case "read":
                return b"".join(self.peers[arguments[0]].take())
        changes = self.broker.queues.changes
        while not changes.empty:
            self.broker.stored(changes.take(deliveries=True), self.now)
        for each in self.peers:
            while each.listing:
                each.continue_listing()
        self.broker.tick(self.now, self.now)
        return b""

    def begin_copy(self) -> None:
        self.following = Following(self.broker)

    def replace(self) -> None:
        old = list(self.broker.peers)
        following = self.following or Following(self.broker)
        self.broker, peers = following.broker, following.take_over(old)
        self.following = None
        self.peers = [peers[old.index(peer)] for peer in self.peers]


@given(
    history=st.lists(
        st.tuples(steps, st.sampled_from(["", "", "", "copy", "replace"])), min_size=30, max_size=60
    ),
    durable=st.booleans(),
    function_first=st.booleans(),
)
@settings(max_examples=depth(500), deadline=None)
def test_no_peer_can_tell(
    history: list[tuple[tuple[Any, ...], str]], durable: bool, function_first: bool
) -> None:
    stays, moves = (Side(durable, function_first) for _ in range(2))
    with patch.object(copy_ahead, "SLICE_JOBS", 1):
        for step, change in history:
            if change == "replace":
                moves.replace()
            elif change == "copy" and not moves.following:
                moves.begin_copy()
            assert stays.do(*step) == moves.do(*step)
            if moves.following:
                moves.following.copy_slice()
    for number in range(PEERS):
        assert stays.do("read", number) == moves.do("read", number)
    packets, others = (side.broker.queues.counts.received_packets() for side in (stays, moves))
    assert packets == others
    assert sum(packets.values()) > 0


def test_listing_that_was_sent_in_part_goes_on() -> None:
    side = Side(False, False)
    for number in range(2000):
        side.do("say", 0, (Packet.SUBMIT_JOB_BG, b"f%d" % number, b"", b""))
    side.do("read", 0)
    side.do("say", 0, (TEXT, b"status"))
    first = side.do("read", 0)
    side.replace()
    rows = (first + side.do("read", 0)).splitlines()
    assert (len(rows), rows[-1]) == (2003, b".")  # f and g, too


def test_connections_are_as_old_as_they_were() -> None:
    side = Side(False, False)
    side.do("wait", 60.0)
    side.do("leave", 3)
    side.replace()
    side.do("wait", 30.0)
    side.do("say", 0, (TEXT, b"connections"))
    *rows, end = side.do("read", 0).splitlines()
    assert rows == [
        b"%d\taddress=%b\tclient_id=-\tseconds=%d" % each
        for each in ((0, b"there", 90), (1, b"there", 90), (2, b"there", 90), (3, b"again", 30))
    ]
    assert end == b"."


def test_peers_that_are_not_handed_over_are_gone() -> None:
    side = Side(False, False)
    for number in (0, 1):
        side.do("say", number, (Packet.CAN_DO, b"f"))
    side.do("say", 2, (Packet.SUBMIT_JOB, b"f", b"", b"w"))
    side.do("say", 0, (Packet.GRAB_JOB,))
    side.do("say", 1, (Packet.PRE_SLEEP,))
    side.peers = side.peers[1:]
    side.broker, side.peers = hand_over(side.broker, side.peers)
    side.do("say", 0, (Packet.GRAB_JOB,))
    assert b"f\0w" in side.do("read", 0), "the job of the worker that is gone"


def test_queue_is_in_the_same_order_after_jobs_were_dropped_from_it() -> None:
    stays, moves = (Side(False, False) for _ in range(2))
    for side in (stays, moves):
        for number in range(300):
            side.do("say", number % 3, (Packet.SUBMIT_JOB, b"f", b"%d" % number, b"w"))
        side.do("leave", 1)
        side.do("say", 3, (Packet.CAN_DO, b"f"))
    moves.replace()
    for _ in range(201):
        for side in (stays, moves):
            side.do("say", 3, (Packet.GRAB_JOB_UNIQ,))
        assert stays.do("read", 3) == moves.do("read", 3)


@pytest.mark.parametrize(
    ("queues", "why"),
    [
        (Queues(b"other"), "--job-handle-prefix"),
        (Queues(b"H", durable=True), "--queue-type"),
    ],
)
def test_settings_that_do_not_fit_are_refused(queues: Queues, why: str) -> None:
    side = Side(False, False)
    with pytest.raises(SnapshotError, match=why):
        Restorer(Broker(queues)).read(snapshot(side.broker, side.peers)[0], 0)


def test_another_format_is_refused() -> None:
    side = Side(False, False)
    section = snapshot(side.broker, side.peers)[0]
    section["format"] += 1
    with pytest.raises(SnapshotError, match="format"):
        Restorer(Broker(Queues(b"H"))).read(section, 0)


def test_section_that_did_not_come_is_noticed() -> None:
    side = Side(False, False)
    for number in itertools.chain(range(3), range(3)):
        side.do("say", number, (Packet.SUBMIT_JOB, b"f", b"", b"w"))
    first, peers, _jobs, last = snapshot(side.broker, side.peers)
    restorer = Restorer(Broker(Queues(b"H")))
    restorer.read(first, 0)
    restorer.read(peers, 0)
    with pytest.raises(SnapshotError, match="6 jobs were announced, and 0 came"):
        restorer.read(last, 0)
