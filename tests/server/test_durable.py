"""The durable queue from outside: the real server is killed, starved and lied to."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from gearman_py.store.base import Changes, Record
from gearman_py.store.sqlite import SQLiteStore
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.server.load import Book
from tests.tally import tally
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
KILLS = int(os.environ.get("KILLS", "5"))
STOPS = int(os.environ.get("STOPS", "3"))
FAULTS = int(os.environ.get("FAULTS", "6"))
SOAK = int(os.environ.get("SOAK", "3"))
WRITES = int(os.environ.get("WRITES", "48"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@pytest.fixture
def durable(start: Start, file: Path) -> Callable[..., GearmandProcess]:
    """Starts a server on the file."""
    return lambda *more: start("-q", "sqlite", "--queue-file", str(file), *more)


def worker(peer: Peer, function: bytes = b"f") -> Peer:
    peer.say(Packet.CAN_DO, function)
    return peer


def in_the_background(
    peer: Peer, workload: bytes, unique: bytes = b"", function: bytes = b"f"
) -> bytes:
    """Submit a job; its handle."""
    said, handle = peer.ask(Packet.SUBMIT_JOB_BG, function, unique, workload)
    assert said == "JOB_CREATED"
    return bytes(handle)


def test_jobs_survive_kill_9_under_load(durable: Start) -> None:
    book = Book()
    for seed in range(KILLS):
        server = durable()
        with book.load(server.listening()):
            time.sleep(random.Random(seed).uniform(0.2, 0.8))  # noqa: S311 - how long is the load
            server.process.kill()
            server.process.wait()
    book.work(durable().listening(), until_empty=True)
    tally("kill", kills=KILLS, **book.check())
    assert len(book.acknowledged) > 100 * KILLS


def test_server_told_to_stop_under_load_stops_soon_and_keeps_all(durable: Start) -> None:
    book = Book()
    for _ in range(STOPS):
        server = durable()
        with book.load(server.listening()):
            time.sleep(0.3)  # how long is the load
            assert server.end() == 0
    book.work(durable().listening(), until_empty=True)
    tally("stop", stops=STOPS, **book.check())


def test_long_mixed_load_needs_no_more_of_anything_at_its_end(
    durable: Start, connect: Connect
) -> None:
    """Stored and foreground jobs, peers that come and go, operators; memory and descriptors."""
    answered = 0

    def churn(until: float) -> tuple[int, int]:
        """Until then; the server's descriptors and resident bytes."""
        nonlocal answered
        while time.monotonic() < until:
            with Peer(address).socket, Peer(address).socket:
                pass
            peer = Peer(address)
            with peer.socket:
                peer.say(Packet.CAN_DO, b"fg")
                handle = peer.ask(Packet.SUBMIT_JOB, b"fg", b"%d" % (answered % 7), b"w" * 10_000)[
                    1
                ]
                assert peer.ask(Packet.GRAB_JOB)[1] == handle
                peer.say(Packet.WORK_COMPLETE, handle, b"r")
                assert peer.hear() == ("WORK_COMPLETE", handle, b"r")
                peer.command("status")
                peer.command("workers")
                answered += 1
        return len(os.listdir(f"/proc/{server.process.pid}/fd")), server.resident()

    book = Book()
    server = durable()
    address = server.listening()
    begun = time.monotonic()
    with book.load(address):
        descriptors, resident = churn(begun + SOAK / 3)
        assert churn(begun + SOAK)[0] <= descriptors + 4
        assert server.resident() < 1.1 * resident + 8 * 2**20
        server.process.kill()
        server.process.wait()
    book.work(durable().listening(), until_empty=True)
    tally("soak", seconds=SOAK, foreground=answered, **book.check())


OPENED = """
import pathlib, sys
from gearman_py.store.sqlite import SQLiteStore
SQLiteStore(pathlib.Path(sys.argv[1]))
"""
SUBMISSIONS: list[tuple[Any, ...]] = [
    (Packet.SUBMIT_JOB_BG, b"f", b"", b"first"),
    (Packet.SUBMIT_JOB_LOW_BG, b"f", b"", b"low"),
    (Packet.SUBMIT_JOB_HIGH_BG, b"f", b"", b"high"),
    (Packet.SUBMIT_JOB_BG, b"f", b"", b""),
    (Packet.SUBMIT_JOB_BG, b"g", b"u" * 64, b"\0 a NUL, and a unique of 64 bytes"),
    (Packet.SUBMIT_JOB_BG, b"f", b"-", b"coalesces on its workload"),
    (Packet.SUBMIT_JOB_BG, b"f", b"-", b"another workload"),
    (Packet.SUBMIT_JOB_EPOCH, b"f", b"", b"1", b"due long ago"),
    (Packet.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"", b"reducer", b"", b"to be reduced"),
    (Packet.SUBMIT_REDUCE_JOB, b"f", b"fg", b"reducer", b"", b"in the foreground"),
    (Packet.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"fg", b"", b"", b"joins it"),
    (Packet.SUBMIT_JOB_HIGH_BG, b"g", b"", b"x" * 2**20),
    (Packet.SUBMIT_JOB_BG, b"f", b"", b"last"),
]


