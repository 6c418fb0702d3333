"""Results of background jobs that the server keeps: kill -9, reloads, bounds."""

import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client, UnknownJob
from gearman_py.protocol.packets import Packet
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.server.reloaded import run_reload
from tests.tally import tally
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
KILLS = int(os.environ.get("KILLS", "5"))


def submit(peer: Peer, workload: bytes, function: bytes = b"f") -> bytes:
    said, handle = peer.ask(Packet.SUBMIT_JOB_BG, function, b"", workload)
    assert said == "JOB_CREATED"
    return bytes(handle)


def complete(worker: Peer, jobs: int) -> None:
    """Return the workload twice, as the worker of this number of jobs."""
    for _ in range(jobs):
        _, handle, _, workload = worker.ask(Packet.GRAB_JOB)
        worker.say(Packet.WORK_COMPLETE, handle, 2 * workload)


def asking(peer: Peer) -> Peer:
    assert peer.ask(Packet.OPTION_REQ, b"results") == ("OPTION_RES", b"results")
    return peer


def result_of(peer: Peer, handle: bytes) -> bytes | None:
    """None: the job waits or runs."""
    kind, *found = peer.ask(Packet.GET_RESULT, handle)
    assert (kind, found[0]) == ("JOB_FOUND", handle)
    if found[1] == b"0":
        return None
    kind, told, result = peer.hear()
    assert (kind, told) == ("WORK_COMPLETE", handle)
    return bytes(result)


