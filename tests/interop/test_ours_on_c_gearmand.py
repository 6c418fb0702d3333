"""Our client, worker and commands against the C job server: its ways are what we must know."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from gearman_py import (
    AdminError,
    AsyncClient,
    Client,
    JobException,
    JobFailed,
    QueueFull,
    ResultsUnsupported,
    ResultTooLarge,
    Worker,
    WorkerJob,
)
from gearman_py.admin.client import AdminClient
from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from gearman_py.testing import running
from tests.waiting import LIMIT

Address = tuple[str, int]
Serving = Callable[[list[str], Address, str], None]

PASSWD = Path("/etc/passwd").read_bytes()
LINES = subprocess.run(["wc", "-l"], input=PASSWD, capture_output=True).stdout


def ours(command: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"gearman_py.cli.{command}", *arguments]


@pytest.fixture
def at(c_gearmand: Address) -> str:
    return f"{c_gearmand[0]}:{c_gearmand[1]}"


@pytest.fixture
def client(at: str) -> Iterator[Client]:
    with Client(at, timeout=LIMIT) as client:
        yield client


@pytest.fixture
def bundled(at: str, c_gearmand: Address, serving: Serving) -> None:
    serving(ours("worker", "-h", at, "wc", "reverse", "resize"), c_gearmand, "resize")


def gearman(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ours("gearman", *arguments), input=stdin, capture_output=True, timeout=120
    )


@pytest.mark.usefixtures("bundled")
def test_client_and_worker_do_reverse_and_wc(client: Client, at: str) -> None:
    assert client.do("reverse", "Hello World!") == b"!dlroW olleH"
    assert client.do("wc", PASSWD) == LINES

    async def use() -> tuple[bytes, bytes]:
        async with AsyncClient(at, timeout=LIMIT) as client:
            return await client.do("reverse", "ab"), await client.do("wc", PASSWD)

    assert asyncio.run(use()) == (b"ba", LINES)


@pytest.mark.usefixtures("bundled")
def test_the_command_does_reverse_and_wc(at: str) -> None:
    assert gearman("-h", at, "-f", "wc", stdin=PASSWD).stdout == LINES
    assert gearman("-h", at, "-f", "reverse", "Hello World!").stdout == b"!dlroW olleH"


@pytest.mark.usefixtures("bundled")
def test_the_c_command_uses_our_worker(c_gearmand: Address) -> None:
    command = ["gearman", "-h", c_gearmand[0], "-p", str(c_gearmand[1]), "-f", "wc"]
    done = subprocess.run(command, input=PASSWD, capture_output=True, timeout=120)
    assert done.stdout == LINES


def test_our_command_serves_the_c_command(at: str, c_gearmand: Address, serving: Serving) -> None:
    serving(ours("gearman", "-h", at, "-w", "-f", "gwc", "--", "wc", "-l"), c_gearmand, "gwc")
    command = ["gearman", "-h", c_gearmand[0], "-p", str(c_gearmand[1]), "-f", "gwc"]
    done = subprocess.run(command, input=PASSWD, capture_output=True, timeout=120)
    assert done.stdout == LINES


@pytest.mark.usefixtures("bundled")
def test_an_exception_reaches_the_client_that_always_asks(client: Client) -> None:
    with pytest.raises(JobException, match="ValueError: these 9 bytes are not"):
        client.do("resize", "no image.")


@pytest.mark.usefixtures("bundled")
def test_the_same_unique_twice_on_one_connection(client: Client) -> None:
    jobs = [client.submit("reverse", b"x" * 100_000 + b"y", unique=True) for _ in range(2)]
    assert [job.result()[:2] for job in jobs] == [b"yx", b"yx"]


def test_it_says_that_it_keeps_no_results(client: Client, at: str) -> None:
    handle = client.do_background("held", b"")
    for _ in range(2):
        with pytest.raises(ResultsUnsupported, match=f"{at} cannot be asked for results"):
            client.result(handle)
    assert client.status(handle).known
    with AdminClient(at) as admin, pytest.raises(AdminError, match="UNKNOWN_COMMAND"):
        admin.result(handle)


def test_a_full_queue_and_a_cancelled_job(client: Client, at: str) -> None:
    with AdminClient(at) as admin:
        admin.create_function("full")
        admin.value("maxqueue full 1")
        job = client.submit("full")
        with pytest.raises(QueueFull, match="Job queue is full"):
            client.submit("full")
        admin.cancel(job.handle)
        with pytest.raises(JobFailed):
            job.result()
        assert {row.name for row in admin.status()} >= {"full"}
        assert all(isinstance(row.functions, tuple) for row in admin.workers())
        assert admin.pid() > 1


def test_gearadmin_prints_what_the_c_one_prints(c_gearmand: Address) -> None:
    for option in ("--status", "--server-version", "--priority-status", "--show-unique-jobs"):
        where = ["-h", c_gearmand[0], "-p", str(c_gearmand[1]), option]
        theirs = subprocess.run(["gearadmin", *where], capture_output=True, timeout=120)
        mine = subprocess.run(ours("gearadmin", *where), capture_output=True, timeout=120)
        assert mine.stdout == theirs.stdout


def test_max_jobs_drains_with_every_answer_delivered(client: Client, at: str) -> None:
    worker = Worker(at, max_jobs=20)

    @worker.function("counted")
    def counted(job: WorkerJob) -> bytes:
        return job.workload

    thread = Thread(target=lambda: asyncio.run(worker.serve()))
    thread.start()
    jobs = [client.submit("counted", str(number)) for number in range(20)]
    assert [job.result() for job in jobs] == [b"%d" % number for number in range(20)]
    thread.join(30)
    assert not thread.is_alive()


def _work_by_hand(address: Address, jobs: int, result: bytes) -> None:
    decoder = Decoder(RESPONSE)
    with socket.create_connection(address) as connection:
        connection.sendall(request(Packet.CAN_DO, b"dump"))
        while jobs:
            connection.sendall(request(Packet.GRAB_JOB))
            for packet, arguments in decoder.feed(connection.recv(2**16)):
                if packet == Packet.JOB_ASSIGN:
                    connection.sendall(request(Packet.WORK_COMPLETE, arguments[0], result))
                    jobs -= 1
                elif packet == Packet.NO_JOB:
                    connection.sendall(request(Packet.PRE_SLEEP))
                    connection.recv(2**16)  # NOOP


def test_a_result_over_the_clients_limit_fails_alone_where_the_server_has_none(
    at: str, c_gearmand: Address
) -> None:
    # Ours, and a command under `gearman -w` of C, would not make as much.
    worker = Thread(target=_work_by_hand, args=[c_gearmand, 5, bytes(100_000_000)])
    worker.start()

    async def use() -> None:
        async with AsyncClient(at, timeout=60) as client:
            with pytest.raises(ResultTooLarge, match="limit of 67108864, max_packet"):
                await client.do("dump")
            assert await client.ping() < 60

    asyncio.run(use())
    with Client(at, timeout=60) as client:
        other = client.submit("waits-for-it")
        with pytest.raises(ResultTooLarge, match="a packet of 1000000"):
            client.do("dump")
        assert client.status(other).known, "and what else is awaited there stays"
    with Client(at, timeout=60, max_packet=250_000_000) as large:
        assert len(large.do("dump")) == 100_000_000
    assert len(gearman("-h", at, "--max-packet", "250M", "-f", "dump").stdout) == 100_000_000
    refused = gearman("-h", at, "-f", "dump")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"over the limit of 67108864" in refused.stderr
    worker.join(30)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_job_over_the_workers_limit_fails_alone_where_the_server_has_none(
    at: str, c_gearmand: Address, processes: int
) -> None:
    def answer(function: str, size: int) -> bytes:
        """How a job of so many bytes ends, as its client hears it."""
        decoder = Decoder(RESPONSE)
        with socket.create_connection(c_gearmand, 20) as connection:
            connection.sendall(request(Packet.OPTION_REQ, b"exceptions"))
            connection.sendall(request(Packet.SUBMIT_JOB, function.encode(), b"", bytes(size)))
            while data := connection.recv(2**16):
                for packet, arguments in decoder.feed(data):
                    if packet in (Packet.WORK_COMPLETE, Packet.WORK_EXCEPTION):
                        return arguments[1]
        raise AssertionError("the server closed the connection")

    worker = Worker(at, processes=processes)
    worker.add_function("usual", lambda job: str(len(job.workload)))
    with running(worker):
        with AdminClient(at) as admin:
            before = [row.fd for row in admin.workers() if "usual" in row.functions]
        refused = b"JobTooLarge: it is over the limit of 67108864 (max_packet)"
        assert answer("usual", 100_000_000) == refused
        assert answer("usual", 4) == b"4"
        with AdminClient(at) as admin:
            assert [row.fd for row in admin.workers() if "usual" in row.functions] == before
    larger = Worker(at, processes=processes, max_packet=250_000_000)
    larger.add_function("larger", lambda job: str(len(job.workload)))
    with running(larger):
        assert answer("larger", 100_000_000) == b"100000000"


def test_what_only_ours_have_is_asked_of_those_that_have_it(
    c_gearmand: Address, our_gearmand: Address
) -> None:
    both = [f"{host}:{port}" for host, port in (c_gearmand, our_gearmand)]
    silent = [(both[0], "it does not know this command")]
    with AdminClient(both) as admin, AdminClient(both[1]) as ours_alone:
        ours_alone.pause("paused at ours")
        ours_alone.schedule("at ours", "0 0 1 1 *", "f")
        assert [(row.name, row.server) for row in admin.pauses()] == [("paused at ours", both[1])]
        assert admin.passed_over == silent
        assert [row.name for row in admin.schedules()] == ["at ours"]
        assert "paused at ours" in [row.name for row in admin.stats()]
        assert admin.find_jobs() == []
        assert admin.passed_over == silent
        ours_alone.delete_schedule("at ours")
        ours_alone.resume("paused at ours")
    twice = [both[0], both[0].replace("127.0.0.1", "localhost")]
    with AdminClient(twice) as admin, pytest.raises(AdminError, match="UNKNOWN"):
        admin.pauses()
