"""Job servers that share a database: killed, held up, cut off from it, and taken over.

PostgreSQL and Redis are Debian's, and real. Set SUCCESSIONS to kill more often.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gearman_py import Client
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from gearman_py.server.store_writer import WARN_INTERVAL
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.server import databases
from tests.server.databases import Database, Postgres, Redis, Wire
from tests.server.load import Book
from tests.server.test_reload import HANGING
from tests.tally import tally
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
SUCCESSIONS = int(os.environ.get("SUCCESSIONS", "1"))
NAMESAKES = int(os.environ.get("NAMESAKES", "1"))
SYNC = b"S\0\0\0\4"  # the end of a group, to PostgreSQL
# A job server whose clock stands still: without more all of them would give out the same numbers.
ONE_MOMENT = """
import sys, time
time.time_ns = lambda: 1_800_000_000_000_000_000
from gearman_py.cli.gearmand import main
sys.exit(main())
"""
# A job server by whose time of day a minute passes in each second after a time.
FAST_CLOCK = """
import sys, time
begin, real = %r, time.time
time.time = lambda: begin + 60 * (real() - begin)
from gearman_py.cli.gearmand import main
sys.exit(main())
"""


@pytest.fixture(scope="session")  # tests of other files may come between these
def empty_postgres() -> Iterator[Path]:
    """The data of a PostgreSQL that was never started: to make it takes most of a start."""
    with databases.open_folder() as folder:
        yield Postgres(folder).data


@pytest.fixture(params=[Postgres, Redis])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    more = [request.getfixturevalue("empty_postgres")] if request.param is Postgres else []
    with databases.open_folder() as folder:
        made = request.param(folder, *more)
        with databases.running(made):
            yield made


@pytest.fixture
def serve(database: Database, tmp_path: Path) -> Iterator[Start]:
    """Starts a server on the database; ``name``: its own name, as if on another host."""
    with contextlib.ExitStack() as started:

        def begin(name: str = "one", *more: str, **options: Any) -> GearmandProcess:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            words = ["-L", "127.0.0.1", "-p", "0", "-v", "--job-handle-prefix", f"H:{name}"]
            server = GearmandProcess([*words, *database.options, *more], folder, **options)
            started.callback(server.process.wait)
            started.callback(server.kill)
            return server

        yield begin


def submit(peer: Peer, workload: bytes, unique: bytes = b"") -> bytes:
    """Submit a background job of the function f; its handle."""
    said, handle = peer.ask(Packet.SUBMIT_JOB_BG, b"f", unique, workload)
    assert said == "JOB_CREATED"
    return bytes(handle)


def worker(peer: Peer) -> Peer:
    peer.say(Packet.CAN_DO, b"f")
    return peer


def list_waiting(peer: Peer, function: str) -> list[bytes]:
    """The handles of jobs that wait, in the order of their submission."""
    rows = peer.command(f"jobs waiting function={function} limit=1000").splitlines()[:-1]
    return [row.split(b"\t")[0] for row in rows]


def read_schedule(peer: Peer, what: str) -> float:
    """When the next run of the only schedule is due, or when the last one was."""
    (row, _) = peer.command("schedules").splitlines()
    return float(dict(each.split(b"=", 1) for each in row.split(b"\t")[1:])[what.encode()])


def await_succession(server: GearmandProcess) -> None:
    """Until it has taken over the jobs of another."""
    await_true(lambda: "took over" in server.log)


def await_load(book: Book) -> None:
    """Until many more jobs are acknowledged."""
    wanted = len(book.acknowledged) + 500
    await_true(lambda: len(book.acknowledged) > wanted)


def test_jobs_of_a_killed_server_run_on_another(serve: Start, database: Database) -> None:
    book = Book()
    server = serve("0")
    server.listening()
    for number in range(SUCCESSIONS):
        another = serve(str(number + 1))
        another.listening()
        with book.load(server.listening()):
            await_load(book)
            server.process.kill()
            server.process.wait()
        server = another
        await_succession(server)
    book.work(server.listening(), until_empty=True)
    tally("succession", kills=SUCCESSIONS, **book.check())


def test_servers_of_one_name_and_one_moment_lose_nothing_of_each_other(serve: Start) -> None:
    book = Book()
    for _ in range(NAMESAKES):
        one, two = (serve(program=("-c", ONE_MOMENT)) for _ in range(2))
        with book.load(one.listening()), book.load(two.listening()):
            await_load(book)
            one.process.kill()
            one.process.wait()
            await_succession(two)
            await_load(book)
            two.process.kill()
            two.process.wait()
        last = serve(program=("-c", ONE_MOMENT))
        last.listening()
        await_succession(last)
        book.work(last.listening(), until_empty=True)
        assert last.end() == 0
    # It may have said that there is no job before it had read the second of their shelves.
    book.work(serve().listening(), until_empty=True)
    tally("namesakes", kills=2 * NAMESAKES, **book.check())


def test_job_that_ends_removes_the_record_of_no_other(serve: Start, connect: Connect) -> None:
    one, two = (serve(program=("-c", ONE_MOMENT)) for _ in range(2))
    handles = [submit(connect(each.listening()), b"%d" % n) for n, each in enumerate((one, two))]
    assert handles[0] != handles[1]
    peer = worker(connect(two.listening()))
    handle = peer.ask(Packet.GRAB_JOB)[1]
    peer.say(Packet.WORK_COMPLETE, handle, b"")
    await_true(lambda: two.log != "" and peer.command("status").endswith(b"f\t0\t0\t1\n.\n"))
    assert two.end() == 0
    one.process.kill()
    three = serve("three")
    three.listening()
    await_succession(three)
    assert worker(connect(three.listening())).ask(Packet.GRAB_JOB)[1] == handles[0]


def leave_jobs(serve: Start, connect: Connect) -> set[bytes]:
    """The handles of twenty jobs whose server was killed."""
    server = serve()
    client = connect(server.listening())
    handles = {submit(client, b"%d" % number) for number in range(20)}
    server.process.kill()
    server.process.wait()
    return handles


def test_jobs_whose_keeper_does_not_exist_are_taken_over(
    serve: Start, connect: Connect, database: Database
) -> None:
    handles = leave_jobs(serve, connect)
    if isinstance(database, Postgres):
        with psycopg.connect(database.where, autocommit=True) as sql:
            sql.execute("UPDATE gearman_queue_shelf SET keeper = 4711")
    elif isinstance(database, Redis):
        database.connect().hset("gearman_py:shelf:1", "keeper", 4711)
    another = serve("another")
    another.listening()
    await_succession(another)
    peer = worker(connect(another.listening()))
    found = {peer.ask(Packet.GRAB_JOB)[1] for _ in handles}
    assert found == handles
    assert another.log.count("took over 20 jobs") == 1


def delete_entries(database: Database) -> None:
    if isinstance(database, Postgres):
        with psycopg.connect(database.where, autocommit=True) as sql:
            sql.execute("DELETE FROM gearman_queue_shelf")
    elif isinstance(database, Redis):
        with contextlib.closing(database.connect()) as redis:
            redis.delete(*redis.keys("gearman_py:1:shelf:*"))


def test_jobs_whose_entry_was_deleted_are_taken_over(
    serve: Start, connect: Connect, database: Database
) -> None:
    handles = leave_jobs(serve, connect)
    delete_entries(database)
    again = serve()
    again.listening()
    await_succession(again)
    peer = worker(connect(again.listening()))
    assert {peer.ask(Packet.GRAB_JOB)[1] for _ in handles} == handles
    assert again.log.count("the entry of shelf 1, which has jobs, was deleted") == 1


def test_deleted_entry_of_a_server_that_runs_stops_it_and_its_jobs_run_once(
    serve: Start, connect: Connect, database: Database
) -> None:
    server = serve()
    client = connect(server.listening())
    handles = {submit(client, b"%d" % number) for number in range(20)}
    delete_entries(database)
    another = serve()
    assert server.process.wait(LIMIT) == 1
    assert "no longer has the records of this server: they were deleted" in server.log
    another.listening()
    await_succession(another)
    peer = worker(connect(another.listening()))
    assert {peer.ask(Packet.GRAB_JOB)[1] for _ in handles} == handles
    assert peer.ask(Packet.GRAB_JOB) == ("NO_JOB",)


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_redis_key_that_all_servers_use_is_missing(
    serve: Start, connect: Connect, database: Redis
) -> None:
    handles = leave_jobs(serve, connect)
    with contextlib.closing(database.connect()) as redis:
        redis.delete("gearman_py:1:last", "gearman_py:1:shelves")
    again = serve()
    again.listening()
    await_succession(again)
    peer = worker(connect(again.listening()))
    assert {peer.ask(Packet.GRAB_JOB)[1] for _ in handles} == handles


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_redis_key_of_a_wrong_type_is_named(
    serve: Start, connect: Connect, database: Redis
) -> None:
    handles = []
    for name in ("one", "two"):
        server = serve(name)
        handles.append(submit(connect(server.listening()), b"w"))
        server.process.kill()
        server.process.wait()
    with contextlib.closing(database.connect()) as redis:
        redis.delete("gearman_py:1:shelf:1")
        redis.set("gearman_py:1:shelf:1", "x")
        three = serve("three")
        three.listening()
        await_succession(three)
        assert three.log.count("gearman_py:1:shelf:1 is damaged") == 1
        peer = worker(connect(three.listening()))
        assert peer.ask(Packet.GRAB_JOB)[1] == handles[1]
        redis.delete("gearman_py:1:shelf:1")  # as the log says
        assert three.end() == 0
        four = serve("four")
        four.listening()
        await_true(lambda: "took over 1 jobs of H:four" in four.log)
        four.process.kill()
        four.process.wait()
        redis.rename("gearman_py:1:shelves", "aside")
        redis.set("gearman_py:1:shelves", "x")
        refused = serve("five")
        assert refused.process.wait(LIMIT) == 1
        assert "the key gearman_py:1:shelves is a string, not a set" in refused.log
        redis.rename("gearman_py:1:shelves", "aside")
        five = serve("five")
        five.listening()
        await_succession(five)


def test_server_that_stops_leaves_its_jobs_to_the_next_start(
    serve: Start, connect: Connect
) -> None:
    server = serve()
    client = connect(server.listening())
    handles = [submit(client, b"%d" % number) for number in range(3)]
    assert client.command("server pause") == b"OK\r\n"
    assert server.end() == 0
    peer = worker(connect(serve().listening()))
    assert peer.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    assert peer.command("server resume") == b"OK\r\n"
    assert [peer.ask(Packet.GRAB_JOB)[1] for _ in handles] == handles
    assert peer.ask(Packet.GRAB_JOB) == ("NO_JOB",)


def test_taken_over_job_is_the_same_job(serve: Start, connect: Connect) -> None:
    one, two = serve("one"), serve("two")
    client = connect(one.listening())
    first = submit(client, b"its own", b"unique")
    mine = connect(two.listening())
    second = submit(mine, b"the other's", b"unique")
    one.process.kill()
    await_succession(two)
    peer = worker(connect(two.listening()))
    [*got] = (peer.ask(Packet.GRAB_JOB_UNIQ) for _ in range(2))
    assert got == [
        ("JOB_ASSIGN_UNIQ", second, b"f", b"unique", b"the other's"),
        ("JOB_ASSIGN_UNIQ", first, b"f", b"unique", b"its own"),
    ]
    assert mine.ask(Packet.GET_STATUS, first)[:4] == ("STATUS_RES", first, b"1", b"1")
    for told in got:
        peer.say(Packet.WORK_COMPLETE, told[1], b"")
    await_true(lambda: mine.command("status").endswith(b"f\t0\t0\t1\n.\n"))
    assert two.end() == 0
    again = worker(connect(serve("two").listening()))
    assert again.ask(Packet.GRAB_JOB) == ("NO_JOB",)


def test_pause_goes_with_the_jobs_to_the_server_that_takes_them_over(
    serve: Start, connect: Connect
) -> None:
    server = serve()
    client = connect(server.listening())
    submit(client, b"1")
    assert client.command("pause f") == b"OK\r\n"
    assert client.command("server pause") == b"OK\r\n"
    server.kill()
    server = serve("two")
    waits = worker(connect(server.listening()))
    ops = connect(server.listening())
    await_true(lambda: len(list_waiting(ops, "f")) == 1)
    assert waits.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    assert b"paused\t0\n" in ops.command("server"), "it is not the server that was paused"
    assert ops.command("resume f") == b"OK\r\n"
    assert waits.ask(Packet.GRAB_JOB)[-1] == b"1"


def test_a_limit_that_is_stored_behind_many_jobs_holds_for_the_first_of_them(
    serve: Start, connect: Connect
) -> None:
    """They are more than are read at a time, and workers of the other server ask all the while."""
    one, two = serve("one"), serve("two")
    client, address = connect(one.listening()), two.listening()
    for first in range(0, 4500, 300):
        jobs = range(first, first + 300)
        packets = (
            request(Packet.SUBMIT_JOB_BG, b"f", b"k%d:%d" % (n // 1500, n), b"") for n in jobs
        )
        client.socket.sendall(b"".join(packets))
        assert {client.hear()[0] for _ in jobs} == {"JOB_CREATED"}
    assert client.command("limit f per-key=1") == b"OK\r\n"
    workers = [worker(connect(address)) for _ in range(5)]
    running = []

    def all_keys_run() -> bool:
        for each in workers:
            told = each.ask(Packet.GRAB_JOB_UNIQ)
            if told != ("NO_JOB",):
                running.append(told[3].partition(b":")[0])
        return len(running) >= 3

    one.kill()
    await_true(all_keys_run)
    await_true(lambda: b"f\t4500\t3\t5\n" in workers[0].command("status"))
    all_keys_run()
    assert sorted(running) == [b"k0", b"k1", b"k2"]


def assert_postponed(ops: Peer, handle: bytes) -> None:
    """Of all jobs this one alone waits for its time, which is in an hour, and was tried once."""
    (row, _) = ops.command("jobs scheduled").splitlines()
    assert row.startswith(handle + b"\t")
    assert b"\tattempts=1\t" in row
    assert b"\tpriority=low\t" in row
    due = float(row.partition(b"\tdue=")[2].split(b"\t")[0])
    assert time.time() < due < time.time() + 3601


def test_failed_and_postponed_jobs_go_to_the_server_that_takes_over(
    serve: Start, connect: Connect
) -> None:
    server = serve()
    client, doer = connect(server.listening()), worker(connect(server.listening()))
    handles = [submit(client, workload) for workload in (b"1", b"2")]
    for handle in handles:
        assert doer.ask(Packet.GRAB_JOB)[1] == handle
        doer.say(Packet.WORK_FAIL, handle)
    postponed = submit(client, b"postponed")
    assert doer.ask(Packet.OPTION_REQ, b"retries") == ("OPTION_RES", b"retries")
    assert doer.ask(Packet.GRAB_JOB) == ("JOB_ATTEMPT", postponed, b"1")
    doer.say(Packet.WORK_RETRY, doer.hear()[1], b"3600000", b"not yet")
    assert doer.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    submit(client, b"3")  # what has become of the others is stored, too, once this is
    assert client.command(f"prioritize job {postponed.decode()} low") == b"OK\r\n"
    server.kill()
    server = serve("two")
    ops = connect(server.listening())
    await_true(lambda: ops.command("jobs failed").count(b"\n") == 3)
    await_true(lambda: b"f\tjobs=2\t" in ops.command("stats"))
    assert_postponed(ops, postponed)
    assert ops.command(f"discard job {handles[1].decode()}") == b"OK\r\n"
    assert ops.command(f"retry job {handles[0].decode()}") == b"OK\r\n"  # and both are stored
    assert ops.command("jobs failed") == b".\n"
    server.kill()
    server = serve("three")
    ops, doer = connect(server.listening()), worker(connect(server.listening()))
    await_true(lambda: len(list_waiting(ops, "f")) == 2)
    assert_postponed(ops, postponed)
    assert {doer.ask(Packet.GRAB_JOB)[-1] for _ in range(2)} == {b"1", b"3"}
    assert ops.command("jobs failed") == b".\n"
    assert doer.ask(Packet.GRAB_JOB) == ("NO_JOB",)


def test_results_go_to_the_server_that_takes_over(serve: Start, connect: Connect) -> None:
    server = serve("one", "--keep-results", "3600")
    client, doer = connect(server.listening()), worker(connect(server.listening()))
    handle = submit(client, b"1")
    assert doer.ask(Packet.GRAB_JOB)[1] == handle
    doer.say(Packet.WORK_COMPLETE, handle, b"result")
    assert doer.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    submit(client, b"2")  # the result is stored, too, once this is
    server.kill()
    server = serve("two", "--keep-results", "3600")
    ops = connect(server.listening())
    await_true(lambda: b"kept_results=1\t" in ops.command("stats"))
    assert ops.ask(Packet.OPTION_REQ, b"results") == ("OPTION_RES", b"results")
    assert ops.ask(Packet.GET_RESULT, handle) == ("JOB_FOUND", handle, b"1", b"f")
    assert ops.hear() == ("WORK_COMPLETE", handle, b"result")
    server.kill()
    ops = connect(serve("three").listening())
    await_true(lambda: b"f\tjobs=1\t" in ops.command("stats"))
    assert ops.command(f"result {handle.decode()}").startswith(b"ERR UNKNOWN_JOB"), "not kept"


def test_server_that_stood_still_gives_out_nothing_that_another_has(
    serve: Start, connect: Connect
) -> None:
    one, two = serve("one"), serve("two")
    client = connect(one.listening())
    for number in range(20):
        submit(client, b"%d" % number)
    its, others = worker(connect(one.listening())), worker(connect(two.listening()))
    its.ask(Packet.ECHO_REQ, b"")
    one.process.send_signal(signal.SIGSTOP)
    for _ in range(20):
        its.say(Packet.GRAB_JOB)  # it hears that when it goes on
    await_succession(two)
    one.process.send_signal(signal.SIGCONT)
    with contextlib.suppress(AssertionError, OSError):  # it leaves
        while True:
            assert its.hear() == ("NO_JOB",)
    assert one.process.wait(LIMIT) == 1
    assert "another server took over its jobs: stopping" in one.log
    assert [others.ask(Packet.GRAB_JOB)[-1] for _ in range(20)] == [b"%d" % n for n in range(20)]


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_group_that_arrives_late_is_not_done_a_second_time(
    serve: Start, database: Redis, connect: Connect
) -> None:
    with Wire(database.port) as wire:
        server = serve("one", "--redis-port", str(wire.port))
        client, peer = connect(server.listening()), worker(connect(server.listening()))
        client.socket.settimeout(2 * LIMIT)
        submit(client, b"first")
        peer.say(Packet.WORK_COMPLETE, peer.ask(Packet.GRAB_JOB)[1], b"")
        wire.hold()  # what is sent now arrives later; who connects anew is served
        submit(client, b"second")
        peer.say(Packet.WORK_COMPLETE, peer.ask(Packet.GRAB_JOB)[1], b"")
        with contextlib.closing(database.connect()) as connection:
            await_true(lambda: not connection.keys("gearman_py:1:jobs:*"))
            wire.release()
            await_true(lambda: wire.delivered)
            assert not connection.keys("gearman_py:1:jobs:*"), "a job that is done is there again"


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_server_that_was_cut_off_within_a_group_keeps_no_lock(
    serve: Start, database: Postgres, connect: Connect
) -> None:
    with Wire(database.port) as wire:
        cut = serve("one", "--postgres", f"{database.where} port={wire.port}")
        other = serve("two")
        client, healthy = connect(cut.listening()), connect(other.listening())
        submit(client, b"kept")
        wire.hold(SYNC)
        await_true(lambda: wire.holds)  # PostgreSQL has begun a transaction, and waits for its end
        cut.process.send_signal(signal.SIGSTOP)
        await_succession(other)
        assert "had stopped in a group" in other.log
        assert "cannot look for jobs" not in other.log
        assert worker(healthy).ask(Packet.GRAB_JOB)[-1] == b"kept"
        cut.process.send_signal(signal.SIGCONT)
        wire.release()
        assert cut.process.wait(LIMIT) == 1


def test_peers_of_a_server_that_was_cut_off_and_comes_back(
    serve: Start, database: Database, connect: Connect
) -> None:
    """It learns that another took over its jobs, and ends: systemd starts it again."""
    assert isinstance(database, Postgres | Redis)
    with Wire(database.port) as wire:
        if isinstance(database, Redis):
            words = ["--redis-port", str(wire.port)]
        else:
            words = ["--postgres", f"{database.where} port={wire.port}"]
        cut, other = serve("one", *words, "--drain-timeout", str(LIMIT)), serve("two")
        addresses = [cut.listening(), other.listening()]
        background, foreground, client, idle = (connect(addresses[0]) for _ in range(4))
        submit(client, b"kept")
        assert worker(background).ask(Packet.GRAB_JOB)[-1] == b"kept"
        foreground.say(Packet.CAN_DO, b"g")
        with Client(["{}:{}".format(*each) for each in addresses]) as ours:
            waiting = [ours.submit("later", b"%d" % number) for number in range(8)]
            assert {job.server for job in waiting} == {"{}:{}".format(*each) for each in addresses}
            wire.hold()
            wire.cut = True
            await_succession(other)
            # Those of its peers that wait for no database go on meanwhile.
            for number in range(2):
                _, handle = client.ask(Packet.SUBMIT_JOB, b"g", b"", b"%d" % number)
                assert foreground.ask(Packet.GRAB_JOB)[1] == handle
                if number:
                    break
                foreground.say(Packet.WORK_COMPLETE, handle, b"r")
                assert client.hear() == ("WORK_COMPLETE", handle, b"r")
            assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[:2] == (
                *("ERROR", b"QUEUE_ERROR"),
            )
            wire.release()
            # What runs in the foreground ends first; one in the background runs again.
            await_true(lambda: "1 running jobs may end within" in cut.log)
            assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[0] == "ERROR"
            foreground.say(Packet.WORK_COMPLETE, handle, b"r")
            assert client.hear() == ("WORK_COMPLETE", handle, b"r")
            assert cut.process.wait(LIMIT) == 1
            assert "another server took over its jobs" in cut.log
            assert all(each.closed() for each in (background, foreground, client, idle))
            healthy = connect(addresses[1])
            assert worker(healthy).ask(Packet.GRAB_JOB)[-1] == b"kept"
            # Those that waited are given back, and ours are submitted to the other by themselves.
            healthy.say(Packet.CAN_DO, b"later")
            with ThreadPoolExecutor(1) as pool:
                results = pool.submit(lambda: [job.result(LIMIT) for job in waiting])
                for _ in waiting:
                    healthy.say(Packet.WORK_COMPLETE, grab(healthy)[1], b"done")
                assert results.result(LIMIT) == [b"done"] * 8
        again = connect(serve("one").listening())
        submit(again, b"new")
        assert worker(again).ask(Packet.GRAB_JOB)[-1] == b"new"


def grab(peer: Peer) -> tuple[Any, ...]:
    """The next job, once there is one."""
    told: list[tuple[Any, ...]] = []

    def has_job() -> bool:
        told.append(peer.ask(Packet.GRAB_JOB))
        return told[-1] != ("NO_JOB",)

    await_true(has_job)
    return told[-1]


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_nothing_runs_of_what_a_server_refused_that_was_cut_off(
    serve: Start, database: Redis, connect: Connect
) -> None:
    with Wire(database.port) as wire:
        cut = serve("one", "--redis-port", str(wire.port))
        other = serve("two")
        other.listening()
        clients = [connect(cut.listening()) for _ in range(8)]
        submit(clients[0], b"kept")
        wire.deaf = True  # what it sends arrives, and no answer comes
        refused = []
        for number, client in enumerate(clients):
            client.socket.settimeout(2 * LIMIT)
            client.say(Packet.SUBMIT_JOB_BG, b"f", b"", b"%d" % number)
        for number, client in enumerate(clients):
            with contextlib.suppress(AssertionError, OSError):  # hung up on
                if client.hear()[0] == "ERROR":
                    refused.append(b"%d" % number)
        await_succession(other)
        peer = worker(connect(other.listening()))
        ran = []
        while (told := peer.ask(Packet.GRAB_JOB)) != ("NO_JOB",):
            ran.append(told[-1])
        assert b"kept" in ran
        assert not set(refused) & set(ran)


def test_jobs_survive_kill_9_of_the_database(serve: Start, database: Database) -> None:
    book = Book()
    server = serve()
    with book.load(server.listening(), rejoin=True):
        for _ in range(SUCCESSIONS):
            await_load(book)
            databases.kill(database)
            database.start()
        await_load(book)
        assert server.end() == 0
    book.work(serve().listening(), until_empty=True)
    tally("database", kills=SUCCESSIONS, **book.check())


def test_no_answer_from_the_database_answers_no_background_job_and_serves_the_others(
    serve: Start, database: Database, connect: Connect
) -> None:
    server = serve()
    sent, peer, client = (connect(server.listening()) for _ in range(3))
    peer.socket.settimeout(2 * LIMIT)
    sent.socket.settimeout(2 * LIMIT)
    submit(peer, b"withheld")
    databases.send(database, signal.SIGSTOP)
    sent.say(Packet.SUBMIT_JOB_BG, b"f", b"", b"may have arrived, may not")
    assert client.ask(Packet.SUBMIT_JOB, b"f", b"", b"in the foreground")[0] == "JOB_CREATED"
    assert sent.closed(), "it is told something that is not known"
    peer.say(Packet.SUBMIT_JOB_BG, b"f", b"", b"never left")
    assert peer.hear() == (
        *("ERROR", b"QUEUE_ERROR"),
        b"the job could not be stored: the queue's database is out of reach",
    )
    for _ in range(60):  # at once, and not each after the five seconds of the first
        assert peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"refused")[:2] == (
            "ERROR",
            b"QUEUE_ERROR",
        )
    doer = worker(connect(server.listening()))
    assert doer.ask(Packet.GRAB_JOB)[-1] == b"in the foreground"
    assert doer.ask(Packet.GRAB_JOB) == ("NO_JOB",), "what another may have by now is given out"
    doer.ask(Packet.ECHO_REQ, b"")
    doer.say(Packet.PRE_SLEEP)
    databases.send(database, signal.SIGCONT)
    assert doer.hear() == ("NOOP",)
    assert doer.ask(Packet.GRAB_JOB)[-1] == b"withheld"
    submit(peer, b"kept")
    assert doer.ask(Packet.GRAB_JOB)[-1] == b"kept"
    assert doer.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    assert "storing jobs again; refused 61 jobs meanwhile" in server.log


def _damage(database: Postgres | Redis) -> int:
    """Break records of a dead server's; how many are broken."""
    if isinstance(database, Postgres):
        with psycopg.connect(database.where, autocommit=True) as connection:
            connection.execute(
                "ALTER TABLE gearman_queue ALTER function DROP NOT NULL, "
                "ALTER workload DROP NOT NULL"
            )
            damage = {
                "function": "NULL",
                "workload": "NULL",
                "priority": "77",
                "deliveries": "-1",
                '"unique"': r"'a\000b'",
                "number": "-5",
            }
            for column, value in damage.items():
                connection.execute(
                    f"UPDATE gearman_queue SET {column} = {value} "  # noqa: S608 - our words
                    "WHERE number = (SELECT max(number) FROM gearman_queue "
                    "WHERE priority < 3 AND deliveries >= 0 AND \"unique\" = '' "
                    "AND function IS NOT NULL AND workload IS NOT NULL)"
                )
        return len(damage)
    with contextlib.closing(database.connect()) as connection:
        [key] = connection.keys("gearman_py:1:jobs:*")
        good = connection.hvals(key)[0]
        bad = {b"7": b"short", b"8": good[:-3], b"9": b"\x4d" + good[1:], b"no number": good}
        bad[b"10"] = good[:9] + b"\xff" * 4 + good[13:]
        bad.pop(b"8")  # a payload that is shorter cannot be told
        connection.hset(key, mapping={**bad, b"11": b""})
        connection.hset(key.replace(b"jobs", b"tries"), b"9", b"many")
        return len(bad) + 1


