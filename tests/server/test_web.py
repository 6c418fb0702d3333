"""The HTTP door over real sockets, with a worker behind it and a bystander beside it."""

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gearman_py.protocol.packets import Packet
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.tally import tally
from tests.waiting import LIMIT, await_true

Connect = Callable[..., Peer]
Start = Callable[..., GearmandProcess]
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def server(start: Start) -> GearmandProcess:
    return start("-r", "http", "--http-port", "0", "--max-packet", str(2**20))


@pytest.fixture
def web(server: GearmandProcess) -> Address:
    server.listening()
    found = re.search(r"(\S+) port (\d+) for HTTP", server.log)
    assert found, server.log
    return found[1], int(found[2])


@pytest.fixture
def worker(server: GearmandProcess, connect: Connect) -> Peer:
    worker = connect(server.listening())
    worker.say(Packet.CAN_DO, b"f")
    assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    return worker


class Http:
    """A client that writes what it is told to and reads whole answers."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, LIMIT)
        self._file = self.socket.makefile("rb")

    def send(self, text: bytes) -> None:
        self.socket.sendall(text)

    def hear(self, head: bool = False) -> Answer:
        status = self._file.readline().split(b" ")
        headers = http.client.parse_headers(self._file)
        length = 0 if head else int(headers["Content-Length"])
        return int(status[1]), dict(headers), self._file.read(length)

    def closed(self) -> bool:
        return self._file.read() == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def client(web: Address) -> Iterator[Http]:
    client = Http(web)
    yield client
    client.close()


def post(body: bytes, *headers: str, name: str = "f", method: str = "POST") -> bytes:
    length = f"Content-Length: {len(body)}"
    lines = [f"{method} /{name} HTTP/1.1", "Host: h", length, *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def grab(worker: Peer) -> tuple[bytes, bytes, bytes]:
    """The job that comes: its handle, unique and workload."""
    kind, *facts = worker.ask(Packet.GRAB_JOB_UNIQ)
    while kind != "JOB_ASSIGN_UNIQ":
        worker.say(Packet.PRE_SLEEP)
        assert worker.hear() == ("NOOP",)
        kind, *facts = worker.ask(Packet.GRAB_JOB_UNIQ)
    handle, function, unique, workload = facts
    assert function == b"f"
    return handle, unique, workload


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_post_is_a_job_and_its_result_the_answer(client: Http, worker: Peer, method: str) -> None:
    client.send(post(b"abc", method=method))
    handle, unique, workload = grab(worker)
    assert (unique, workload) == (b"-", b"abc")
    worker.say(Packet.WORK_COMPLETE, handle, b"cba")
    status, headers, body = client.hear()
    assert (status, body) == (200, b"cba")
    assert headers["X-Gearman-Job-Handle"] == handle.decode()
    assert headers["X-Gearman-Command"] == "WORK_COMPLETE"
    assert headers["Server"].startswith("Gearman/")


def test_a_get_is_a_job_without_workload_and_its_name_is_decoded(
    client: Http, worker: Peer
) -> None:
    client.send(b"GET //%66?a=1 HTTP/1.1\r\nHost: h\r\n\r\n")
    handle, _, workload = grab(worker)
    assert workload == b""
    worker.say(Packet.WORK_COMPLETE, handle, b"r")
    assert client.hear()[2] == b"r"


def test_a_head_is_a_job_whose_result_is_only_measured(client: Http, worker: Peer) -> None:
    client.send(b"HEAD /f HTTP/1.1\r\nHost: h\r\n\r\n" + post(b"next"))
    worker.say(Packet.WORK_COMPLETE, grab(worker)[0], b"12345")
    status, headers, _ = client.hear(head=True)
    assert (status, headers["Content-Length"]) == (200, "5")
    worker.say(Packet.WORK_COMPLETE, grab(worker)[0], b"after it")
    assert client.hear()[2] == b"after it", "no body stood between them"


def test_data_is_part_of_the_answer_and_progress_is_not(client: Http, worker: Peer) -> None:
    client.send(post(b""))
    handle, _, _ = grab(worker)
    worker.say(Packet.WORK_DATA, handle, b"one ")
    worker.say(Packet.WORK_WARNING, handle, b"hm")
    worker.say(Packet.WORK_STATUS, handle, b"1", b"2")
    worker.say(Packet.WORK_COMPLETE, handle, b"two")
    assert client.hear()[::2] == (200, b"one two")


@pytest.mark.parametrize(
    ("packet", "arguments", "body"),
    [(Packet.WORK_FAIL, [], b""), (Packet.WORK_EXCEPTION, [b"why"], b"why")],
)
def test_a_failed_job_is_an_error_that_names_the_command(
    client: Http, worker: Peer, packet: Packet, arguments: list[bytes], body: bytes
) -> None:
    client.send(post(b""))
    handle, _, _ = grab(worker)
    worker.say(packet, handle, *arguments)
    status, headers, text = client.hear()
    assert (status, headers["X-Gearman-Command"], text) == (500, packet.name, body)
    assert headers["X-Gearman-Job-Handle"] == handle.decode()


def test_a_background_job_is_answered_at_once_and_outlives_its_client(
    client: Http, worker: Peer
) -> None:
    client.send(post(b"x", "x-gearman-background:  TRUE", "Connection: close"))
    status, headers, body = client.hear()
    assert (status, headers["X-Gearman-Command"], body) == (200, "JOB_CREATED", b"")
    assert client.closed()
    assert grab(worker)[0].decode() == headers["X-Gearman-Job-Handle"]


def test_priority_and_unique_are_headers(web: Address, worker: Peer) -> None:
    clients = {priority: Http(web) for priority in ("low", "Normal", "HIGH")}
    for priority, client in clients.items():
        client.send(post(b"", f"X-Gearman-Priority: {priority}", f"X-Gearman-Unique:{priority}"))
    await_true(lambda: b"f\t3\t0" in worker.command("status"))
    for priority in ("HIGH", "Normal", "low"):
        handle, unique, _ = grab(worker)
        assert unique.decode() == priority
        worker.say(Packet.WORK_COMPLETE, handle, unique)
        assert clients[priority].hear()[2] == unique
        clients[priority].close()


def test_equal_requests_at_one_time_are_one_job(web: Address, worker: Peer) -> None:
    clients = [Http(web), Http(web)]
    for client in clients:
        client.send(post(b"same", "X-Gearman-Unique: key"))
    await_true(lambda: worker.ask(Packet.GET_STATUS_UNIQUE, b"key")[-1] == b"2")
    handle, _, _ = grab(worker)
    worker.say(Packet.WORK_COMPLETE, handle, b"r")
    for client in clients:
        assert client.hear()[2] == b"r"
        client.close()


def test_requests_of_one_connection_are_answered_in_their_order(client: Http, worker: Peer) -> None:
    client.send(post(b"1") + post(b"2", "Connection: close") + post(b"never read"))
    for _ in range(2):
        handle, _, workload = grab(worker)
        worker.say(Packet.WORK_COMPLETE, handle, b"did " + workload)
    assert client.hear()[2] == b"did 1"
    assert client.hear()[2] == b"did 2"
    assert client.closed()


@pytest.mark.slow
def test_ten_thousand_requests_in_one_write_are_all_answered(client: Http) -> None:
    client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" * 10_000)
    assert {client.hear(head=True)[0] for _ in range(10_000)} == {200}


def test_chunks_and_an_expected_continue(client: Http, worker: Peer) -> None:
    client.send(
        b"POST /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    assert client._file.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert client._file.readline() == b"\r\n"
    for part in (b"3\r\nab", b"c\r\n", b"A;x=y\r\n0123456789", b"\r\n0\r\nTrailer: x\r\n\r\n"):
        client.send(part)
    handle, _, workload = grab(worker)
    assert workload == b"abc0123456789"
    worker.say(Packet.WORK_COMPLETE, handle, b"")
    assert client.hear()[::2] == (200, b"")


def test_an_old_client_gets_its_own_version_and_the_connection_ends(
    client: Http, worker: Peer
) -> None:
    client.send(b"POST /f HTTP/1.0\r\nContent-Length:2\r\n\r\nab")
    handle, _, workload = grab(worker)
    assert workload == b"ab"
    worker.say(Packet.WORK_COMPLETE, handle, b"r")
    assert client._file.readline() == b"HTTP/1.0 200 OK\r\n"
    assert client._file.read().endswith(b"\r\n\r\nr")


def test_a_client_that_leaves_ends_its_job(client: Http, worker: Peer) -> None:
    client.send(post(b""))
    await_true(lambda: b"f\t1\t0" in worker.command("status"))
    client.close()
    await_true(lambda: b"f\t0\t0" in worker.command("status"))


def test_a_full_queue_is_unavailable(client: Http, worker: Peer) -> None:
    assert worker.command("maxqueue f 1") == b"OK\r\n"
    assert worker.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED"
    client.send(post(b"x"))
    assert client.hear()[::2] == (503, b"Job queue is full\n")


GET, POST = (b"%b /f HTTP/1.1\r\nHost: h\r\n" % method for method in (b"GET", b"POST"))
REFUSED = {
    "no version": (b"GET /f\r\n\r\n", 400),
    "four words": (b"GET /f x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "a hundred empty lines": (b"\r\n" * 100 + GET + b"\r\n", 400),
    "empty line of spaces": (b"  \r\n\r\n", 400),
    "gearman packet": (b"\0REQ\0\0\0\x10\0\0\0\0\r\n\r\n", 400),
    "gearman text": (b"status\r\n\r\n", 400),
    "tls": (bytes.fromhex("160301020001") + b"\r\n\r\n", 400),
    "http 2": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "http 0": (b"GET /f HTTP/0.9\r\n\r\n", 505),
    "lower case version": (b"GET /f http/1.1\r\n\r\n", 400),
    "delete": (b"DELETE /f HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "trace": (b"TRACE /f HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "connect": (b"CONNECT f:1 HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "lower case method": (b"get /f HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "no function": (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    "only a query": (b"POST /?f HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    "nul in the name": (b"GET /a%00b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "header without colon": (b"GET /f HTTP/1.1\r\nHost\r\n\r\n", 400),
    "space before colon": (GET + b"Content-Length : 1\r\n\r\n", 400),
    "folded header": (GET + b"A: b\r\n c\r\n\r\n", 400),
    "empty header name": (GET + b": b\r\n\r\n", 400),
    "length not a number": (POST + b"Content-Length: x\r\n\r\n", 400),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "signed length": (POST + b"Content-Length: +1\r\n\r\n", 400),
    "endless length": (
        POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
        400,
    ),
    "length too large": (POST + b"Content-Length: 1048577\r\n\r\n", 413),
    "two lengths": (
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
    ),
    "length and chunks": (
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "other coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "chunk without size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
    ),
    "chunk too long": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        400,
    ),
    "chunk too large": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n100001\r\n",
        413,
    ),
    "priority": (GET + b"X-Gearman-Priority: urgent\r\n\r\n", 400),
    "background": (GET + b"X-Gearman-Background: maybe\r\n\r\n", 400),
    "two uniques": (GET + b"X-Gearman-Unique: a\r\nX-Gearman-Unique: b\r\n\r\n", 400),
    "unique too long": (
        GET + b"X-Gearman-Unique: " + b"u" * 65 + b"\r\n\r\n",
        400,
    ),
    "another site": (GET + b"Sec-Fetch-Site: cross-site\r\n\r\n", 403),
    "another host of this site": (GET + b"Sec-Fetch-Site: same-site\r\n\r\n", 403),
    "another origin": (POST + b"Origin: http://evil.example\r\nContent-Length: 0\r\n\r\n", 403),
    "a page without an origin": (POST + b"Origin: null\r\nContent-Length: 0\r\n\r\n", 403),
    "head too large": (GET + b"A: " + b"b" * 2**14 + b"\r\n\r\n", 431),
    "head without end": (b"x" * 2**14, 431),
}


def test_every_bad_request_is_refused_and_nobody_else_notices(
    server: GearmandProcess, web: Address, worker: Peer
) -> None:
    for name, (sent, expected) in REFUSED.items():
        client = Http(web)
        client.send(sent)
        status, _, body = client.hear()
        assert (name, status) == (name, expected)
        assert body.endswith(b"\n") and body.count(b"\n") == 1, (name, body)
        if name != "unique too long":  # read well, refused by the broker: the connection lives
            assert client.closed(), name
        client.close()
        assert worker.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
    assert "Traceback" not in server.log


@pytest.mark.parametrize("header", ["Origin: http://h", "Sec-Fetch-Site: none"])
def test_a_person_and_a_page_of_the_same_site_may_submit(
    client: Http, worker: Peer, header: str
) -> None:
    client.send(post(b"", header, "X-Gearman-Background: true"))
    assert client.hear()[0] == 200


def test_half_a_request_is_not_a_job(client: Http, worker: Peer) -> None:
    client.send(b"POST /f HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.closed()
    assert b"f\t0\t0" in worker.command("status")


@pytest.mark.slow
def test_requests_that_are_answered_at_once_keep_nobody_waiting(client: Http, worker: Peer) -> None:
    number, ended, waits = 50_000, threading.Event(), list[float]()

    def look() -> None:
        while not ended.is_set():
            asked = time.perf_counter()
            assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
            waits.append(time.perf_counter() - asked)

    with ThreadPoolExecutor() as pool:
        looking = pool.submit(look)
        began = time.perf_counter()
        sending = pool.submit(client.send, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" * number)
        answered = 0
        while answered < number:
            data = client.socket.recv(2**20)
            assert data
            answered += data.count(b"H")  # of HTTP/1.1; no other stands in an answer
        seconds = time.perf_counter() - began
        ended.set()
        sending.result()
        looking.result()
    assert max(waits) < seconds / 5, (max(waits), seconds)
    slowest_ms = round(max(waits) * 1000)
    tally("requests", answered_at_once=number, ms_that_others_waited_at_most=slowest_ms)


def test_a_result_over_the_limit_is_answered_with_the_limit(start: Start, connect: Connect) -> None:
    server = start("-r", "http", "--http-port", "0")
    worker = connect(server.listening())
    found = re.search(r"(\S+) port (\d+) for HTTP", server.log)
    assert found
    worker.say(Packet.CAN_DO, b"f")
    client = Http((found[1], int(found[2])))
    client.send(post(b"x"))
    handle, _, _ = grab(worker)
    for _ in range(65):
        worker.say(Packet.WORK_DATA, handle, bytes(2**20))
    status, headers, body = client.hear()
    assert (status, headers["Connection"]) == (500, "close")
    assert body == b"the result of job %s is over 64 MiB\n" % handle
    assert client.closed()
    client.close()
    assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")


@pytest.mark.slow
def test_a_body_in_tiny_chunks_keeps_nobody_waiting(
    server: GearmandProcess, client: Http, worker: Peer
) -> None:
    before = server.resident()
    size = 500_000
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * size)
    slowest = 0.0
    for _ in range(20):  # while it is being read
        asked = time.perf_counter()
        assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
        slowest = max(slowest, time.perf_counter() - asked)
    client.send(b"0\r\n\r\n")
    handle, _, workload = grab(worker)
    assert workload == b"x" * size
    each = (server.memory() - before) // size
    assert each < 12
    slowest_ms = round(slowest * 1000)
    tally("chunks", chunks=size, bytes_each=each, ms_that_others_waited_at_most=slowest_ms)
    worker.say(Packet.WORK_COMPLETE, handle, b"")
    assert client.hear()[0] == 200
