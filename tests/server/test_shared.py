"""Job servers that share a database: killed, held up, cut off from it, and taken over.

PostgreSQL and Redis are Debian's, and real. Set SUCCESSIONS to kill more often.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from gearman_py.protocol.packets import Packet
from tests.server import databases
from tests.server.databases import Database, Postgres, Redis
from tests.server.load import Book
from tests.server.process import LIMIT, Peer, Server, await_true
from tests.tally import tally

Start = Callable[..., Server]
Connect = Callable[..., Peer]
SUCCESSIONS = int(os.environ.get("SUCCESSIONS", "1"))


@pytest.fixture(params=[Postgres, Redis])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="database-"))  # others must be able to reach it
    folder.chmod(0o755)
    made = request.param(folder)
    made.start()
    yield made
    databases.kill(made)
    shutil.rmtree(folder)


@pytest.fixture
def serve(database: Database, tmp_path: Path) -> Iterator[Start]:
    """Starts a server on the database; ``name``: its own name, as if on another host."""
    with contextlib.ExitStack() as started:

        def begin(name: str = "one") -> Server:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            words = ["-L", "127.0.0.1", "-p", "0", "-v", "--job-handle-prefix", f"H:{name}"]
            server = Server([*words, *database.options], folder)
            started.callback(server.process.wait)
            started.callback(server.process.kill)
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


def await_succession(server: Server) -> None:
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
            book.server_died()
        server = another
        await_succession(server)
    book.work(server.listening(), until_empty=True)
    tally("succession", kills=SUCCESSIONS, **book.check())


def test_server_that_stops_leaves_its_jobs_to_the_next_start(
    serve: Start, connect: Connect
) -> None:
    server = serve()
    client = connect(server.listening())
    handles = [submit(client, b"%d" % number) for number in range(3)]
    assert server.end() == 0
    peer = worker(connect(serve().listening()))
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
    assert "another one took over its jobs: stopping" in one.log
    assert [others.ask(Packet.GRAB_JOB)[-1] for _ in range(20)] == [b"%d" % n for n in range(20)]


def test_jobs_survive_kill_9_of_the_database(serve: Start, database: Database) -> None:
    book = Book()
    server = serve()
    with book.load(server.listening()):
        for _ in range(SUCCESSIONS):
            await_load(book)
            databases.kill(database)
            database.start()
        await_load(book)
        assert server.end() == 0
        book.server_died()
    book.work(serve().listening(), until_empty=True)
    tally("database", kills=SUCCESSIONS, **book.check())


def test_no_answer_from_the_database_refuses_background_jobs_and_serves_the_others(
    serve: Start, database: Database, connect: Connect
) -> None:
    server = serve()
    peer, client = connect(server.listening()), connect(server.listening())
    peer.socket.settimeout(2 * LIMIT)
    submit(peer, b"withheld")
    databases.send(database, signal.SIGSTOP)
    peer.say(Packet.SUBMIT_JOB_BG, b"f", b"", b"refused")
    assert client.ask(Packet.SUBMIT_JOB, b"f", b"", b"in the foreground")[0] == "JOB_CREATED"
    assert peer.hear() == (
        *("ERROR", b"QUEUE_ERROR"),
        b"the job could not be stored: the queue's database is out of reach",
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
    assert "jobs are stored again" in server.log


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
    assert "put appendonly yes and appendfsync always into its redis.conf" in server.log
    databases.kill(redis)


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_table_of_another_program_is_refused(serve: Start, database: Postgres) -> None:
    with psycopg.connect(database.where, autocommit=True) as connection:
        connection.execute("CREATE TABLE gearman_queue (a int)")
    server = serve()
    assert server.process.wait(LIMIT) == 1
    assert "the table gearman_queue is of another program" in server.log