def test_damaged_records_of_a_dead_server_are_set_aside(
    serve: Start, database: Postgres | Redis, connect: Connect
) -> None:
    one, two = serve("one"), serve("two")
    client = connect(one.listening())
    handles = [submit(client, b"%d" % number) for number in range(8)]
    one.process.kill()
    two.listening()
    broken = _damage(database)
    await_succession(two)
    survivors = handles[:2] if isinstance(database, Postgres) else handles
    peer = worker(connect(two.listening()))
    for _ in survivors:
        assert peer.ask(Packet.GRAB_JOB)[1] in survivors
    assert peer.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    told = re.findall(r"(\d+) jobs (?:of H:one are damaged|have no numbers)", two.log)
    assert sum(map(int, told)) == broken
    submit(peer, b"it goes on")
    assert two.end() == 0
    assert "Traceback" not in two.log


@pytest.mark.parametrize("method", ["commit", "tidy", "adopt"])
def test_error_that_nobody_expected_stops_the_server(
    serve: Start, connect: Connect, method: str
) -> None:
    program = f"""
import pathlib, sys
from gearman_py.store import shared
method = shared.SharedStore.{method}
def broken(self, *arguments):
    if pathlib.Path(sys.argv[-1]).exists():
        raise ZeroDivisionError("a mistake of ours")
    return method(self, *arguments)
shared.SharedStore.{method} = broken
from gearman_py.cli.gearmand import main
sys.exit(main(sys.argv[1:-1]))
"""
    folder = Path(tempfile.mkdtemp())
    server = serve("one", str(folder / "now"), program=("-c", program))
    submit(connect(server.listening()), b"kept")
    (folder / "now").touch()
    assert server.process.wait(LIMIT) == 1
    assert "a mistake of ours" in server.log
    assert "stopping; the next start reads what was stored" in server.log
    shutil.rmtree(folder)


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_redis_without_room_refuses_new_jobs_and_lets_the_old_ones_end(
    serve: Start, database: Redis, connect: Connect
) -> None:
    server = serve()
    client, peer = connect(server.listening()), worker(connect(server.listening()))
    for number in range(20):
        submit(client, b"%d" % number)
    with contextlib.closing(database.connect()) as connection:
        connection.config_set("maxmemory", 1)
        said, code, _ = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"no room")
        assert (said, code) == ("ERROR", b"QUEUE_ERROR")
        for _ in range(20):
            _, handle, *_ = peer.ask(Packet.GRAB_JOB)
            peer.say(Packet.WORK_COMPLETE, handle, b"")
            client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"no room")
        await_true(lambda: not connection.keys("gearman_py:1:jobs:*"))
        assert "maxmemory" in server.log
        assert "stored again" not in server.log, "removals do not show that there is room for jobs"
        server.process.kill()
        again = serve()  # also a new start finds its way in
        assert worker(connect(again.listening())).ask(Packet.GRAB_JOB) == ("NO_JOB",)
        connection.config_set("maxmemory", 0)
        submit(connect(again.listening()), b"room")


