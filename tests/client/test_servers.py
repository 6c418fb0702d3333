"""Several job servers: distribution, failover, and jobs on a lost server."""

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gearman_py import (
    AdminClient,
    AsyncClient,
    Client,
    ConnectionLost,
    JobState,
    JobTimeout,
    Retry,
    ServerUnavailable,
    Submit,
    SubmitError,
    Worker,
    WorkerJob,
)
from gearman_py.client.routing import Router, key_of
from gearman_py.net.servers import ServerAddress, describe_failure, parse_servers
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet
from gearman_py.testing import running, server
from tests.job_servers import OUR_GEARMAND, running_server
from tests.ports import reserve_port
from tests.waiting import LIMIT

UNREACHABLE = "127.0.0.1:1"
"""Refuses connections."""


@pytest.fixture
def pair() -> Iterator[list[str]]:
    """Two job servers, each with a worker that returns its name."""
    with server() as one, server() as other:
        workers = [Worker(here.address) for here in (one, other)]
        for worker in workers:
            worker.add_function("where", lambda job: job.server)
        with running(workers[0]), running(workers[1]):
            yield [one.address, other.address]


def test_jobs_are_spread(pair: list[str]) -> None:
    with Client(pair, timeout=LIMIT) as client:
        found = [client.do("where").decode() for _ in range(10)]
        assert sorted(found) == sorted(pair * 5)
        many = client.submit_many([Submit(function="where")] * 10)
        assert sorted(job.result().decode() for job in many) == sorted(pair * 5)


def test_jobs_of_one_unique_go_to_one_server(pair: list[str]) -> None:
    with Client(pair, timeout=LIMIT) as client, Client(pair[::-1], timeout=LIMIT) as other:
        for unique in map(str, range(10)):
            (where,) = {one.do("where", unique=unique) for one in (client, other, client)}
            assert where.decode() in pair
        found = {client.do("where", str(number), unique=True) for number in range(20)}
        assert len(found) == 2


def test_a_server_that_does_not_answer_is_passed_over(pair: list[str]) -> None:
    with Client([UNREACHABLE, pair[0]], timeout=LIMIT) as client:
        for _ in range(4):
            assert client.do("where").decode() == pair[0]

    async def scenario() -> None:
        async with AsyncClient([UNREACHABLE, pair[0]], timeout=LIMIT) as client:
            for _ in range(4):
                assert (await client.do("where")).decode() == pair[0]

    asyncio.run(scenario())


def test_all_unreachable_servers_are_named() -> None:
    with pytest.raises(ServerUnavailable) as caught:
        Client([UNREACHABLE, "127.0.0.1:2"], retry=Retry(attempts=2, first=0.01)).do("f")
    assert {where for where, _ in caught.value.attempts} == {UNREACHABLE, "127.0.0.1:2"}


def test_a_dead_server_is_avoided_for_a_while() -> None:
    servers = parse_servers(["a", "b"])
    router = Router(servers, lambda server: 0)
    router.mark_failed(servers[0], now=100.0)
    assert [router.order_servers(100.01)[0] for _ in range(4)] == [servers[1]] * 4
    assert {router.order_servers(101.0)[0] for _ in range(4)} == set(servers)
    for moment in range(20):
        router.mark_failed(servers[0], now=float(moment))
    assert router.order_servers(42.0)[0] == servers[1]
    assert {router.order_servers(19.0 + 36.1)[0] for _ in range(2)} == set(servers)


def test_a_unique_stays_where_it_is_when_another_server_dies() -> None:
    servers = parse_servers(["a", "b", "c"])
    router = Router(servers, lambda server: 0)
    keys = [key_of("f", str(number), b"") for number in range(300)]
    before = {key: router.order_servers(0.0, key)[0] for key in keys}
    assert {*before.values()} == set(servers)
    router.mark_failed(servers[0], now=0.0)
    for key, was in before.items():
        now = router.order_servers(0.01, key)[0]
        assert now == was if was != servers[0] else now != servers[0]


def test_a_restarted_server_is_used_again(gearmand: Any) -> None:
    worker = Worker(gearmand.address)
    worker.add_function("f", lambda job: b"done")
    with (
        running(worker),
        Client(gearmand.address, timeout=LIMIT, retry=Retry(attempts=10)) as client,
    ):
        assert client.do("f") == b"done"
        gearmand.stop()
        back = threading.Timer(0.5, gearmand.start)
        back.start()
        assert client.do("f") == b"done"
        back.join()


@pytest.fixture
def slow(gearmand: Any) -> Iterator[threading.Event]:
    """A worker whose function waits for an event."""
    go_on = threading.Event()
    worker = Worker(gearmand.address, concurrency=20)

    @worker.function("slow", workload=True)
    def slow(workload: bytes) -> bytes:
        go_on.wait(20)
        return workload

    with running(worker):
        try:
            yield go_on
        finally:
            go_on.set()