def everything(peer: Peer) -> list[tuple[Any, ...]]:
    """Grab all jobs there are."""
    jobs: list[tuple[Any, ...]] = []
    while (told := peer.ask(Packet.GRAB_JOB_ALL)) != ("NO_JOB",):
        jobs.append(told)
    return jobs


def test_restart_changes_nothing_about_the_queue(
    start: Start, durable: Start, connect: Connect
) -> None:
    def submitted(address: Address) -> tuple[Peer, list[bytes]]:
        client = connect(address)
        return client, [client.ask(packet, *facts)[1] for packet, *facts in SUBMISSIONS]

    plain = start().listening()
    client, handles = submitted(plain)
    client.socket.close()
    connect(plain).command("status")  # by now the client is known to be gone
    expected = [
        (said, handles.index(facts[0]), *facts[1:])
        for said, *facts in everything(worker(worker(connect(plain)), b"g"))
    ]

    server = durable()
    client, handles = submitted(server.listening())
    server.process.kill()
    server.process.wait()
    again = durable().listening()
    found = everything(worker(worker(connect(again)), b"g"))
    assert [(said, handles.index(facts[0]), *facts[1:]) for said, *facts in found] == expected, (
        "the same jobs, fields and handles in the same order"
    )


def test_uniques_and_due_times_outlive_a_restart(durable: Start, connect: Connect) -> None:
    server = durable()
    client = connect(server.listening())
    handle = in_the_background(client, b"once", b"unique")
    due = int(time.time()) + 4
    later = client.ask(Packet.SUBMIT_JOB_EPOCH, b"e", b"", b"%d" % due, b"later")[1]
    server.process.kill()
    server.process.wait()
    address = durable().listening()
    assert in_the_background(connect(address), b"twice?", b"unique") == handle
    waits = worker(connect(address), b"e")
    waits.say(Packet.PRE_SLEEP)
    assert waits.hear() == ("NOOP",)
    assert time.time() >= due
    assert waits.ask(Packet.GRAB_JOB) == ("JOB_ASSIGN", later, b"e", b"later")


def test_pauses_and_limits_outlive_kill_9(durable: Start, connect: Connect) -> None:
    server = durable("-v")
    ops = connect(server.listening())
    for command in (
        "server pause",
        "pause f",
        "limit g running=2",
        "pause h",
        "limit g running=3",
        "resume h",
        "limit i rate=9/2m",
    ):
        assert ops.command(command) == b"OK\r\n"
        in_the_background(ops, b"beside")
    assert ops.command("limit i rate=9/2m per-key=2 separator=%2F") == b"OK\r\n"
    assert ops.command("schedule set s function=n cron=0%205%20*%20*%20*") == b"OK\r\n"
    assert ops.command("schedule set gone function=n cron=0%205%20*%20*%20*") == b"OK\r\n"
    assert ops.command("schedule pause s") == b"OK\r\n"
    assert ops.command("schedule delete gone") == b"OK\r\n"
    for _ in range(2):
        server.process.kill()
        server.process.wait()
        server = durable("-v")
        rows = connect(server.listening()).command("stats").splitlines()
        found = {row.split(b"\t")[0]: row for row in rows}
        assert b"paused=1\tmax_running=0" in found[b"f"]
        assert re.search(rb"\tpaused_since=1\d{9}\.\d{3}\tpaused_by=127.0.0.1\t", found[b"f"])
        listed = connect(server.listening()).command("pauses")
        assert re.fullmatch(rb"f\t1\d{9}\t127.0.0.1\n\.\n", listed)
        facts = connect(server.listening()).command("server")
        assert re.search(rb"\npaused_since\t1\d{9}\npaused_by\t127.0.0.1\n", facts)
        assert b"paused=0\tmax_running=3" in found[b"g"]
        assert b"h" not in found
        assert b"max_started=9\tperiod_seconds=120.000" in found[b"i"]
        assert b"max_per_key=2\tkey_separator=%2F" in found[b"i"]
        schedule, end = connect(server.listening()).command("schedules").splitlines()
        assert (schedule.split(b"\t")[0], end) == (b"s", b".")
        assert b"\tpaused=1\t" in schedule
        waits = worker(connect(server.listening()), b"beside")
        in_the_background(waits, b"1", function=b"beside")
        assert worker(waits).ask(Packet.GRAB_JOB) == ("NO_JOB",)
        assert connect(server.listening()).command("server resume") == b"OK\r\n"
        waits.say(Packet.WORK_COMPLETE, waits.ask(Packet.GRAB_JOB)[1], b"")
        assert waits.ask(Packet.GRAB_JOB) == ("NO_JOB",)
        assert waits.command("server pause") == b"OK\r\n"
    assert connect(server.listening()).command("server resume") == b"OK\r\n"
    assert connect(server.listening()).command("resume f") == b"OK\r\n"
    assert waits.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"


