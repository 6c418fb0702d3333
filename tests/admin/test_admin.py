"""AdminClient and gearadmin with our job server."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from gearman_py import AdminError, AsyncAdminClient, Client, QueueFull, ServerUnavailable
from gearman_py.admin.answers import FunctionStatus, WorkerInfo
from gearman_py.admin.client import AdminClient
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.ports import reserve_port
from tests.waiting import await_true

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def test_listings_are_typed(gearmand: Any) -> None:
    with Client(gearmand.address) as client, AdminClient(gearmand.address) as admin:
        client.do_high_background("wc", "x", unique="key")
        row = FunctionStatus("wc", total=1, running=0, workers=0, server=str(gearmand.address))
        assert admin.status() == [row]
        assert admin.status()[0].waiting == 1
        assert [row[:5] for row in admin.priority_status()] == [("wc", 1, 0, 0, 0)]
        assert {worker.functions for worker in admin.workers()} == {()}
        assert admin.version()


def test_lines_are_parsed_whatever_names_contain() -> None:
    assert FunctionStatus.from_line("a\tb\t3\t1\t2") == FunctionStatus("a\tb", 3, 1, 2)
    assert WorkerInfo.from_line("3 ::1 an id : f g") == WorkerInfo(3, "::1", "an id", ("f", "g"))
    assert WorkerInfo.from_line("3 ::1 - :").functions == ()


@pytest.mark.parametrize(
    ("line", "client_id", "functions"),
    [
        ("3 ::1 an :id : a b c", "an :id", ("a b", "c")),
        ("3 ::1 - : c :d a b", "-", ("c", ":d a", "b")),
        ("3 ::1 - : b unknown", "-", ("b", "unknown")),
        ("3 ::1 - :", "-", ()),
        ("3 ::1 an :", "an", ()),
    ],
)
def test_a_line_of_workers_is_parsed_with_the_known_functions(
    line: str, client_id: str, functions: tuple[str, ...]
) -> None:
    row = WorkerInfo.from_line(line, known={"a b", "b", "c", ":d a"})
    assert (row.client_id, row.functions) == (client_id, functions)


def test_workers_have_functions_with_spaces_in_their_names(gearmand: Any) -> None:
    names = {"two words", "two", "two words more", "a :b", " around "}
    with socket.create_connection(("127.0.0.1", gearmand.port)) as worker:
        worker.sendall(b"".join(request(Packet.CAN_DO, name.encode()) for name in names))

        async def use() -> set[tuple[str, ...]]:
            async with AsyncAdminClient(gearmand.address) as admin:
                return {tuple(sorted(row.functions)) for row in await admin.workers()}

        with AdminClient(gearmand.address) as admin:
            await_true(lambda: len(admin.status()) == len(names))
            known = {tuple(sorted(row.functions)) for row in admin.workers()}
        assert known == asyncio.run(use()) == {tuple(sorted(names)), ()}


def test_a_refusal_is_an_error(gearmand: Any) -> None:
    with AdminClient(gearmand.address) as admin:
        with pytest.raises(AdminError):
            admin.drop_function("no-such-function")
        with pytest.raises(ValueError, match="separates words by spaces"):
            admin.create_function("two words")


def test_queues_have_limits_by_priority(gearmand: Any) -> None:
    with Client(gearmand.address) as client, AdminClient(gearmand.address) as admin:
        admin.max_queue("f", 2, high=1)
        client.do_high_background("f")
        with pytest.raises(QueueFull):
            client.do_high_background("f")
        client.do_low_background("f")
        with pytest.raises(QueueFull):
            client.do_low_background("f")
        admin.max_queue("f")
        client.do_low_background("f")
        with pytest.raises(ValueError, match="expected 1 or more"):
            admin.max_queue("f", 0)
        assert 0 < admin.ping() < 30


def test_an_unreachable_server_is_reported() -> None:
    address = f"127.0.0.1:{reserve_port()}"
    with AdminClient(address) as admin, pytest.raises(ServerUnavailable, match=address):
        admin.status()


@pytest.mark.slow
def test_gearadmin_prints_listings_and_their_end(run: Run, gearmand: Any) -> None:
    port = str(gearmand.port)
    with Client(gearmand.address) as client:
        client.do_background("wc", "x")
    assert run("gearadmin", "-p", port, "--status").stdout == b"wc\t1\t0\t0\n.\n"
    assert run("gearadmin", "-p", port, "--workers").stdout.endswith(b" - :\n.\n")
    version = run("gearadmin", "-p", port, "--server-version").stdout
    assert version.strip() and not version.startswith(b"OK")


def test_gearadmin_reports_a_refusal(run: Run, gearmand: Any) -> None:
    done = run("gearadmin", "-p", str(gearmand.port), "--drop-function", "nothing")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"gearadmin: localhost:%d: " % gearmand.port)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "nothing to do"),
        (["--no-such"], 2, "unrecognized arguments: --no-such"),
        (["--statsu"], 2, "--statsu; did you mean --stats?"),
        (["-h", "127.0.0.1", "-p", "1", "--status"], 3, "127.0.0.1:1: Connection refused"),
        (["-p", "1", "--create-function", "a b"], 2, "words by spaces"),
    ],
)
def test_gearadmin_reports_errors_in_a_sentence(
    run: Run, arguments: list[str], status: int, message: str
) -> None:
    done = run("gearadmin", *arguments)
    assert done.returncode == status
    assert message in done.stderr.decode().splitlines()[-1]


def test_a_listing_is_read_to_its_end_however_slowly_it_comes(run: Run) -> None:
    listing = b"".join(b"function-%d\t0\t0\t0\n" % number for number in range(500)) + b".\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        child = os.fork()
        if child == 0:
            connection, _ = server.accept()
            connection.recv(99)
            connection.settimeout(0.02)
            for start in range(0, len(listing), 3000):
                connection.sendall(listing[start : start + 3000])
                try:
                    connection.recv(1)  # nothing comes: a pause longer than 5 ms
                except TimeoutError:
                    pass
            os._exit(0)
        done = run("gearadmin", "-h", "127.0.0.1", "-p", str(port), "--status")
        os.waitpid(child, 0)
    assert done.stdout == listing