@pytest.mark.slow
def test_a_lost_server_is_an_error_that_knows_the_job(
    gearmand: Any, slow: threading.Event, until: Any
) -> None:
    with Client(gearmand.address, timeout=LIMIT) as client:
        job = client.submit("slow")
        gearmand.stop()
        with pytest.raises(ConnectionLost, match="may have run") as caught:
            job.result()
        assert caught.value.handle == job.handle
        assert caught.value.server == gearmand.address
        gearmand.start()


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_thousand_waiting_jobs_outlive_a_restart_of_their_server(
    gearmand: Any, slow: threading.Event, until: Any, asynchronous: bool
) -> None:
    wanted = [Submit(function="slow", workload=str(number)) for number in range(1000)]
    expected = [str(number).encode() for number in range(1000)]

    def restart() -> None:
        until(lambda: gearmand.running("slow") == 20)
        gearmand.stop()
        time.sleep(0.3)  # away for a while, as a server is that restarts
        gearmand.start()
        slow.set()

    options: Any = {"timeout": 30, "retry": Retry(attempts=8), "on_lost": "resubmit"}
    restarting = threading.Thread(target=restart)
    restarting.start()
    if asynchronous:

        async def scenario() -> list[bytes]:
            async with AsyncClient(gearmand.address, **options) as client:
                return [await job for job in await client.submit_many(wanted)]

        assert asyncio.run(scenario()) == expected
    else:
        with Client(gearmand.address, **options) as client:
            assert [job.result() for job in client.submit_many(wanted)] == expected
    restarting.join()


def test_a_job_is_resubmitted_at_most_as_often_as_configured(gearmand: Any) -> None:
    """A server that crashes on each job."""
    with socket.create_server(("127.0.0.1", 0)) as deadly:
        port = deadly.getsockname()[1]
        accepted = 0

        def die() -> None:
            nonlocal accepted
            while True:
                try:
                    connection, _ = deadly.accept()
                except OSError:
                    return
                with connection:
                    accepted += 1
                    connection.recv(1000)

        thread = threading.Thread(target=die, daemon=True)
        thread.start()
        retry = Retry(attempts=3, first=0.01)
        client = Client(f"127.0.0.1:{port}", timeout=LIMIT, retry=retry, on_lost="resubmit")
        with client, pytest.raises(ConnectionLost):
            client.do("f")
        deadly.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert accepted == 4


def test_a_forked_child_does_not_wait_for_its_parents_job(
    gearmand: Any, slow: threading.Event
) -> None:
    with Client(gearmand.address, timeout=LIMIT) as client:
        job = client.submit("slow")
        if (pid := os.fork()) == 0:
            try:
                job.result(timeout=None)
            except ConnectionLost:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        slow.set()
        assert job.result() == b""


def test_threads_share_a_client_of_several_servers(pair: list[str]) -> None:
    found: list[bytes] = []
    with Client(pair, timeout=LIMIT) as client:

        def ask() -> None:
            found.extend(client.do("where") for _ in range(50))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 400
    assert {*found} == {address.encode() for address in pair}


def test_a_job_knows_its_server(pair: list[str]) -> None:
    def where(job: WorkerJob) -> str:
        return job.server

    with Client(pair, timeout=LIMIT) as client:
        jobs = [client.submit("where") for _ in range(4)]
        assert [job.result().decode() for job in jobs] == [job.server for job in jobs]
        assert all(client.status(job.handle) is not None for job in jobs)


def test_jobs_of_a_server_that_is_gone_for_good_hold_up_no_others(gearmand: Any) -> None:
    with Client(gearmand.address, on_lost="resubmit") as client:
        jobs = client.submit_many(
            Submit(function="unserved", workload=b"%d" % n) for n in range(300)
        )
        gearmand.stop()
        done, left = client.wait(jobs, timeout=60)  # one by one they would take minutes
        assert (len(done), len(left)) == (300, 0)


@pytest.mark.parametrize("servers", [2, 3, 5])
def test_uniques_spread_evenly(servers: int) -> None:
    addresses = [ServerAddress(f"10.0.0.{number}") for number in range(1, servers + 1)]
    router = Router(addresses, lambda _: 0)
    keys = [key_of("resize", f"{number:08}", b"") for number in range(4000)]
    counts = Counter(router.order_servers(0.0, key)[0] for key in keys)
    assert max(counts.values()) < 1.2 * 4000 / servers


def test_clients_of_one_job_do_not_all_begin_with_one_server() -> None:
    addresses = [ServerAddress("a"), ServerAddress("b")]
    first = {Router(addresses, lambda _: 0).order_servers(0.0)[0] for _ in range(100)}
    assert first == {*addresses}