def fail_all(peer: Peer, number: int) -> None:
    """Fail this number of jobs as their worker."""
    for _ in range(number):
        _, handle, *_ = peer.ask(Packet.GRAB_JOB)
        peer.say(Packet.WORK_EXCEPTION, handle, b"no such customer")


def list_handles(peer: Peer, state: str) -> set[bytes]:
    rows = peer.command(f"jobs {state} limit=1000").splitlines()[:-1]
    return {row.split(b"\t")[0] for row in rows}


def test_failed_jobs_outlive_kill_9_and_run_again_when_they_are_retried(
    durable: Start, connect: Connect
) -> None:
    server = durable()
    address = server.listening()
    ops, doer = connect(address), worker(connect(address))
    handle = in_the_background(ops, b"order 17", b"unique")
    fail_all(doer, 1)
    in_the_background(ops, b"beside")  # the failure is stored, too, once this is
    server.process.kill()
    server.process.wait()
    server = durable()
    address = server.listening()
    ops, doer = connect(address), worker(connect(address))
    (row, _) = ops.command("jobs failed").splitlines()
    assert row.startswith(handle + b"\tstate=failed\tfunction=f\tunique=unique\tpriority=normal\t")
    assert row.endswith(b"\tclient_id=-\treason=no such customer")
    assert b"\taddress=127.0.0.1\t" in row
    assert ops.command(f"retry job {handle.decode()}") == b"OK\r\n"
    assert {doer.ask(Packet.GRAB_JOB)[1:] for _ in range(2)} >= {(handle, b"f", b"order 17")}
    doer.say(Packet.WORK_COMPLETE, handle, b"")
    assert ops.command("jobs failed") == b".\n"
    assert server.end() == 0
    assert list_handles(connect(durable().listening()), "failed") == set()


def test_failed_jobs_are_forgotten_in_time_also_those_of_before_the_start(
    durable: Start, connect: Connect
) -> None:
    server = durable()
    address = server.listening()
    ops, doer = connect(address), worker(connect(address))
    handle = in_the_background(ops, b"kept")
    fail_all(doer, 1)
    await_true(partial(has_all_failed, ops, {handle}))
    assert server.end() == 0
    server = durable("--keep-failed-days", "0.00001")
    address = server.listening()
    ops, doer = connect(address), worker(connect(address))
    await_true(partial(has_all_failed, ops, set()))
    for workload in (b"first", b"second"):
        in_the_background(ops, workload)
        fail_all(doer, 1)
        await_true(partial(has_all_failed, ops, set()))
    assert server.end() == 0
    assert list_handles(connect(durable().listening()), "failed") == set()


def has_all_failed(ops: Peer, handles: set[bytes]) -> bool:
    return list_handles(ops, "failed") == handles


def test_jobs_that_are_retried_when_the_server_is_killed_are_failed_or_wait(
    durable: Start, connect: Connect
) -> None:
    """Never both or neither; and they wait if the operator was told so."""
    number = 100
    server = durable()
    address = server.listening()
    ops, doer = connect(address), worker(connect(address))
    handles = {in_the_background(ops, b"%d" % each) for each in range(number)}
    retried = 0
    for seed in range(KILLS):
        fail_all(doer, len(list_handles(ops, "waiting")))
        await_true(partial(has_all_failed, ops, handles))
        ops.socket.sendall(b"".join(b"retry job %b\r\n" % each for each in sorted(handles)))
        time.sleep(random.Random(seed).uniform(0, 0.03))  # noqa: S311 - somewhere in the midst
        server.process.kill()
        server.process.wait()
        told = b""
        with contextlib.suppress(ConnectionResetError):
            while data := ops.socket.recv(65536):
                told += data
        acknowledged = sorted(handles)[: told.count(b"OK\r\n")]
        server = durable()
        address = server.listening()
        ops, doer = connect(address), worker(connect(address))
        failed, waiting = list_handles(ops, "failed"), list_handles(ops, "waiting")
        assert failed | waiting == handles
        assert not failed & waiting
        assert waiting >= set(acknowledged)
        retried += len(acknowledged)
    tally("kill amid retries", kills=KILLS, retries_acknowledged=retried, lost=0)