@pytest.mark.parametrize("database", [Redis], indirect=True)
@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("appendfsync", "everysec", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("appendonly", "no", "yes"),
    ],
)
def test_redis_set_to_forget_is_refused_and_noticed(
    serve: Start, database: Redis, connect: Connect, name: str, bad: str, good: str
) -> None:
    server = serve()
    client = connect(server.listening())
    submit(client, b"kept")
    with contextlib.closing(database.connect()) as connection:
        connection.config_set(name, bad)
        refused = serve("another")
        assert refused.process.wait(LIMIT) == 1
        assert f"put {name} {good} into its redis.conf" in refused.log
        checked = serve("another", "--check-queue")
        assert checked.process.wait(LIMIT) == 1
        assert f"put {name} {good} into its redis.conf" in checked.log
        await_true(lambda: client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "ERROR")
        assert f"put {name} {good} into its redis.conf" in server.log
        accepting = serve("another", "--accept-loss")
        if name == "maxmemory-policy":
            assert accepting.process.wait(LIMIT) == 1, "a queue that is thrown away is accepted"
        else:
            submit(connect(accepting.listening()), b"as you like")
            assert "--accept-loss" in accepting.log
        connection.config_set(name, good)
        await_true(lambda: client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED")


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_redis_whose_default_user_could_not_read_the_jobs_again_is_refused(
    serve: Start, database: Redis, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("guess")
    (tmp_path / "password").chmod(0o600)
    login = ("--redis-user", "queue", "--redis-passfile", str(tmp_path / "password"))
    rules = {"enabled": True, "passwords": ["+guess"], "keys": ["*"], "commands": ["+@all"]}
    with contextlib.closing(database.connect()) as connection:
        connection.acl_setuser("queue", **rules)
        connection.auth("guess", "queue")
        for limit in ("-@all", "resetkeys"):
            connection.execute_command("ACL", "SETUSER", "default", "off", limit)
            refused = serve("one", *login)
            assert refused.process.wait(LIMIT) == 1
            assert "put `user default off +@all ~* &*` into its redis.conf" in refused.log
            connection.execute_command("ACL", "SETUSER", "default", "off", "+@all", "~*")
        submit(connect(serve("one", *login).listening()), b"kept")


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_second_setting_that_is_bad_is_named_at_once(
    serve: Start, database: Redis, connect: Connect
) -> None:
    server = serve()
    client = connect(server.listening())

    def is_named(setting: str) -> bool:
        said = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0]
        return said == "ERROR" and f"put {setting} into its redis.conf" in server.log

    with contextlib.closing(database.connect()) as connection:
        connection.config_set("appendfsync", "everysec")
        await_true(lambda: is_named("appendfsync always"))
        connection.config_set("appendonly", "no")
        began = time.monotonic()
        await_true(lambda: is_named("appendonly yes"))
        assert time.monotonic() - began < WARN_INTERVAL, "the first one was logged just before"
        connection.config_set("appendonly", "yes")
        connection.config_set("appendfsync", "always")


@pytest.mark.parametrize("database", [Redis], indirect=True)
def test_server_whose_keys_are_gone_stops_and_says_why(serve: Start, database: Redis) -> None:
    server = serve()
    server.listening()
    with contextlib.closing(database.connect()) as connection:
        connection.flushall()
    assert server.process.wait(LIMIT) == 1
    assert "no longer has the records of this server: they were deleted or evicted" in server.log


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_postgres_table_that_a_crash_would_empty_is_refused(
    serve: Start, database: Postgres
) -> None:
    assert serve().listening()
    with psycopg.connect(database.where, autocommit=True) as connection:
        connection.execute("ALTER TABLE gearman_queue SET UNLOGGED")
    refused = serve("another")
    assert refused.process.wait(LIMIT) == 1
    assert "ALTER TABLE gearman_queue SET LOGGED" in refused.log


@pytest.mark.parametrize(("queue", "module"), [("postgres", "psycopg"), ("redis", "redis")])
def test_driver_that_is_missing_is_named(
    start: Start, tmp_path: Path, queue: str, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text("raise ImportError('No module named x')")
    server = start("-q", queue, PYTHONPATH=str(tmp_path))
    assert server.process.wait(LIMIT) == 1
    assert f"pip install 'gearman_py[{queue}]'" in server.log


@pytest.mark.parametrize("queue", ["--libpq-conninfo=host=127.0.0.1 port=1", "--redis-port=1"])
def test_start_without_the_database_fails_and_says_so(start: Start, queue: str) -> None:
    server = start("-q", "libpq" if "libpq" in queue else "redis", queue)
    assert server.process.wait(LIMIT) == 1
    assert "onnection refused" in server.log
    assert "Traceback" not in server.log


def test_redis_that_would_forget_is_refused(start: Start, tmp_path: Path) -> None:
    redis = Redis(tmp_path, "--appendonly", "yes")
    redis.start()
    server = start(*redis.options)
    assert server.process.wait(LIMIT) == 1
    assert "put appendfsync always into its redis.conf" in server.log
    databases.kill(redis)


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_table_of_another_program_is_refused(serve: Start, database: Postgres) -> None:
    with psycopg.connect(database.where, autocommit=True) as connection:
        connection.execute("CREATE TABLE gearman_queue (a int)")
    server = serve()
    assert server.process.wait(LIMIT) == 1
    assert "the table gearman_queue belongs to another program" in server.log


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_postgres_table_that_was_dropped_is_said_and_made_again_at_the_next_start(
    serve: Start, database: Postgres, connect: Connect
) -> None:
    server = serve()
    client = connect(server.listening())
    submit(client, b"before")
    with psycopg.connect(database.where, autocommit=True) as connection:
        connection.execute("DROP TABLE gearman_queue")
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[:2] == ("ERROR", b"QUEUE_ERROR")
    assert "does not exist" in server.log
    assert "SET LOGGED" not in server.log
    assert server.end() == 0
    submit(connect(serve().listening()), b"after")


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_postgres_table_that_was_emptied_is_said_and_its_jobs_run(
    serve: Start, database: Postgres, connect: Connect
) -> None:
    server = serve()
    client = connect(server.listening())
    submit(client, b"before")
    with psycopg.connect(database.where, autocommit=True) as connection:
        connection.execute("TRUNCATE gearman_queue")
    await_true(lambda: "emptied the table gearman_queue" in server.log)
    submit(client, b"after")
    peer = worker(client)
    assert [peer.ask(Packet.GRAB_JOB)[-1] for _ in range(2)] == [b"before", b"after"]


@pytest.mark.slow
def test_many_large_jobs_at_once_are_stored_and_taken_over(
    serve: Start, database: Database, connect: Connect
) -> None:
    one, two = serve("one"), serve("two")
    hog, other = connect(one.listening()), connect(one.listening())
    hog.socket.settimeout(2 * LIMIT)
    workloads = [random.Random(number).randbytes(2 * 2**20) for number in range(24)]  # noqa: S311 - to be repeated
    for workload in workloads:
        hog.say(Packet.SUBMIT_JOB_BG, b"f", b"", workload)
    submit(other, b"small")
    assert {hog.hear()[0] for _ in workloads} == {"JOB_CREATED"}
    two.listening()
    one.process.kill()
    await_succession(two)
    peer = worker(connect(two.listening()))
    expected = {b"small", *workloads}
    assert {peer.ask(Packet.GRAB_JOB)[-1] for _ in expected} == expected


def test_reloaded_server_keeps_its_jobs_until_its_end(
    serve: Start, connect: Connect, database: Database
) -> None:
    """Each process goes on as the same run: no other server sees a gap in its beats.

    A schedule goes on too, over reloads and the takeover: each of its runs is submitted once.
    """
    fast = ("-c", FAST_CLOCK % time.time())
    server, other = serve("one", program=fast), serve("two", program=fast)
    peer = connect(server.listening())
    other.listening()
    assert peer.command("schedule set s function=s missed=all cron=*%20*%20*%20*%20*") == b"OK\r\n"
    first, early = read_schedule(peer, "next"), len(list_waiting(peer, "s"))
    while first != (following := read_schedule(peer, "next")):  # it ran meanwhile
        first, early = following, len(list_waiting(peer, "s"))
    handles = [submit(peer, b"before")]
    process = server.process.pid
    try:
        for number in range(3):
            words = [sys.executable, *fast, "--reload", str(process)]
            done = subprocess.run(words, capture_output=True, text=True, timeout=2 * LIMIT)
            assert (done.returncode, done.stderr) == (0, "")
            process = int(peer.command("getpid").split()[1])
            handles.append(submit(peer, b"after %d" % number))
        assert list_waiting(peer, "f") == handles
        await_true(lambda: read_schedule(peer, "last") > first)
        assert "took over" not in other.log
        fired = read_schedule(peer, "last")
    finally:
        os.kill(process, signal.SIGKILL)
    await_succession(other)
    heir = worker(connect(other.listening()))
    await_true(lambda: len(heir.command("schedules").splitlines()) == 2)
    await_true(lambda: read_schedule(heir, "last") > fired + 60)
    assert heir.command("schedule pause s") == b"OK\r\n"
    runs = early + round((read_schedule(heir, "last") - first) / 60) + 1
    submitted = list_waiting(heir, "s")
    assert len(submitted) == len(set(submitted)) == runs
    ran = []
    for _ in handles:
        _, handle, *_ = heir.ask(Packet.GRAB_JOB)
        heir.say(Packet.WORK_COMPLETE, handle, b"")
        ran.append(handle)
    assert sorted(ran) == sorted(handles)
    assert heir.ask(Packet.GRAB_JOB) == ("NO_JOB",)


def test_reload_that_hangs_does_not_cost_the_server_its_jobs(
    serve: Start, connect: Connect, database: Database
) -> None:
    """It gives up before another server could think that it is gone."""
    server, other = serve("one"), serve("two")
    peer = connect(server.listening())
    other.listening()
    handle = submit(peer, b"before")
    words = [sys.executable, "-c", HANGING.format(step="tell_ready"), str(server.process.pid)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as hanging:
        await_true(lambda: "not reloaded, going on: the other program did not" in server.log)
        assert hanging.wait(LIMIT) == -signal.SIGKILL
    handles = [handle, submit(peer, b"after")]
    assert list_waiting(peer, "f") == handles
    assert "took over" not in server.log + other.log