def test_a_dead_server_beside_a_living_one_is_not_an_error(gearmand: Any) -> None:
    dead = f"127.0.0.1:{reserve_port()}"
    for servers in ([dead, gearmand.address], [gearmand.address, dead]):
        with Client(servers) as client:
            assert [client.ping() < 30 for _ in range(2)] == [True, True]
            assert not client.status("H:none:1").known


def test_closing_ends_a_job_that_waits_to_be_submitted_again(gearmand: Any) -> None:
    client = Client(gearmand.address, on_lost="resubmit")
    job = client.submit("unserved")
    gearmand.stop()
    with pytest.raises(ServerUnavailable):
        client.ping()
    client.close()
    assert job.state is JobState.LOST


def test_jobs_of_a_server_that_is_gone_are_submitted_again_together_in_asyncio(
    gearmand: Any,
) -> None:
    wanted = [Submit(function="unserved", workload=b"%d" % n) for n in range(300)]

    async def scenario() -> None:
        async with AsyncClient(gearmand.address, on_lost="resubmit") as client:
            jobs = await client.submit_many(wanted)
            gearmand.stop()
            done, left = await client.wait(jobs, timeout=60)
            assert (len(done), len(left)) == (300, 0)
            assert len({id(job.error) for job in jobs}) == 1, "one look was had for all of them"

    asyncio.run(scenario())


def test_closing_ends_a_job_that_is_being_submitted_again_in_asyncio(gearmand: Any) -> None:
    async def scenario() -> None:
        retry = Retry(attempts=5, first=10)
        client = AsyncClient(gearmand.address, on_lost="resubmit", retry=retry)
        job = await client.submit("unserved")
        gearmand.stop()
        waiting = asyncio.create_task(job.result())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.shield(waiting)
        await client.close()
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionLost, match="closed by this client"):
                await waiting
        assert job.state is JobState.LOST

    asyncio.run(scenario())


@pytest.fixture
def unable(tmp_path: Path) -> Iterator[str]:
    """A job server that cannot store background jobs any more."""
    file = tmp_path / "queue"
    words = [*OUR_GEARMAND, "-q", "sqlite", "--queue-file", str(file)]
    with running_server(words, tmp_path) as (host, port):
        address = f"{host}:{port}"
        with Client(address) as client:
            client.do_background("stored")
        file.unlink()
        yield address


def test_a_job_that_a_server_cannot_store_goes_to_another(pair: list[str], unable: str) -> None:
    with Client([unable, pair[0]]) as client:
        jobs = [client.submit("where", background=True) for _ in range(6)]
        jobs += client.submit_many([Submit(function="where", background=True)] * 6)
        jobs.append(client.submit("where", unique="one", background=True))
        assert {job.server for job in jobs} == {pair[0]}
        assert all(job.handle and job.error is None for job in jobs)


def test_a_job_that_a_server_cannot_store_goes_to_another_async(
    pair: list[str], unable: str
) -> None:
    async def submit() -> set[str]:
        async with AsyncClient([unable, pair[0]]) as client:
            jobs = [await client.submit("where", background=True) for _ in range(6)]
            jobs += await client.submit_many([Submit(function="where", background=True)] * 6)
            assert all(job.handle and job.error is None for job in jobs)
            return {job.server for job in jobs}

    assert asyncio.run(submit()) == {pair[0]}


def test_a_job_that_no_server_stores_is_refused(unable: str) -> None:
    for servers in ([unable], [unable, UNREACHABLE], [UNREACHABLE, unable]):
        with Client(servers) as client, pytest.raises(SubmitError, match="could not be stored"):
            client.do_background("where")


def test_a_job_that_was_given_up_goes_to_no_other_server(pair: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        late = f"127.0.0.1:{door.getsockname()[1]}"
        router = Router(parse_servers([late, pair[0]]), lambda server: 0)
        first, second = islice(
            (
                unique
                for unique in map(str, range(1000))
                if str(router.order_servers(0, key_of("where", unique, b""))[0]) == late
            ),
            2,
        )
        with Client([late, pair[0]], submit_timeout=1) as client:
            with pytest.raises(JobTimeout):
                client.do("where", unique=first)
            peer, _ = door.accept()
            with peer:
                peer.sendall(response(Packet.ERROR, b"QUEUE_ERROR", b"could not be stored"))
            door.close()
            assert client.do("where", unique=second) == pair[0].encode()
            with AdminClient(pair[0]) as admin:
                (row,) = (each for each in admin.stats() if each.name == "where")
            assert row.accepted == 1


def test_a_failure_names_its_server_once() -> None:
    (server,) = parse_servers("one.example.org:4730")
    refused = describe_failure(server, ConnectionRefusedError(111, "Connection refused"), 5)
    assert refused == "one.example.org:4730: Connection refused"
    lost = describe_failure(server, ConnectionLost(str(server), "it closed the connection"), 5)
    assert lost == "lost the connection to one.example.org:4730: it closed the connection"