def postponing(peer: Peer) -> Peer:
    """A worker of f that may put jobs off."""
    assert worker(peer).ask(Packet.OPTION_REQ, b"retries") == ("OPTION_RES", b"retries")
    return peer


def count_attempts(ops: Peer) -> dict[bytes, int]:
    """How often each job that waits was attempted, by handle.

    One that becomes due meanwhile is listed twice: the other way round, it would not be at all.
    """
    rows = [
        row.split(b"\t")
        for state in ("scheduled", "waiting")
        for row in ops.command(f"jobs {state} limit=1000").splitlines()[:-1]
    ]
    return {
        handle: int(dict(pair.split(b"=", 1) for pair in pairs)[b"attempts"])
        for handle, *pairs in rows
    }


def postpone_all(peer: Peer, attempts: dict[bytes, int], milliseconds: int) -> None:
    """Take as many jobs as there are, when they are due, and give them back; count attempts.

    A job may come twice, before one that was postponed by a server that is gone: what is stored
    is the next full second.
    """
    for _ in attempts:
        while (told := peer.ask(Packet.GRAB_JOB)) == ("NO_JOB",):
            peer.say(Packet.PRE_SLEEP)
            assert peer.hear() == ("NOOP",)
        handle, attempt = told[1:]
        attempts[handle] += 1
        if attempts[handle] != int(attempt):
            pytest.fail(f"attempt {attempts[handle]} was called attempt {int(attempt)}")
        peer.hear()
        peer.say(Packet.WORK_RETRY, handle, b"%d" % milliseconds, b"not yet")


def test_jobs_that_are_postponed_when_the_server_is_killed_keep_their_attempts(
    durable: Start, connect: Connect
) -> None:
    """None is lost, and what was stored of one is not forgotten."""
    number = 100
    server = durable()
    address = server.listening()
    ops, doer = connect(address), postponing(connect(address))
    stored = dict.fromkeys((in_the_background(ops, b"%d" % each) for each in range(number)), 0)
    for seed in range(KILLS):
        in_the_midst = random.Random(seed).uniform(0, 0.1)  # noqa: S311 - not a secret
        timer = threading.Timer(in_the_midst, server.process.kill)
        timer.start()
        told = dict(stored)
        with contextlib.suppress(AssertionError, OSError):
            postpone_all(doer, told, 1)
        timer.join()
        server.process.wait()
        server = durable()
        address = server.listening()
        ops, doer = connect(address), postponing(connect(address))
        found = count_attempts(ops)
        assert found.keys() == stored.keys()
        # One may have been assigned as the server was killed, and not heard of.
        assert all(stored[each] <= found[each] <= told[each] + 1 for each in stored)
        assert sum(found.values()) <= sum(told.values()) + 1
        stored = found
    told = dict(stored)
    postpone_all(doer, told, 3_600_000)
    assert told == {each: count + 1 for each, count in stored.items()}
    assert doer.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    in_the_background(ops, b"beside")  # the delays are stored, too, once this is
    due = sorted(list_handles(ops, "scheduled"))
    server.process.kill()
    server.process.wait()
    ops = connect(durable().listening())
    assert sorted(list_handles(ops, "scheduled")) == due == sorted(told)
    found = count_attempts(ops)
    assert all(found[each] == told[each] for each in told)


def list_changed(ops: Peer) -> dict[bytes, tuple[bytes, float]]:
    """Priority and due time of each job that waits, by handle; 0: it is due."""
    found = {}
    for state in ("waiting", "scheduled"):
        for row in ops.command(f"jobs {state} limit=1000").splitlines()[:-1]:
            handle, *pairs = row.split(b"\t")
            facts = dict(pair.split(b"=", 1) for pair in pairs)
            found[handle] = facts[b"priority"], float(facts.get(b"due", 0))
    return found