def test_jobs_that_end_when_the_server_is_killed_have_a_result_or_wait(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    """Never both or neither; and a result that was fetched once an other job was stored stays."""
    options = ["-q", "sqlite", "--queue-file", str(tmp_path / "queue"), "--keep-results", "3600"]
    jobs, kept, fetched = 100, 0, 0
    for seed in range(KILLS):
        server = start(*options)
        client = asking(connect(server.listening()))
        doer = connect(server.listening())
        doer.say(Packet.CAN_DO, b"f")
        handles = [submit(client, b"%d." % number) for number in range(jobs)]
        complete(doer, jobs // 2)
        assert doer.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
        submit(client, b"beside", b"beside")  # once this is stored, so are those results
        chance = random.Random(seed)  # noqa: S311 - somewhere in the midst
        complete(doer, chance.randrange(jobs // 2))
        time.sleep(chance.uniform(0, 0.01))
        server.process.kill()
        server.process.wait()
        server = start(*options)
        client = asking(connect(server.listening()))
        found = {handle: result_of(client, handle) for handle in handles}
        for number, handle in enumerate(handles):
            assert found[handle] in (None, 2 * (b"%d." % number))
        assert all(found[handle] is not None for handle in handles[: jobs // 2])
        assert len(
            {
                row
                for row in client.command("jobs waiting function=f limit=1000").split(b"\n")
                if row.startswith(b"H:")
            }
        ) == sum(one is None for one in found.values())
        kept += sum(one is not None for one in found.values())
        fetched += jobs // 2
        doer = connect(server.listening())
        doer.say(Packet.CAN_DO, b"f")
        complete(doer, sum(one is None for one in found.values()))
        assert [client.hear()[0] for one in found.values() if one is None] == [
            "WORK_COMPLETE" for one in found.values() if one is None
        ]
        assert server.end() == 0
    tally("kill amid results", kills=KILLS, results_stored=fetched, results_kept=kept, lost=0)


def test_a_reload_keeps_results_and_who_waits_for_them(start: Start, connect: Connect) -> None:
    server = start("--keep-results", "3600")
    client, doer = asking(connect(server.listening())), connect(server.listening())
    doer.say(Packet.CAN_DO, b"f")
    ended, waits = submit(client, b"1"), submit(client, b"2")
    complete(doer, 1)
    assert result_of(client, waits) is None
    done = run_reload(server.process.pid)
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert result_of(client, ended) == b"11"
        complete(doer, 1)
        assert client.hear() == ("WORK_COMPLETE", waits, b"22")
    finally:
        with AdminClient(f"127.0.0.1:{server.listening()[1]}") as admin:
            os.kill(admin.pid(), 9)


def test_results_are_kept_as_long_as_their_function_says(start: Start, connect: Connect) -> None:
    server = start(
        "--keep-results", "0.05", "--keep-results", "long=3600", "--keep-results", "no=0"
    )
    client, doer = asking(connect(server.listening())), connect(server.listening())
    handles = {}
    for function in (b"f", b"long", b"no"):
        doer.say(Packet.CAN_DO, function)
        handles[function] = submit(client, function, function)
    complete(doer, 3)
    assert doer.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    refused = ("ERROR", b"UNKNOWN_JOB")
    assert client.ask(Packet.GET_RESULT, handles[b"no"])[:2] == refused
    await_true(
        lambda: b"f\t" in (rows := client.command("stats")) and rows.count(b"results=0") == 2
    )
    assert client.ask(Packet.GET_RESULT, handles[b"f"])[:2] == refused
    assert result_of(client, handles[b"long"]) == b"longlong"


def test_the_oldest_results_are_forgotten_when_there_is_no_room(
    start: Start, connect: Connect
) -> None:
    server = start("--keep-results", "3600", "--keep-results-memory", "10K")
    client, doer = asking(connect(server.listening())), connect(server.listening())
    doer.say(Packet.CAN_DO, b"f")
    handles = [submit(client, bytes(750)) for _ in range(8)]
    large = submit(client, bytes(5200))
    complete(doer, 9)
    assert doer.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    assert client.ask(Packet.GET_RESULT, large)[:2] == ("ERROR", b"UNKNOWN_JOB"), "above the limit"
    for forgotten in handles[:3]:
        assert client.ask(Packet.GET_RESULT, forgotten)[:2] == ("ERROR", b"UNKNOWN_JOB")
    assert [result_of(client, handle) for handle in handles[3:]] == [bytes(1500)] * 5


def test_results_are_given_up_before_jobs_are_refused_for_long(
    start: Start, connect: Connect
) -> None:
    server = start("--keep-results", "3600", "--keep-results-memory", "1G", "--max-memory", "150M")
    client, doer = asking(connect(server.listening())), connect(server.listening())
    doer.say(Packet.CAN_DO, b"f")
    first = submit(client, b"first")
    complete(doer, 1)
    accepted = 0
    for _ in range(200):
        said = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", bytes(2**19))
        if said[0] == "JOB_CREATED":
            accepted += 1
            complete(doer, 1)
            assert doer.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    await_true(lambda: client.ask(Packet.GET_RESULT, first)[:2] == ("ERROR", b"UNKNOWN_JOB"))
    await_true(lambda: client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED")


def test_a_server_that_keeps_no_results_says_so(start: Start, connect: Connect) -> None:
    server = start()
    peer, doer = connect(server.listening()), connect(server.listening())
    assert peer.ask(Packet.GET_RESULT, b"H:1")[:2] == ("ERROR", b"INVALID_COMMAND")
    asking(peer)
    doer.say(Packet.CAN_DO, b"f")
    handle = submit(peer, b"1")
    assert result_of(peer, handle) is None
    complete(doer, 1)
    assert peer.hear() == ("WORK_COMPLETE", handle, b"11"), "who waited is told"
    kind, code, text = peer.ask(Packet.GET_RESULT, handle)
    assert (kind, code) == ("ERROR", b"UNKNOWN_JOB")
    assert text.endswith(b"this server keeps no results (--keep-results)")
    (at,) = [f"127.0.0.1:{server.listening()[1]}"]
    with Client(at) as client, pytest.raises(UnknownJob, match="keeps no results"):
        client.result(handle.decode())


def test_with_admin_only_operators_fetch_on_the_admin_socket(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    socket = f"unix:{tmp_path}/admin"
    server = start("--keep-results", "3600", "--admin-only", "--admin-listen", socket)
    client, doer = connect(server.listening()), connect(server.listening())
    doer.say(Packet.CAN_DO, b"f")
    content = os.urandom(3 * 2**19)
    handle, waits = submit(client, content), submit(client, b"", b"g").decode()
    complete(doer, 1)
    assert client.command(f"result {handle.decode()}").startswith(b"ERR PERMISSION")
    with AdminClient(socket, timeout=LIMIT) as admin:
        await_true(partial(_is_kept, admin))
        assert admin.result(handle.decode()) == 2 * content, "in several parts"
        for line, code in ((f"result {waits}", "JOB_NOT_ENDED"), ("result H:x", "UNKNOWN_JOB")):
            with pytest.raises(Exception, match=code):
                admin.listing(line)


def _is_kept(admin: AdminClient) -> bool:
    return any(row.kept_results for row in admin.stats())
