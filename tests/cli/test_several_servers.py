"""gearadmin and the AdminClients with several job servers: all are shown as one."""

import asyncio
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gearman_py import AdminClient, AdminError, AsyncAdminClient, Client, ServerUnavailable
from tests.job_servers import C_GEARMAND, running_server
from tests.ports import reserve_port

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def lost() -> Iterator[str]:
    """A server that closes each connection without an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def close_each() -> None:
            with suppress(OSError):
                while True:
                    listening.accept()[0].close()

        thread = threading.Thread(target=close_each)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def servers(shared_gearmand: Any, gearmand: Any) -> list[str]:
    """Two job servers; both know the function "two", the second also "second" and its job."""
    one, two = str(shared_gearmand.address), str(gearmand.address)
    for address in (one, two):
        with AdminClient(address) as admin:
            admin.create_function("two")
    with AdminClient(one) as admin, Client(two) as client:
        here = {row.handle for row in admin.jobs()}
        while client.do_background("second", "x") in here:
            pass  # servers of one host give the same handles
    return [one, two]


def test_listings_have_a_last_column_that_says_which(
    run: Run, servers: list[str], lost: str
) -> None:
    one, two = servers
    both = run("gearadmin", "-h", one, "-h", two, "--status", "--server-version")
    assert (both.returncode, both.stderr) == (0, b"")
    *versions, end = both.stdout.decode().splitlines()
    versions, rows = versions[:2], versions[2:]
    assert (end, [line.split("\t")[1] for line in versions]) == (".", servers)
    assert {f"two\t0\t0\t0\t{one}", f"two\t0\t0\t0\t{two}"} <= set(rows)
    assert any(row.startswith("second\t") and row.endswith(f"\t{two}") for row in rows)
    as_c = run("gearadmin", "-h", two, "--status").stdout.decode().splitlines()
    assert [row.rpartition("\t")[0] for row in rows if row.endswith(two)] == as_c[:-1]

    dead = f"127.0.0.1:{reserve_port()}"
    hosts = ("-h", dead, "-h", one, "-h", lost)
    partial = run("gearadmin", *hosts, "--show-unique-jobs", "--getpid", "--json")
    assert partial.returncode == 5
    told = partial.stderr.decode().splitlines()
    assert told[0] == f"gearadmin: {dead} does not answer: Connection refused"
    assert told[1].startswith(f"gearadmin: {lost} does not answer: ")
    assert len(told) == 2
    (pid,), uniques = map(json.loads, partial.stdout.splitlines())
    assert (pid["server"], type(pid["value"])) == (one, int)
    assert {row["server"] for row in uniques} <= {one}
    none = run("gearadmin", "-h", dead, "-h", lost, "--status")
    assert (none.returncode, none.stdout) == (3, b"")
    assert dead.encode() in none.stderr
    assert lost.encode() in none.stderr


def test_functions_are_changed_everywhere_and_jobs_where_they_are(
    run: Run, servers: list[str]
) -> None:
    one, two = servers
    hosts = ("-h", one, "-h", two)

    def states(key: str) -> list[tuple[str, Any]]:
        rows = json.loads(run("gearadmin", *hosts, "--stats", "--json").stdout)
        return [(row["server"], row[key]) for row in rows if row["name"] == "two"]

    assert run("gearadmin", *hosts, "--pause", "two").stdout.decode() == f"OK\t{one}\nOK\t{two}\n"
    assert states("paused") == [(one, 1), (two, 1)]
    assert run("gearadmin", *hosts, "--resume", "two").returncode == 0
    with AdminClient(two) as admin:
        handle = admin.jobs()[-1].handle
    shown = json.loads(run("gearadmin", *hosts, "--show-job", handle, "--json").stdout)
    assert (shown["server"], shown["function"]) == (two, "second")
    dropped = run("gearadmin", *hosts, "--cancel-job", handle)
    assert (dropped.returncode, dropped.stdout.decode()) == (0, f"OK\t{two}\n")
    unknown = run("gearadmin", *hosts, "--cancel-job", "H:none:1")
    assert (unknown.returncode, b"UNKNOWN_JOB" in unknown.stderr) == (1, True)

    gone = run("gearadmin", *hosts, "--drop-function", "second")  # only the second knows it
    assert (gone.returncode, gone.stdout.decode()) == (0, f"OK\t{two}\n")
    gone = run("gearadmin", *hosts, "--drop-function", "second")
    assert (gone.returncode, gone.stderr.count(b"function not found")) == (1, 2)
    stopped = run("gearadmin", *hosts, "--shutdown")
    assert (stopped.returncode, b"expected one job server (-h), not 2" in stopped.stderr) == (
        2,
        True,
    )


@pytest.mark.interop
def test_a_job_is_found_beside_a_server_of_c_and_a_silent_one_is_named(
    run: Run, servers: list[str], lost: str, tmp_path: Path
) -> None:
    _, two = servers
    with AdminClient(two) as admin:
        handle = admin.jobs()[-1].handle
    with running_server(C_GEARMAND, tmp_path) as (host, port):
        c = f"{host}:{port}"
        shown = run("gearadmin", "-h", c, "-h", two, "--show-job", handle, "--json")
        assert json.loads(shown.stdout)["server"] == two
        unknown = run("gearadmin", "-h", c, "-h", two, "--show-job", "H:none:1")
        assert (unknown.returncode, b"UNKNOWN_JOB" in unknown.stderr) == (1, True)
        hidden = run("gearadmin", "-h", lost, "-h", c, "-h", two, "--show-job", "H:none:1")
        assert hidden.returncode == 5
        assert f"({lost}: ".encode() in hidden.stderr
        assert b"; it is unknown at 2" in hidden.stderr


def test_a_question_names_the_servers_that_did_not_say_what_they_have(
    program: Any, servers: list[str], lost: str
) -> None:
    master, terminal = os.openpty()
    hosts = [word for each in (lost, *servers) for word in ("-h", each)]
    asking = program("gearadmin", *hosts, "--purge", "second", stdin=terminal)
    question = b""
    while not question.endswith(b"[y/N] "):
        question += asking.stdout.read(1)
    os.write(master, b"n\n")
    assert asking.communicate(timeout=60)[0] == b"nothing was changed\n"
    os.close(master)
    os.close(terminal)
    assert question.startswith(b"second: cancel 1 waiting job, and those that come until you answ")
    assert f"? ({lost}: " in question.decode()


def test_a_schedule_of_one_name_is_changed_at_all_servers_that_have_it(
    run: Run, servers: list[str], lost: str
) -> None:
    one, two = servers
    facts = "cron=0 5 * * *", "function=f"
    for each in servers:
        assert run("gearadmin", "-h", each, "--schedule", "same", *facts).returncode == 0
    with AdminClient(servers) as admin:

        def column(key: str) -> list[Any]:
            return [getattr(row, key) for row in admin.schedules() if row.name == "same"]

        admin.pause_schedule("same")
        assert column("paused") == [1, 1]
        admin.schedule("same", "0 6 * * *", "f")
        assert column("cron") == ["0 6 * * *"] * 2
        assert admin.run_schedule("same")
        hosts = ("-h", lost, "-h", one, "-h", two)
        partial = run("gearadmin", *hosts, "--resume-schedule", "same")
        assert (partial.returncode, b"done at 2" in partial.stderr) == (5, True)
        assert column("paused") == [0, 0]
        admin.delete_schedule("same")
        assert column("name") == []
        with pytest.raises(AdminError, match=f"{one}: UNKNOWN_SCHEDULE; {two}: UNKNOWN_SCHEDULE"):
            admin.delete_schedule("same")


def test_a_schedule_is_not_added_beside_a_silent_server_that_may_have_it(
    servers: list[str], lost: str
) -> None:
    one, two = servers
    with AdminClient([one, lost, two]) as admin:
        with pytest.raises(ServerUnavailable, match="it is unknown at 2"):
            admin.schedule("hidden", "0 5 * * *", "f")
        with AdminClient(two) as second, AdminClient(servers) as both:
            second.schedule("hidden", "0 5 * * *", "f")
            with pytest.raises(AdminError, match=f"{two}: INVALID_ARGUMENTS"):
                both.schedule("hidden", "0 5 * * 99", "f")
            with pytest.raises(ServerUnavailable, match="done at 1"):
                admin.delete_schedule("hidden")
        assert "hidden" not in [row.name for row in admin.schedules()]


def test_admin_clients_show_all_servers_and_go_on_to_the_next(
    servers: list[str], lost: str
) -> None:
    one, two = servers

    async def look() -> list[object]:
        async with AsyncAdminClient([lost, *servers]) as admin:
            rows = await admin.status()
            assert [server for server, _ in admin.passed_over] == [lost]
            await admin.workers()
            with pytest.raises(ServerUnavailable, match=r"not all job servers .*; done at 2"):
                await admin.pause("two")
            assert {row.paused for row in await admin.stats() if row.name == "two"} == {1}
            return list(rows)

    with AdminClient(servers) as admin:
        assert admin.status() == asyncio.run(look())
        admin.resume("two")
        assert {(row.server, row.paused) for row in admin.stats() if row.name == "two"} == {
            (one, 0),
            (two, 0),
        }
        (job,) = [row for row in admin.find_jobs() if row.function == "second"][-1:]
        assert job.server == two
        admin.run_now(job.handle)
        assert str(admin.server) == two
        assert admin.describe_function("second").counts["normal"] >= 1
        assert job.handle in admin.purge("second")
        with pytest.raises(AdminError, match="UNKNOWN_JOB"):
            admin.cancel("H:none:1")
        with pytest.raises(ValueError, match="expected one job server, not 2"):
            admin.shutdown()
    with AdminClient([lost, one]) as admin, pytest.raises(ServerUnavailable, match="unknown at 1"):
        admin.cancel("H:none:1")


@pytest.mark.interop
def test_a_schedule_is_added_at_the_first_server_that_can(
    tmp_path: Path, shared_gearmand: Any
) -> None:
    with running_server(C_GEARMAND, tmp_path) as (host, port):
        c = f"{host}:{port}"
        with AdminClient([c, shared_gearmand.address]) as admin:
            admin.schedule("first", "0 5 * * *", "f")
            admin.schedule("first", "0 6 * * *", "f")
            with AdminClient(shared_gearmand.address) as able:
                found = {row.name: row.cron for row in able.schedules()}
            admin.delete_schedule("first")
            assert found["first"] == "0 6 * * *"
        for servers in ([c], [c, c]):
            with (
                AdminClient(servers) as admin,
                pytest.raises(AdminError, match=f"need a job server of gearman_py .*{c}: UNKNOWN"),
            ):
                admin.schedule("first", "0 5 * * *", "f")