def test_jobs_that_are_changed_when_the_server_is_killed_are_as_the_operator_was_told(
    durable: Start, connect: Connect
) -> None:
    number = 100
    server = durable()
    ops = connect(server.listening())
    handles = [in_the_background(ops, b"%d" % each) for each in range(number)]
    states, was_paused = dict.fromkeys(handles, (b"normal", 0.0)), False
    for seed in range(KILLS):
        chance = random.Random(seed)  # noqa: S311 - not a secret
        commands, wanted = [], {}
        for handle in handles:
            priority, due = chance.choice([b"high", b"low"]), chance.choice([0, 4102444800 + seed])
            when = b"%d" % due if due else b"now"
            commands += [
                b"prioritize job %b %b\r\n" % (handle, priority),
                b"reschedule job %b %b\r\n" % (handle, when),
            ]
            wanted[handle] = priority, float(due)
        pause = seed % 2 == 0
        commands.append(b"server pause\r\n" if pause else b"server resume\r\n")
        ops.socket.sendall(b"".join(commands))
        time.sleep(chance.uniform(0, 0.05))  # somewhere in the midst
        server.process.kill()
        server.process.wait()
        told = b""
        with contextlib.suppress(ConnectionResetError):
            while data := ops.socket.recv(65536):
                told += data
        acknowledged = told.count(b"OK\r\n")
        server = durable()
        ops = connect(server.listening())
        found = list_changed(ops)
        assert found.keys() == states.keys()
        for place, handle in enumerate(handles):
            (old, before), (new, later) = states[handle], wanted[handle]
            possible = [(old, before), (new, before), (new, later)]
            assert found[handle] in possible[max(0, min(2, acknowledged - 2 * place)) :]
        is_paused = b"\npaused\t1\n" in b"\n" + ops.command("server")
        assert is_paused == pause or (acknowledged < len(commands) and is_paused == was_paused)
        states, was_paused = found, is_paused


def test_job_that_ran_when_the_server_died_is_queued_again_and_says_so(
    durable: Start, connect: Connect
) -> None:
    server = durable()
    address = server.listening()
    client, busy = connect(address), worker(connect(address))
    done, handle = in_the_background(client, b"done"), in_the_background(client, b"running")
    assert busy.ask(Packet.GRAB_JOB)[1] == done
    busy.say(Packet.WORK_COMPLETE, done, b"")
    assert busy.ask(Packet.GRAB_JOB)[1] == handle
    time.sleep(0.5)  # only what runs for longer than a moment is written down
    server.process.kill()
    server.process.wait()
    rows = connect(durable().listening()).command("show jobs")
    assert rows == handle + b"\t1\t0\t1\n.\n"


