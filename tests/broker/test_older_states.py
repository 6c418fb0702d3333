"""The state of a server of an earlier version: no peer can tell that a program of today goes on."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gearman_py.broker.broker import Broker
from gearman_py.broker.job_columns import Section
from gearman_py.broker.queues import Queues
from gearman_py.broker.restore import READABLE, Restorer
from gearman_py.broker.snapshot import FORMAT
from gearman_py.protocol.packets import TEXT, Packet
from tests.broker.snapshots import snapshot, successor
from tests.broker.test_snapshot import PEERS, Side, steps
from tests.properties import depth

COMMITTED = json.loads((Path(__file__).parent / "state-v1.json").read_text())
# What came with a format, by the kind of section; with 6, what came later without a new format.
ADDED = (
    (2, "end", ("rewritten",)),
    (3, "begin", ("changed",)),
    (3, "end", ("orders",)),
    (4, "begin", ("paused", "pause_record")),
    (5, "function", ("key_limit",)),
    (6, "begin", ("pauses", "schedules")),
    (6, "end", ("adopted", "reading")),
    (6, "peer", ("since", "retries", "results", "resubmits")),
)
# What the first version did not know, or its state did not say.
LATER_PACKETS = Packet.WORK_RETRY, Packet.OPTION_REQ
LATER_COMMANDS = (
    *(b"pause", b"resume", b"server", b"prioritize", b"reschedule", b"jobs", b"retry", b"discard"),
    *(b"connections", b"stats"),
)
LATER_STEPS = "fail", "postpone"


def is_old(step: tuple[Any, ...]) -> bool:
    """Whether the first version had what is done in this step."""
    match step:
        case ("say", _, (packet, *arguments)):
            if packet == TEXT:
                return not arguments[0].startswith(LATER_COMMANDS)
            return packet not in LATER_PACKETS or arguments == [b"exceptions"]
        case (what, *_):
            return what not in LATER_STEPS
    return False


def as_written_by(version: int, sections: list[Section]) -> list[Section]:
    """The sections of a state, as a program that wrote this format had them."""
    written = []
    for section in sections:
        if "failed" in section and version < 2:
            continue
        if "format" in section:
            section["format"] = version
        parts = {
            "begin": [section] if "format" in section else [],
            "end": [section] if "pages" in section else [],
            "function": section.get("functions", []),
            "peer": section["peers"] if isinstance(section.get("peers"), list) else [],
        }
        for since, kind, names in ADDED:
            for facts in parts[kind] if since > version else ():
                for name in names:
                    del facts[name]
        written.append(section)
    return written


def replace_older(side: Side, version: int) -> None:
    """Another program goes on from the state that one of an earlier version has written."""
    broker = successor(side.broker)
    restorer = Restorer(broker)
    old = list(side.broker.peers)
    for section in as_written_by(version, snapshot(side.broker, old)):
        restorer.read(section, side.now)
    assert restorer.complete
    side.broker, broker.now = broker, side.now
    side.peers = [restorer.peers[old.index(peer)] for peer in side.peers]


def shape(sections: list[Section]) -> set[tuple[str, ...]]:
    """The names in each kind of section, of a peer and of a function."""
    found = {tuple(sorted(section)) for section in sections}
    for name in ("functions", "peers"):
        for section in sections:
            if isinstance(facts := section.get(name), list):
                found |= {tuple(sorted(each)) for each in facts if isinstance(each, dict)}
    return found


def test_state_of_the_first_version_is_written_as_that_did() -> None:
    side = Side(False, False)
    side.do("say", 0, (Packet.SUBMIT_JOB, b"f", b"", b"w"))
    written = as_written_by(1, snapshot(side.broker, side.peers))
    assert shape(written) == shape(COMMITTED)


def test_last_format_is_the_one_of_today() -> None:
    """A new format is added to what came since (ADDED), and to these tests."""
    assert (*range(1, FORMAT + 1),) == READABLE
    assert max(since for since, _, _ in ADDED) == FORMAT + 1


@given(
    history=st.lists(
        st.tuples(steps, st.sampled_from([False, False, False, True])), min_size=30, max_size=60
    ),
    version=st.sampled_from(READABLE),
    durable=st.booleans(),
    function_first=st.booleans(),
)
@settings(max_examples=depth(150), deadline=None)
def test_no_peer_can_tell(
    history: list[tuple[tuple[Any, ...], bool]], version: int, durable: bool, function_first: bool
) -> None:
    stays, moves = (Side(durable, function_first) for _ in range(2))
    for step, is_replaced in history:
        if not is_old(step):
            continue
        if is_replaced:
            replace_older(moves, version)
        assert stays.do(*step) == moves.do(*step)
    for number in range(PEERS):
        assert stays.do("read", number) == moves.do("read", number)


def test_committed_state_is_read() -> None:
    """A snapshot of format 1; what is in it was done to a `Side` at 1000.0."""
    side = Side(False, False)
    side.broker = Broker(Queues(b"H"), job_retries=2)
    restorer = Restorer(side.broker)
    for section in COMMITTED:
        restorer.read(section, side.now)
    side.peers = restorer.peers
    side.do("say", 2, (Packet.WORK_COMPLETE, b"H:3", b"urgent done"))
    assert b"H:3\0urgent done" in side.do("read", 0)
    side.do("say", 2, (TEXT, b"status"))
    assert side.do("read", 2) == b"f\t2\t0\t2\ng\t3\t0\t2\nh\t0\t0\t1\n.\n"
    for job in (b"H:6\0g\0\0r\0part", b"H:1\0f\0u\0w0", b"H:2\0f\0\0w2", b"H:4\0g\0low\0\0\1"):
        side.do("say", 2, (Packet.GRAB_JOB_ALL,))
        assert job in side.do("read", 2)
    side.do("say", 2, (Packet.WORK_COMPLETE, b"H:1", b"of both"))
    for number in (0, 1):
        assert b"H:1\0of both" in side.do("read", number)
    for ended in (b"H:2", b"H:4", b"H:6"):
        side.do("say", 2, (Packet.WORK_COMPLETE, ended, b"done"))
    side.do("wait", 5.0)
    side.do("say", 2, (Packet.GRAB_JOB_ALL,))
    assert b"H:5\0g\0\0later" in side.do("read", 2)
