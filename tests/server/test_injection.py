"""What peers call things forges no row, no line of the log, and is obeyed by no terminal."""

import re
import socket
from collections.abc import Callable

import pytest

from gearman_py import AdminClient
from gearman_py.protocol.packets import Packet
from tests.injection import STRINGS, harmless
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.tally import tally
from tests.waiting import await_true

ENTRY = re.compile(r"\d{4}-\d\d-\d\d [\d:,]{12} (DEBUG|INFO|WARNING|ERROR) |  ")


@pytest.fixture
def server(start: Callable[..., GearmandProcess]) -> GearmandProcess:
    return start("-r", "http", "--http-port", "0", "-vvv")


def rows(peer: Peer, command: str) -> list[bytes]:
    """The rows up to the first full stop, which must be the last line."""
    said = peer.command(command)
    assert harmless(said), said
    before, _, after = (b"\n" + said).partition(b"\n.\n")
    assert not after, said
    return before.split(b"\n")[1:]


def test_listings_have_as_many_rows_as_there_are(
    server: GearmandProcess, connect: Callable[..., Peer]
) -> None:
    address = server.listening()
    client, operator = connect(address), connect(address)
    workers = [connect(address) for _ in STRINGS]
    for string, worker in zip(STRINGS, workers, strict=True):
        worker.say(Packet.SET_CLIENT_ID, string)
        worker.say(Packet.CAN_DO, string)
        assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
        assert client.ask(Packet.SUBMIT_JOB_BG, string, string, string)[0] == "JOB_CREATED"
    status = rows(operator, "status")
    assert len(status) == len(STRINGS)
    assert all(row.endswith(b"\t1\t0\t1") and row.count(b"\t") == 3 for row in status)
    status = rows(operator, "prioritystatus")
    assert len(status) == len(STRINGS)
    assert all(row.endswith(b"\t0\t1\t0\t1") and row.count(b"\t") == 4 for row in status)
    assert len(rows(operator, "show jobs")) == len(STRINGS)
    uniques = rows(operator, "show unique jobs")
    assert len(set(uniques)) == len(STRINGS)
    people = rows(operator, "workers")
    assert len(people) == len(STRINGS) + 2
    with AdminClient("{}:{}".format(*address)) as admin:
        assert len(admin.status()) == len(STRINGS)
        assert len(admin.workers()) == len(STRINGS) + 3
    tally("names", names=len(STRINGS), listings=5, rows_forged=0)


@pytest.mark.slow
def test_log_has_as_many_entries_as_there_were_events(
    server: GearmandProcess, connect: Callable[..., Peer]
) -> None:
    host, port = server.listening()
    web = re.search(r"port (\d+) for HTTP", server.log)
    assert web, server.log
    peer = connect((host, port))
    for string in STRINGS:
        peer.say(Packet.SET_CLIENT_ID, string)
        peer.ask(Packet.OPTION_REQ, string)
        peer.ask(Packet.GET_STATUS, string)
        for each in (port, int(web[1])):
            for data in (
                string,
                string + b"\r\n",
                b"\0REQ" + string.ljust(8, b"\xff"),
                b"GET /" + string + b" HTTP/1.1\r\n\r\n",
                b"POST /f HTTP/1.1\r\nX-Gearman-Unique: " + string + b"\r\n\r\n",
            ):
                with socket.create_connection((host, each)) as stranger:
                    stranger.sendall(data)
                    stranger.shutdown(socket.SHUT_WR)
                    stranger.settimeout(5)
                    while stranger.recv(2**16):
                        pass
    peer.socket.close()
    await_true(lambda: "left" in server.log.rsplit("connected", 1)[1])
    log = server.log
    assert harmless(log.encode(errors="surrogateescape")), log
    for line in log.splitlines():
        assert ENTRY.match(line), line