def test_client_that_left_before_its_answer_has_its_job_kept(
    durable: Start, connect: Connect
) -> None:
    address = durable().listening()
    with connect(address).socket as client:
        client.sendall(b"\0REQ\0\0\0\x12\0\0\0\x04f\0\0w")
    doer = worker(connect(address))
    await_true(lambda: doer.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN")


def test_answers_keep_the_order_of_their_requests(durable: Start, connect: Connect) -> None:
    peer = connect(durable().listening())
    for number in range(50):
        peer.say(Packet.SUBMIT_JOB_BG, b"f", b"", b"%d" % number)
        peer.say(Packet.ECHO_REQ, b"%d" % number)
        peer.say(Packet.SUBMIT_JOB, b"g", b"", b"")
        peer.say(Packet.SUBMIT_JOB_BG, b"f", b"u" * 65, b"")
    heard = [peer.hear() for _ in range(200)]
    assert [said for said, *_ in heard] == ["JOB_CREATED", "ECHO_RES", "JOB_CREATED", "ERROR"] * 50
    assert [facts[0] for said, *facts in heard if said == "ECHO_RES"] == [
        b"%d" % number for number in range(50)
    ]
    handles = [facts[0] for said, *facts in heard if said == "JOB_CREATED"]
    assert handles == sorted(handles)


def test_foreground_jobs_are_not_stored_unless_joined_in_the_background(
    durable: Start, connect: Connect
) -> None:
    server = durable()
    address = server.listening()
    client = connect(address)
    client.ask(Packet.SUBMIT_JOB, b"f", b"", b"foreground")
    client.ask(Packet.SUBMIT_JOB, b"f", b"unique", b"joined")
    in_the_background(client, b"ignored", b"unique")
    server.process.kill()
    server.process.wait()
    doer = worker(connect(durable().listening()))
    assert [facts[-1] for _, *facts in everything(doer)] == [b"joined"]


def test_second_server_is_refused_and_told_who_has_the_file(durable: Start, file: Path) -> None:
    first = durable()
    first.listening()
    second = durable()
    assert second.process.wait(LIMIT) == 1
    assert second.log == (
        f"gearmand: {file} is in use by process {first.process.pid}: "
        "each gearmand needs a file of its own\n"
    )


def test_nobody_can_connect_until_the_jobs_of_before_are_queued(
    durable: Start, file: Path, connect: Connect
) -> None:
    store = SQLiteStore(file)
    jobs = [Record(number, b"f", b"", 1, 0, b"", b"w", 0) for number in range(1, 50_001)]
    store.commit(Changes(jobs, {}, []))
    store.close()
    port = reserve_port()
    server = durable("-p", str(port))
    while True:
        try:
            peer = connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert server.process.poll() is None, server.log
        else:
            break
    assert peer.command("status") == b"f\t50000\t0\t0\n.\n"


def test_full_disk_refuses_jobs_while_it_is_full_and_everything_else_goes_on(
    start: Start, connect: Connect, small_disk: Path
) -> None:
    server = start("-q", "sqlite", "--queue-file", str(small_disk / "queue"))
    address = server.listening()
    client, doer = connect(address), worker(connect(address))
    kept = []
    while (told := client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"x" * 4000))[0] == "JOB_CREATED":
        kept.append(told[1])
    assert told == ("ERROR", b"QUEUE_ERROR", b"the job could not be stored: no space left")
    assert "no space left on the disk" in server.log
    assert client.ask(Packet.SUBMIT_JOB_EPOCH, b"f", b"", b"1", b"x" * 4000)[0] == "ERROR"
    assert client.command("status") == b"f\t%d\t0\t1\n.\n" % len(kept), "nothing of them stays"

    waiting = client.ask(Packet.SUBMIT_JOB_HIGH, b"f", b"", b"foreground")[1]
    done = []
    for _ in range(len(kept) // 2):
        done.append(doer.ask(Packet.GRAB_JOB)[1])
        doer.say(Packet.WORK_COMPLETE, done[-1], b"result")
    assert done == [waiting, *kept[: len(done) - 1]]
    assert client.hear() == ("WORK_COMPLETE", waiting, b"result")

    assert b"cannot" in doer.command("server")
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    await_true(lambda: b"cannot" not in doer.command("server"))  # who asks first may send jobs
    kept.append(in_the_background(client, b"there is room again"))
    assert "storing jobs again" in server.log
    server.end()

    again = start("-q", "sqlite", "--queue-file", str(small_disk / "queue")).listening()
    left = [facts[0] for _, *facts in everything(worker(connect(again)))]
    assert left == kept[len(done) - 1 :], "acknowledged, and not done yet"
    tally("full disk", acknowledged=len(kept), lost=0, refused_and_run=0)


@pytest.fixture
def on_a_bad_disk(tmp_path: Path, file: Path) -> Iterator[Callable[..., GearmandProcess]]:
    """Starts a server some of whose system calls fail, or those for one file."""
    if not shutil.which("strace"):
        pytest.skip("strace makes the disk fail")
    with contextlib.ExitStack() as started:

        def begin(calls: str, when: str, path: Path | None = None) -> GearmandProcess:
            trace = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}"]
            trace += ["-P", str(path)] if path else []
            fault = ["-e", f"inject={calls}:error=EIO:when={when}"]
            options = ["-L", "127.0.0.1", "-p", "0", "-v", "-q", "sqlite", "--queue-file"]
            server = GearmandProcess([*options, str(file)], tmp_path, before=[*trace, *fault])
            started.callback(server.process.wait)
            started.callback(server.kill)
            await_true(lambda: "listens on" in server.log or server.process.poll() is not None)
            return server

        yield begin


@pytest.mark.parametrize("number", range(1, 3 * FAULTS, 3))
def test_disk_that_fails_to_keep_what_was_written_stops_the_server(
    on_a_bad_disk: Callable[[str, str], GearmandProcess],
    durable: Start,
    connect: Connect,
    number: int,
) -> None:
    """The N-th sync of a thread fails, and no other: to try again would seem to succeed."""
    server = on_a_bad_disk("fdatasync,fsync", str(number))
    kept = []
    try:
        if "listens on" in server.log:
            client = connect(server.listening())
            while True:
                kept.append(in_the_background(client, b"w"))
    except (OSError, AssertionError):
        pass  # the server is gone
    assert server.process.wait(LIMIT) == 1
    assert server.log.count("the disk failed to keep what was written") == 1, server.log
    found = everything(worker(connect(durable().listening())))
    assert {facts[0] for _, *facts in found} >= set(kept)
    tally("sync", syncs_failed=1, acknowledged=len(kept), lost=0)


