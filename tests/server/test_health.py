"""/healthz, gearman_accepting_jobs, the text command server and what is done with jobs agree."""

import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gearman_py.admin.client import AdminClient
from gearman_py.protocol.packets import Packet
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.server.test_metrics import get, values, with_metrics
from tests.waiting import LIMIT, await_true

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]


def begin_to_end(
    start: Start, connect: Connect, number: signal.Signals, *options: str
) -> tuple[GearmandProcess, Peer, bytes, int]:
    """A job server that is told to end and has a running job: it, its worker, the handle, the port
    of metrics.
    """
    server, port = with_metrics(start, "--drain-timeout", "60", *options)
    worker = connect(server.listening())
    worker.say(Packet.CAN_DO, b"f")
    _, handle = worker.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
    assert get(port, "/healthz")[0] == 200
    server.process.send_signal(number)
    await_true(lambda: get(port, "/healthz")[0] == 503)
    assert values(get(port)[2])["gearman_accepting_jobs",] == 0
    return server, worker, handle, port


def test_a_drained_server_says_that_it_takes_no_connections(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    admin = f"unix:{tmp_path}/admin"
    server, worker, handle, port = begin_to_end(
        start, connect, signal.SIGUSR1, "--admin-listen", admin
    )
    why = "the job server is being drained: it takes no connections"
    assert get(port, "/healthz")[2] == f"{why}\n"
    with AdminClient(admin) as operator:
        assert operator.facts()["refuses"] == why
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.listening(), LIMIT)
    worker.say(Packet.WORK_COMPLETE, handle, b"")
    assert server.process.wait(LIMIT) == 0


@pytest.mark.parametrize("durable", [False, True])
def test_a_stopping_server_acknowledges_nothing_that_would_be_lost(
    start: Start, connect: Connect, tmp_path: Path, durable: bool
) -> None:
    queue = ("-q", "sqlite", "--queue-file", str(tmp_path / "queue")) if durable else ()
    server, worker, handle, port = begin_to_end(start, connect, signal.SIGTERM, *queue)
    taken = "only background jobs, for its next start" if durable else "no jobs"
    assert get(port, "/healthz")[2] == f"the job server is stopping: it takes {taken}\n"
    refused = ("ERROR", b"QUEUE_ERROR", b"The job server is stopping")
    with contextlib.closing(connect(server.listening()).socket):
        client = connect(server.listening())
        assert client.ask(Packet.SUBMIT_JOB, b"f", b"", b"") == refused
        answer = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"kept")
        assert answer[0] == "JOB_CREATED" if durable else answer == refused
        assert client.ask(Packet.ECHO_REQ, b"x") == ("ECHO_RES", b"x")
    found = values(get(port)[2])
    assert found["gearman_jobs_refused_total", "stopping"] == (1 if durable else 2)
    assert found["gearman_jobs_accepted_total", "f"] == (2 if durable else 1)
    worker.say(Packet.WORK_COMPLETE, handle, b"")
    assert server.process.wait(LIMIT) == 0
    if durable:
        later = connect(start(*queue).listening())
        later.say(Packet.CAN_DO, b"f")
        assert later.ask(Packet.GRAB_JOB)[-1] == b"kept"


def test_a_client_that_can_submit_elsewhere_is_given_its_job_back(
    start: Start, connect: Connect
) -> None:
    server, worker, handle, _ = begin_to_end(start, connect, signal.SIGTERM)
    client = connect(server.listening())
    assert client.ask(Packet.OPTION_REQ, b"resubmits")[0] == "OPTION_RES"
    client.say(Packet.SUBMIT_JOB, b"f", b"", b"")
    heard = [client.hear()]
    while heard[-1][:2] != ("WORK_RETRY", b""):
        heard.append(client.hear())
    assert [each[0] for each in heard] in (
        ["JOB_CREATED", "WORK_RETRY", "WORK_RETRY"],
        ["WORK_RETRY"],  # it was let go before: what it submits then is ignored
    )
    worker.say(Packet.WORK_COMPLETE, handle, b"")
    assert server.process.wait(LIMIT) == 0
