"""Client and AsyncClient with our job server."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gearman_py import (
    ArgumentTooLarge,
    AsyncClient,
    Client,
    ConnectionLost,
    GearmanError,
    JobException,
    JobState,
    JobTimeout,
    QueueFull,
    ServerUnavailable,
    Worker,
    WorkerJob,
)
from gearman_py.admin.client import AdminClient
from gearman_py.net import environment
from gearman_py.net.servers import parse_servers
from tests.client.conftest import serving
from tests.leaks import all_closed
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture(scope="module")
def server(shared_gearmand: Any) -> Iterator[Any]:
    """A job server with a worker for these tests."""
    worker = Worker(shared_gearmand.address)

    @worker.function("t-reverse", workload=True)
    def reverse(workload: bytes) -> bytes:
        return workload[::-1]

    @worker.function("t-talk")
    def talk(job: WorkerJob) -> str:
        job.send_status(1, 2)
        job.send_data(b"a")
        job.send_warning("careful")
        job.send_data(job.unique)
        return "end"

    @worker.function("t-raise")
    async def fails(job: WorkerJob) -> None:
        raise ValueError("two\nlines")

    @worker.function("t-fail")
    def gives_up(job: WorkerJob) -> None:
        job.fail("no paper")

    with serving(worker):
        yield shared_gearmand


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    with Client(server.address, timeout=LIMIT) as client:
        yield client


def test_a_constructor_does_not_connect() -> None:
    Client("no.such.host.invalid")
    AsyncClient("no.such.host.invalid")


def test_do_returns_the_result(client: Client) -> None:
    assert client.do("t-reverse", "Hello World!") == b"!dlroW olleH"
    assert client.do_high("t-reverse", b"a\0b") == b"b\0a"
    assert client.do_low("t-reverse") == b""


def test_a_large_workload_comes_back_whole(client: Client) -> None:
    workload = os.urandom(5_000_000)
    assert client.do("t-reverse", workload) == workload[::-1]


def test_callbacks_are_called_in_order(client: Client) -> None:
    heard: list[object] = []
    result = client.do(
        "t-talk",
        unique="key",
        on_data=heard.append,
        on_warning=heard.append,
        on_status=lambda *status: heard.append(status),
    )
    assert (result, heard) == (b"end", [(1, 2), b"a", b"careful", b"key"])


def test_a_job_keeps_data_and_warnings(client: Client) -> None:
    job = client.submit("t-talk")
    assert job.result() == b"end"
    assert (job.data, job.warnings, job.status) == ([b"a", b""], [b"careful"], (1, 2))
    assert job.state is JobState.COMPLETE


def test_an_exception_comes_with_its_type_and_text_on_one_line(client: Client) -> None:
    with pytest.raises(JobException) as error:
        client.do("t-raise")
    assert error.value.text == "ValueError: two lines"
    assert error.value.job.function == "t-raise"


def test_a_failure_comes_with_its_reason(client: Client) -> None:
    with pytest.raises(JobException) as error:
        client.do("t-fail")
    assert error.value.text == "no paper"


def test_a_background_job_has_a_handle_and_no_result(client: Client) -> None:
    job = client.submit("t-unserved", b"", background=True)
    status = client.status(job)
    assert (status.known, status.running) == (True, False)
    with pytest.raises(GearmanError, match="background"):
        job.result()
    assert client.do_high_background("t-unserved").startswith("H:")
    assert not client.status("H:no.such:1").known


def test_a_timeout_leaves_the_job_to_be_asked_again(client: Client) -> None:
    job = client.submit("t-late")
    with pytest.raises(TimeoutError, match=r"no result of t-late within 0\.05 s"):
        job.result(timeout=0.05)
    assert not job.done()
    with pytest.raises(JobTimeout):
        client.do("t-late", timeout=0.01)


def test_threads_share_a_client(client: Client) -> None:
    words = [b"%d" % number for number in range(300)]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda word: client.do("t-reverse", word), words))
    assert results == [word[::-1] for word in words]


def test_the_same_unique_twice_gives_both_the_result(client: Client) -> None:
    jobs = [client.submit("t-shared", b"x", unique=True) for _ in range(2)]
    assert jobs[0].handle == jobs[1].handle
    worker = Worker(jobs[0].server, max_jobs=1)
    worker.add_function("t-shared", lambda job: job.workload)
    with serving(worker):
        assert [job.result() for job in jobs] == [b"x", b"x"]


def test_a_full_queue_is_its_own_error(client: Client, server: Any) -> None:
    with AdminClient(server.address) as admin:
        admin.value("maxqueue t-full 1")
    client.do_background("t-full", b"1")
    with pytest.raises(QueueFull):
        client.do_background("t-full", b"2")
    assert client.do("t-reverse", b"ab") == b"ba"


def test_a_long_unique_is_refused_before_it_is_sent(client: Client) -> None:
    with pytest.raises(ArgumentTooLarge):
        client.do("t-reverse", unique="x" * 65)


def test_a_dead_server_is_passed_over(client: Client, server: Any) -> None:
    dead = f"127.0.0.1:{reserve_port()}"
    with Client([dead, server.address]) as both:
        assert both.do("t-reverse", b"ab", timeout=5) == b"ba"
    with Client(dead) as alone, pytest.raises(ServerUnavailable, match="Connection refused") as e:
        alone.ping()
    assert e.value.attempts == [(dead, "Connection refused")]


def test_a_silent_server_times_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        Client(f"127.0.0.1:{mute.getsockname()[1]}", submit_timeout=0.1) as client,
        pytest.raises(JobTimeout, match="did not accept"),
    ):
        client.do("x")


def test_a_waiting_job_is_lost_with_its_server(gearmand: Any) -> None:
    with Client(gearmand.address, timeout=LIMIT) as client:
        job = client.submit("t-none")
        gearmand.stop()
        with pytest.raises(ConnectionLost, match=f"job {job.handle} may have run"):
            job.result()
        assert job.state is JobState.LOST
        gearmand.start()
        assert client.ping() < 30  # the next use reconnects


def test_a_client_closed_while_a_thread_waits_closes_its_sockets(server: Any) -> None:
    def close_while_waiting() -> None:
        client = Client(server.address, timeout=LIMIT)
        job = client.submit("t-none", unique="t-close")
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(job.result)
            await_true(lambda: client._dispatcher.pool._reading)
            client.close()
            with pytest.raises(ConnectionLost, match="closed by this client"):
                waiting.result(LIMIT)

    with all_closed():
        close_while_waiting()


def test_a_forked_child_opens_its_own_connection(client: Client) -> None:
    client.ping()
    child = os.fork()
    if child == 0:
        os._exit(0 if client.do("t-reverse", b"ab") == b"ba" else 1)
    assert client.do("t-reverse", b"cd") == b"dc"
    assert os.waitpid(child, 0)[1] == 0


def test_the_environment_names_the_server(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARMAN_SERVERS", server.address)
    with Client() as client:
        assert client.ping() < 30


def test_a_file_of_the_host_names_the_server(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "environment"
    monkeypatch.setattr(environment, "FILE", str(file))
    monkeypatch.delenv("GEARMAN_SERVERS", raising=False)
    assert [str(each) for each in parse_servers()] == ["localhost:4730"]
    file.write_text(f"# a comment\n; another\n\nOTHER\nGEARMAN_SERVERS='{server.address}'\n")
    with Client() as client:
        assert client.ping() < 30
    monkeypatch.setenv("GEARMAN_SERVERS", "a,b")
    assert [str(each) for each in parse_servers()] == ["a:4730", "b:4730"]
    assert [str(each) for each in parse_servers("c")] == ["c:4730"]

    monkeypatch.delenv("GEARMAN_SERVERS")
    file.write_text("GEARMAN_SERVERS=gearmans://d\nGEARMAND_CA_CERTIFICATE=/no/ca.pem\n")
    with pytest.raises(ValueError, match=r"/no/ca\.pem: No such file"):
        Client()
    file.unlink()
    file.mkdir()
    with pytest.raises(ValueError, match="environment: Is a directory"):
        Client()


def test_async_client_does_the_same(server: Any) -> None:
    async def use() -> None:
        async with AsyncClient(server.address, timeout=LIMIT) as client:
            words = [b"%d" % number for number in range(200)]
            jobs = [client.do("t-reverse", word) for word in words]
            assert await asyncio.gather(*jobs) == [word[::-1] for word in words]
            job = await client.submit("t-talk")
            assert await job == b"end"
            assert (job.data, job.status) == ([b"a", b""], (1, 2))
            with pytest.raises(JobException, match="ValueError: two lines"):
                await client.do_high("t-raise")
            handle = await client.do_background("t-unserved")
            assert (await client.status(handle)).known
            assert await client.ping() < 30
            with pytest.raises(JobTimeout):
                await client.do("t-late", timeout=0.05)

    asyncio.run(use())


def test_async_client_reports_that_no_server_answers(server: Any) -> None:
    dead = f"127.0.0.1:{reserve_port()}"

    async def use() -> None:
        async with AsyncClient(dead) as client:
            with pytest.raises(ServerUnavailable, match="Connection refused"):
                await client.ping()
        async with AsyncClient(f"{dead},{server.address}") as client:
            assert await client.do("t-reverse", b"ab") == b"ba"

    asyncio.run(use())


def test_async_client_reports_a_lost_job(gearmand: Any) -> None:
    async def use() -> None:
        async with AsyncClient(gearmand.address, timeout=LIMIT) as client:
            job = await client.submit("t-none")
            gearmand.stop()
            with pytest.raises(ConnectionLost, match=job.handle):
                await job

    asyncio.run(use())