@pytest.mark.parametrize(
    "when", ["30..40", 2, *range(1, WRITES, 1 if "WRITES" in os.environ else 8)]
)
def test_write_that_fails_refuses_its_jobs_and_no_others(
    on_a_bad_disk: Callable[[str, str], GearmandProcess],
    durable: Start,
    connect: Connect,
    when: int | str,
) -> None:
    """The N-th write of each thread, which may be one of the start."""
    server = on_a_bad_disk("pwrite64", str(when))
    refused = []
    if "listens on" not in server.log:
        assert server.process.wait(LIMIT) == 1
        assert "the queue's file" in server.log or "disk I/O error" in server.log
        jobs = 0
    else:
        jobs = 60
        client = connect(server.listening())
        answers = [client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"%d" % n) for n in range(jobs)]
        refused = [n for n, (said, *_) in enumerate(answers) if said == "ERROR"]
        assert len(refused) < 30
        recovered = bool(refused) and refused[-1] < jobs - 1
        assert ("storing jobs again" in server.log) == recovered
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(client.command("getpid").split()[1]), signal.SIGKILL)
        server.process.wait(LIMIT)
    assert "Traceback" not in server.log
    found = everything(worker(connect(durable().listening())))
    assert [int(facts[-1]) for _, *facts in found] == [n for n in range(jobs) if n not in refused]
    tally("write", writes_failed=1, acknowledged=jobs - len(refused), refused=len(refused), lost=0)


def test_submission_before_nonsense_is_answered_before_the_end(
    durable: Start, connect: Connect
) -> None:
    peer = connect(durable().listening())
    job = request(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")
    peer.socket.sendall(request(Packet.ECHO_REQ, b"") + job + b"\0XYZ" + bytes(8))
    assert peer.hear()[0] == "ECHO_RES"
    assert peer.hear()[0] == "JOB_CREATED"
    assert peer.hear()[0] == "ERROR"
    assert peer.closed()


def test_damaged_file_is_refused_with_what_to_do(
    durable: Start, connect: Connect, file: Path
) -> None:
    server = durable()
    client = connect(server.listening())
    for number in range(300):
        in_the_background(client, b"%d" % number * 100)
    server.end()
    data = bytearray(file.read_bytes())
    data[20 * 4096 : 21 * 4096] = bytes(4096)
    file.write_bytes(data)
    server = durable()
    assert server.process.wait(LIMIT) == 1
    assert f"gearmand: {file} is damaged" in server.log
    assert "Traceback" not in server.log
    for line in server.log.splitlines():
        if line.startswith("  "):
            subprocess.run(["sh", "-c", line], check=True)
    assert Path(f"{file}.damaged").read_bytes() == data
    found = everything(worker(connect(durable().listening())))
    assert 200 < len(found) < 300


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_deleted_file_is_noticed_and_jobs_are_refused(
    durable: Start, connect: Connect, file: Path, suffix: str
) -> None:
    server = durable()
    client = connect(server.listening())
    handle = in_the_background(client, b"before")
    deleted = Path(f"{file}{suffix}")
    deleted.unlink()
    await_true(lambda: f"{deleted} was deleted" in server.log)
    said = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"after")
    assert said[:2] == ("ERROR", b"QUEUE_ERROR")
    assert str(file).encode() not in said[2], "peers are not told of files"
    if not suffix:
        assert worker(connect(server.listening())).ask(Packet.GRAB_JOB)[1] == handle
        server.process.kill()
        server.process.wait()
        server = durable()
        assert server.process.wait(LIMIT) == 1
        assert f"{file} is missing or empty, but its log" in server.log
    else:
        assert server.end() == 0, "which writes everything back"
        left = everything(worker(connect(durable().listening())))
        assert [facts[0] for _, *facts in left] == [handle]


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_replaced_file_is_noticed_and_what_was_acknowledged_is_kept(
    durable: Start, connect: Connect, file: Path, suffix: str
) -> None:
    server = durable()
    client = connect(server.listening())
    handle = in_the_background(client, b"before")
    replaced = Path(f"{file}{suffix}")
    copy = file.with_name("copy")
    shutil.copy(replaced, copy)
    copy.rename(replaced)
    await_true(lambda: f"{replaced} was deleted or replaced" in server.log)
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[:2] == ("ERROR", b"QUEUE_ERROR")
    assert server.end() == 0
    left = everything(worker(connect(durable().listening())))
    assert [facts[0] for _, *facts in left] == [handle]


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4000))


def _overwrite_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(200))


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("-wal", lambda path: os.truncate(path, 0)),
        ("-wal", lambda path: os.truncate(path, path.stat().st_size // 2)),
        ("-wal", _overwrite),
        ("-wal", _overwrite_middle),
        ("", lambda path: os.truncate(path, 0)),
    ],
    ids=["empty log", "half a log", "overwritten log", "overwritten middle", "empty file"],
)
def test_file_that_is_cut_or_overwritten_is_noticed_and_nothing_is_acknowledged_into_it(
    durable: Start, connect: Connect, file: Path, suffix: str, damage: Callable[[Path], None]
) -> None:
    server = durable()
    client = connect(server.listening())
    handles = [in_the_background(client, b"before") for _ in range(20)]
    damaged = Path(f"{file}{suffix}")

    def is_noticed() -> bool:
        """Damage it; what was written back meanwhile does not need the log."""
        said, *rest = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")
        if said == "JOB_CREATED":
            handles.append(rest[0])
            damage(damaged)
            return False
        return f"{damaged} was cut or overwritten" in server.log

    await_true(is_noticed)
    peer = worker(connect(server.listening()))
    assert {peer.ask(Packet.GRAB_JOB)[1] for _ in handles} == set(handles), "they are in memory"
    assert server.end() == 0
    again = durable()
    assert again.process.wait(LIMIT) == 1, "it was not written back over sound pages"


