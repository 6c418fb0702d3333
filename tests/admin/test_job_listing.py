"""Listings of jobs in pages, and what a server says about itself."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gearman_py import Client, Worker, WorkerJob
from gearman_py.admin.client import AdminClient
from gearman_py.errors import AdminError
from gearman_py.protocol.packets import Packet
from gearman_py.protocol.text import unescape_name
from gearman_py.testing import running
from tests.job_servers import JobServer
from tests.peer import Peer
from tests.waiting import await_true


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JobServer]:
    server = JobServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: JobServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture
def admin(server: JobServer) -> Iterator[AdminClient]:
    with AdminClient(server.address) as admin:
        yield admin


def test_waiting_jobs_come_in_pages_in_the_order_of_their_turn(
    client: Client, admin: AdminClient
) -> None:
    handles = [client.do_background("f", b"x") for _ in range(1200)]
    first = client.do_high_background("f", b"x")
    last = client.do_low_background("f", b"x")
    client.do_background("other", b"x")
    expected = [first, *handles, last]
    found = []
    for offset in range(0, 1300, 500):
        rows = admin.find_jobs("waiting", function="f", offset=offset, limit=500)
        found += [row.handle for row in rows]
    assert found == expected
    assert {row.function for row in admin.find_jobs(offset=1202)} == {"other"}
    assert admin.find_jobs(offset=1203) == []
    assert [row.handle for row in admin.find_jobs(limit=10**6)][:1202] == expected


def test_one_listing_has_all_jobs_that_wait_while_others_start(
    server: JobServer, client: Client, admin: AdminClient
) -> None:
    handles = [client.do_background("f") for _ in range(3000)]
    worker = Worker([server.address])
    worker.function("f")(lambda job: b"")
    with running(worker):
        await_true(lambda: admin.stats()[0].completed > 0)
        found = [row.handle for row in admin.find_jobs(function="f", limit=10**6)]
        admin.pause("f")
        left = {row.handle for row in admin.find_jobs(function="f", limit=10**6)}
    assert 0 < len(left) < len(handles)
    assert left <= set(found)
    assert found == sorted(set(found), key=handles.index)


@pytest.mark.parametrize(
    "command",
    ["jobs waiting limit=-1", "jobs failed offset=x", "jobs complete limit=", "job H:x:1 many"],
)
def test_a_page_that_is_none_is_refused(admin: AdminClient, command: str) -> None:
    with pytest.raises(AdminError, match=r"INVALID_ARGUMENTS expected: job"):
        admin.listing(command)


def test_a_row_says_what_a_job_is(server: JobServer, client: Client, admin: AdminClient) -> None:
    handle = client.do_background("a function", b"\0work\n", unique="my key")
    (row,) = admin.find_jobs(function="a function")
    assert row == admin.find_jobs(unique="my key")[0]._replace(seconds=row.seconds)
    assert (row.handle, row.state, row.function, row.unique) == (
        *(handle, "waiting", "a function", "my key"),
    )
    assert (row.priority, row.background, row.clients, row.attempts) == ("normal", 1, 0, 0)
    assert row.bytes == 6
    assert admin.find_job(handle).workload == b"\0work\n"
    assert admin.find_job(handle, size=2).workload == b"\0w"
    worker = Peer(("127.0.0.1", server.port))
    with worker.socket:
        worker.say(Packet.SET_CLIENT_ID, b"me")
        worker.say(Packet.CAN_DO, b"a function")
        assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
        (row,) = admin.find_jobs("Running")
        assert (row.handle, row.attempts, row.address) == (handle, 1, "127.0.0.1")
        assert row.client_id == "me"
        assert admin.find_jobs("waiting") == []


def test_scheduled_jobs_come_by_when_they_are_due(client: Client, admin: AdminClient) -> None:
    start = 4102444800
    order = [5, 3, 9, 1, 7, 2, 8, 4, 6, 0]
    for number in order:
        client.do_background("later", str(number), at=float(start + number))
    client.do_background("other", at=float(start))
    rows = admin.find_jobs("scheduled", function="later", offset=2, limit=5)
    assert [row.due - start for row in rows] == [2, 3, 4, 5, 6]
    assert admin.find_job(rows[0].handle).due == start + 2


def test_waiting_job_is_given_another_priority_or_time_or_runs_next(
    client: Client, admin: AdminClient
) -> None:
    one, two, three, four = (client.do_background("f", unique=f"u{n}") for n in range(4))
    admin.prioritize(one, "low")
    admin.run_now(three)
    assert [row.handle for row in admin.find_jobs("waiting")] == [three, two, four, one]
    admin.prioritize(two, "high")
    assert [row.handle for row in admin.find_jobs("waiting")] == [two, three, four, one]
    assert admin.find_jobs(unique="u1")[0].priority == "high"
    assert client.do_background("f", unique="u1") == two, "it is still joined"
    admin.reschedule(four, 4102444800.5)
    admin.reschedule(two, datetime(2100, 1, 1, tzinfo=UTC))
    for at in (4102444803, 4102444801, 4102444803, 4102444801.25):
        admin.reschedule(three, at)
    rows = admin.find_jobs("scheduled")
    assert [(row.handle, row.due, row.priority) for row in rows] == [
        (two, 4102444800, "high"),
        (four, 4102444800.5, "normal"),
        (three, 4102444801.25, "normal"),
    ]
    admin.prioritize(four, "high")
    admin.run_now(four)
    assert [row.handle for row in admin.find_jobs("waiting")] == [four, one]


def test_job_that_runs_or_is_waited_for_is_not_rescheduled(
    server: JobServer, client: Client, admin: AdminClient
) -> None:
    waited_for = client.submit("g").handle
    admin.prioritize(waited_for, "low")
    with pytest.raises(AdminError, match="only background jobs"):
        admin.reschedule(waited_for, 4102444800)
    admin.run_now(waited_for)
    handle = client.do_background("f")
    worker = Peer(("127.0.0.1", server.port))
    with worker.socket:
        worker.say(Packet.CAN_DO, b"f")
        assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
        for change in (admin.run_now, lambda handle: admin.prioritize(handle, "high")):
            with pytest.raises(AdminError, match="the job runs"):
                change(handle)
    with pytest.raises(AdminError, match="UNKNOWN_JOB"):
        admin.run_now("H:x:1")
    with pytest.raises(AdminError, match=r"high\x7cnormal"):
        admin.prioritize(handle, "urgent")
    with pytest.raises(ValueError, match="after 1970"):
        admin.reschedule(handle, -1)


def test_paused_server_says_so_and_gives_out_nothing(
    server: JobServer, client: Client, admin: AdminClient
) -> None:
    client.do_background("f")
    admin.pause_server()
    assert admin.facts()["paused"] == "1"
    assert [row.server_paused for row in admin.stats()] == [1]
    worker = Peer(("127.0.0.1", server.port))
    with worker.socket:
        worker.say(Packet.CAN_DO, b"f")
        assert worker.ask(Packet.GRAB_JOB) == ("NO_JOB",)
        admin.resume_server()
        assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
    assert admin.facts()["paused"] == "0"
    with pytest.raises(AdminError, match="server pause"):
        admin.value("server stop")


def test_what_cannot_be_found_is_said(admin: AdminClient) -> None:
    assert admin.find_jobs(function="nothing") == []
    with pytest.raises(AdminError, match="UNKNOWN_JOB"):
        admin.find_job("H:x:1")
    with pytest.raises(AdminError, match="waiting"):
        admin.find_jobs("lost")


def test_workloads_are_for_operators_where_changes_are(tmp_path: Path) -> None:
    server = JobServer(tmp_path)
    path = tmp_path / "admin"
    server.start("--admin-only", "--admin-listen", f"unix:{path}")
    try:
        with Client(server.address) as client, AdminClient(server.address) as admin:
            handle = client.do_background("f", b"secret")
            assert admin.find_jobs()[0].handle == handle
            with pytest.raises(AdminError, match="admin socket"):
                admin.find_job(handle)
            with pytest.raises(AdminError, match="admin socket"):
                admin.pause_server()
        with AdminClient(f"unix:{path}") as operator:
            assert operator.find_job(handle).workload == b"secret"
    finally:
        server.stop()


def test_a_server_says_what_it_is(admin: AdminClient) -> None:
    facts = admin.facts()
    assert facts["store"] == "memory"
    assert facts["refuses"] == ""
    assert int(facts["memory"]) > 10**6
    assert facts["connections"] == "1"


ODD_NAMES = (
    *(b"caf\xe9", b"tab\there", b"\xff\x80", rb"text\xff", rb"\x5c\x", rb"\x00"),
    *(b"", b"(other)", rb"\x28other)", b"text\xff"),
)
each_odd_name = pytest.mark.parametrize("name", ODD_NAMES)


@each_odd_name
def test_failed_jobs_of_any_function_are_found_by_the_name_that_is_listed(
    server: JobServer, admin: AdminClient, name: bytes
) -> None:
    worker = Peer(("127.0.0.1", server.port))
    with worker.socket:
        worker.ask(Packet.SUBMIT_JOB_BG, name, b"", b"x")
        worker.say(Packet.CAN_DO, name)
        worker.say(Packet.WORK_FAIL, worker.ask(Packet.GRAB_JOB)[1])
        worker.ask(Packet.ECHO_REQ, b"done")
    (listed,) = admin.find_jobs("failed")
    (found,) = admin.find_jobs("failed", function=listed.function)
    assert found.handle == listed.handle
    assert admin.retry_all(function=listed.function) == [listed.handle]


@each_odd_name
def test_a_function_is_steered_by_the_name_that_is_listed(
    server: JobServer, admin: AdminClient, name: bytes
) -> None:
    client = Peer(("127.0.0.1", server.port))
    with client.socket:
        client.ask(Packet.SUBMIT_JOB_BG, name, b"", b"x")
    (listed,) = [row.name for row in admin.stats()]
    admin.pause(listed)
    admin.limit(listed, running=2)
    admin.max_queue(listed, 5)
    (stats,) = admin.stats()
    assert (stats.name, stats.paused, stats.max_running) == (listed, 1, 2)
    admin.resume(listed)
    assert len(admin.purge(listed)) == 1
    admin.limit(listed, running=0)
    admin.drop_function(listed)
    assert admin.status() == []


def test_no_two_names_are_listed_alike(server: JobServer, admin: AdminClient) -> None:
    client = Peer(("127.0.0.1", server.port))
    with client.socket:
        for name in ODD_NAMES:
            client.ask(Packet.SUBMIT_JOB_BG, name, b"", name)
    for listing in (admin.stats(), admin.status()):
        assert len({row.name for row in listing}) == len(listing) == len(ODD_NAMES)
    for row in admin.find_jobs():
        workload = admin.find_job(row.handle).workload
        (stats,) = [each for each in admin.stats() if each.name == row.function]
        assert stats.jobs == 1
        assert unescape_name(row.function.encode()) == workload


def test_a_name_that_looks_like_a_listed_one_is_its_own(client: Client, admin: AdminClient) -> None:
    for name in ("tab\there", r"tab\x09here"):
        client.do_background(name)
    admin.pause(r"tab\x09here")
    assert len(admin.purge(r"tab\x09here")) == 1
    (left,) = admin.find_jobs()
    (found,) = admin.find_jobs(function="tab\there")
    assert found.handle == left.handle


def test_jobs_whose_results_are_kept_are_listed(tmp_path: Path) -> None:
    server = JobServer(tmp_path)
    server.start("--keep-results", "3600")
    worker = Worker([server.address])
    worker.function("f")(lambda job: job.workload * 2)
    worker.function("a \tname")(lambda job: b"")
    try:
        with Client(server.address) as client, AdminClient(server.address) as admin:
            with running(worker):
                handles = []
                for name in ("f", "f", "a \tname"):
                    handles.append(client.do_background(name, b"abc"))
                    client.result(handles[-1], timeout=30)
            rows = admin.find_jobs("complete")
            assert [row.handle for row in rows] == handles[::-1]
            assert [(row.function, row.bytes, row.state) for row in rows[1:]] == [
                ("f", 6, "complete")
            ] * 2
            assert abs(rows[0].completed - time.time()) < 60
            assert admin.find_jobs("complete", function="f") == rows[1:]
            assert admin.find_jobs("complete", function=rows[0].function) == rows[:1]
            assert admin.find_jobs("complete", offset=1, limit=1) == rows[1:2]
            assert admin.find_job(handles[0]) == rows[2]
            with pytest.raises(AdminError, match="INVALID_ARGUMENTS"):
                admin.find_jobs("complete", unique="u")
    finally:
        server.stop()


def test_a_client_says_who_it_is_to_the_server(server: JobServer) -> None:
    with AdminClient(server.address, client_id="alice") as admin:
        admin.pause("f")
        assert [row.by for row in admin.pauses()] == ["alice at 127.0.0.1"]


def test_what_failed_after_a_moment_is_left_as_it_is(
    server: JobServer, client: Client, admin: AdminClient
) -> None:
    worker = Worker([server.address])

    @worker.function("f")
    def fail(job: WorkerJob) -> None:
        job.fail("no")

    with running(worker):
        first = client.do_background("f")
        await_true(lambda: admin.find_jobs("failed"))
        (row,) = admin.find_jobs("failed")
        later = client.do_background("f")
        await_true(lambda: len(admin.find_jobs("failed")) == 2)
    assert admin.discard_all(function="f", until=row.failed) == [first]
    assert [row.handle for row in admin.find_jobs("failed")] == [later]
    assert admin.retry_all(function="f", until=row.failed) == []
    assert admin.retry_all(function="f") == [later]