@pytest.mark.parametrize("size", [0, 4096], ids=["empty", "one page"])
def test_commit_after_the_file_was_cut_is_refused(
    durable: Start, connect: Connect, file: Path, size: int
) -> None:
    client = connect(durable().listening())
    in_the_background(client, b"before")
    os.truncate(file, size)
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[0] == "ERROR"


def test_long_log_that_is_written_back_and_shrunk_is_no_damage(
    durable: Start, connect: Connect, file: Path
) -> None:
    server = durable()
    client = connect(server.listening())
    peer = worker(connect(server.listening()))
    for _ in range(2):
        for _ in range(24):
            in_the_background(client, bytes(2**20))
        for _ in range(24):
            peer.say(Packet.WORK_COMPLETE, peer.ask(Packet.GRAB_JOB)[1], b"")
        await_true(lambda: file.stat().st_size < 2**23)
    in_the_background(client, b"w")
    os.utime(f"{file}-wal")
    in_the_background(client, b"w")
    assert server.end() == 0
    assert "cut or overwritten" not in server.log


@pytest.mark.parametrize("suffix", ["-wal", "-mark"])
def test_file_of_the_queue_that_the_disk_cannot_read_stops_the_start(
    durable: Start,
    on_a_bad_disk: Callable[..., GearmandProcess],
    connect: Connect,
    file: Path,
    suffix: str,
) -> None:
    server = durable()
    handle = in_the_background(connect(server.listening()), b"w")
    server.process.kill()
    server.process.wait()
    unreadable = Path(f"{file}{suffix}")
    server = on_a_bad_disk("read,pread64", "1+", unreadable)
    assert server.process.wait(LIMIT) == 1
    assert (
        f"{unreadable}, which belongs to the queue, cannot be read: Input/output error"
        in server.log
    )
    left = everything(worker(connect(durable().listening())))
    assert [facts[0] for _, *facts in left] == [handle]


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("suffix", ["-wal", "-mark"])
def test_folder_in_place_of_a_file_of_the_queue_is_named(
    durable: Start, connect: Connect, file: Path, suffix: str, used: bool
) -> None:
    beside = Path(f"{file}{suffix}")
    if used:
        server = durable()
        in_the_background(connect(server.listening()), b"w")
        server.process.kill()
        server.process.wait()
        beside.unlink()
    beside.mkdir()
    server = durable()
    assert server.process.wait(LIMIT) == 1
    assert f"gearmand: {beside}, which belongs to the queue, is not a file" in server.log
    assert "Traceback" not in server.log


def test_missing_log_of_a_server_that_was_killed_stops_the_next_start(
    durable: Start, connect: Connect, file: Path
) -> None:
    server = durable()
    in_the_background(connect(server.listening()), b"w")
    server.process.kill()
    server.process.wait()
    file.with_name("queue-wal").unlink()
    for _ in range(2):
        server = durable()
        assert server.process.wait(LIMIT) == 1
        assert f"gearmand: {file}-wal, the log of the queue, is missing or empty" in server.log


def test_server_that_ends_by_an_error_of_its_start_leaves_the_log_to_the_next(
    durable: Start, connect: Connect, file: Path
) -> None:
    server = durable()
    handle = in_the_background(connect(server.listening()), b"w")
    server.process.kill()
    server.process.wait()
    shown = [sys.executable, "-c", OPENED, str(file)]
    subprocess.run(shown, check=True)
    left = everything(worker(connect(durable().listening())))
    assert [facts[0] for _, *facts in left] == [handle]


def test_graceful_stop_does_the_queue_first(durable: Start, connect: Connect, file: Path) -> None:
    server = durable()
    address = server.listening()
    in_the_background(connect(address), b"w")
    doer = worker(connect(address))
    server.process.send_signal(signal.SIGUSR1)
    handle = doer.ask(Packet.GRAB_JOB)[1]
    doer.say(Packet.WORK_COMPLETE, handle, b"")
    assert server.process.wait(LIMIT) == 0
    assert everything(worker(connect(durable().listening()))) == []
