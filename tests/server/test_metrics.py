"""--metrics-listen over real sockets: what Prometheus reads is what the peers have done."""

import contextlib
import http.client
import os
import re
import select
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_parser

from gearman_py.admin.client import AdminClient
from gearman_py.broker.limits import MAX_TOLD_APART
from gearman_py.protocol.packets import Packet
from gearman_py.server.metrics import MAX_FUNCTIONS_SHOWN, OPENMETRICS, TEXT
from gearman_py.server.metrics_http import MAX_CONNECTIONS
from gearman_py.server.metrics_table import METRICS
from tests.attacks import attack
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
Answer = tuple[int, str, str]


def with_metrics(start: Start, *options: str) -> tuple[GearmandProcess, int]:
    port = reserve_port()
    server = start("--metrics-listen", f"127.0.0.1:{port}", *options)
    server.listening()
    return server, port


def get(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def values(text: str) -> dict[tuple[str, ...], float]:
    """By name and the values of labels."""
    families: list[Family] = list(parser.text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in samples}


def test_gauges_are_what_peers_have_done(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    client, worker = connect(server.listening()), connect(server.listening())
    for priority in (
        Packet.SUBMIT_JOB_HIGH_BG,
        Packet.SUBMIT_JOB_BG,
        Packet.SUBMIT_JOB_BG,
        Packet.SUBMIT_JOB_LOW_BG,
    ):
        client.ask(priority, b"resize", b"", b"x")
    client.ask(Packet.SUBMIT_JOB_EPOCH, b"resize", b"", b"4000000000", b"x")
    worker.say(Packet.CAN_DO, b"resize")
    worker.say(Packet.CAN_DO, b'we"ird\\\n')
    assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
    status, kind, text = get(port)
    assert (status, kind) == (200, TEXT)
    found = values(text)
    assert found["gearman_up",] == 1
    assert found["gearman_jobs", "resize"] == 5
    assert found["gearman_jobs_running", "resize"] == 1
    assert found["gearman_jobs_waiting", "resize"] == 4
    assert found["gearman_jobs_scheduled", "resize"] == 1
    assert found["gearman_workers", "resize"] == 1
    assert found["gearman_workers", r'we"ird\\x0a'] == 1
    assert found["gearman_workers_wanted", "resize"] == 1
    assert found["gearman_workers_wanted", r'we"ird\\x0a'] == 0
    for priority_name, count in (("high", 0), ("normal", 2), ("low", 1)):
        assert found["gearman_jobs_waiting_by_priority", "resize", priority_name] == count
    assert found["gearman_functions",] == 2
    assert found["gearman_connections",] == 2
    assert found["gearman_accepting_jobs",] == 1
    assert found["process_resident_memory_bytes",] == pytest.approx(server.resident(), rel=0.2)


def finish(worker: Peer, packet: Packet, *text: bytes) -> bytes:
    """Grab a job and end it; its handle."""
    said = worker.ask(Packet.GRAB_JOB)
    assert said[0] == "JOB_ASSIGN"
    worker.say(packet, said[1], *text)
    assert worker.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    return bytes(said[1])


@pytest.mark.slow
def test_counters_are_exactly_what_peers_have_done(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start, "--job-retries", "3")
    client, worker, dying = (connect(server.listening()) for _ in range(3))
    for number in range(9):
        client.ask(Packet.SUBMIT_JOB_BG, b"f", b"%d" % number, b"x")
    client.ask(Packet.SUBMIT_JOB_BG, b"f", b"8", b"x")  # joins
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"u" * 65, b"x")[0] == "ERROR"
    client.command("maxqueue f 9")
    assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"more", b"x")[0] == "ERROR"
    for peer in worker, dying:
        peer.say(Packet.CAN_DO, b"f")
    assert dying.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"  # goes to the end of the queue
    dying.socket.close()
    await_true(lambda: b"f\t9\t0\t1\n" in worker.command("status"))
    for _ in range(3):
        finish(worker, Packet.WORK_COMPLETE, b"result")
    finish(worker, Packet.WORK_FAIL)
    finish(worker, Packet.WORK_EXCEPTION, b"why")
    assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
    worker.say(Packet.CANT_DO, b"f")
    worker.say(Packet.CAN_DO_TIMEOUT, b"f", b"1000")
    handle = worker.ask(Packet.GRAB_JOB)[1]  # runs out of its second
    await_true(lambda: values(get(port)[2])["gearman_jobs_timed_out_total", "f"] == 1)
    worker.say(Packet.WORK_COMPLETE, handle, b"late, but none has it yet")
    assert worker.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    handle = worker.ask(Packet.GRAB_JOB)[1]
    assert client.command("cancel job " + handle.decode()) == b"OK\r\n"
    client.ask(Packet.SUBMIT_JOB, b"g", b"", b"")
    client.socket.close()
    await_true(lambda: b"\ng\t0\t0\t0\n" in worker.command("status"))
    found = values(get(port)[2])
    expected = {
        ("gearman_jobs_accepted_total", "f"): 9,
        ("gearman_jobs_accepted_total", "g"): 1,
        ("gearman_jobs_coalesced_total", "f"): 1,
        ("gearman_jobs_refused_total", "too_large"): 1,
        ("gearman_jobs_refused_total", "queue_full"): 1,
        ("gearman_jobs_started_total", "f"): 9,
        ("gearman_job_wait_seconds_count", "f"): 9,
        ("gearman_job_wait_seconds_bucket", "f", "+Inf"): 9,
        ("gearman_job_run_seconds_count", "f"): 9,
        ("gearman_jobs_completed_total", "f"): 4,
        ("gearman_jobs_failed_total", "f", "fail"): 1,
        ("gearman_jobs_failed_total", "f", "exception"): 1,
        ("gearman_jobs_failed_total", "f", "attempts"): 0,
        ("gearman_jobs_requeued_total", "f", "disconnected"): 1,
        ("gearman_jobs_requeued_total", "f", "unregistered"): 1,
        ("gearman_jobs_requeued_total", "f", "timeout"): 1,
        ("gearman_jobs_cancelled_total", "f"): 1,
        ("gearman_jobs_dropped_total", "f"): 0,
        ("gearman_jobs_dropped_total", "g"): 1,
        ("gearman_jobs", "f"): 2,
        ("gearman_connections_opened_total",): 3,
        ("gearman_connections_closed_total", "left"): 2,
    }
    assert {key: found[key] for key in expected} == expected
    assert 1 <= found["gearman_job_run_seconds_sum", "f"] < found["gearman_up",] * LIMIT
    assert found["gearman_job_run_seconds_bucket", "f", "1800.0"] == 9
    assert found["gearman_job_oldest_waiting_seconds", "f"] >= 0
    assert found["gearman_received_bytes_total",] > 20 * 12
    assert found["gearman_sent_bytes_total",] > 9 * len("H:x:1")
    assert found["gearman_memory_limit_bytes",] > found["process_resident_memory_bytes",]
    await_true(lambda: values(get(port)[2])["gearman_loop_lag_seconds_count",] > 2)


def test_wakeups_and_grabs_in_vain_are_counted(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    client, worker = connect(server.listening()), connect(server.listening())
    worker.say(Packet.CAN_DO, b"f")
    assert worker.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    worker.say(Packet.PRE_SLEEP)
    worker.ask(Packet.ECHO_REQ, b"")
    client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")
    assert worker.hear() == ("NOOP",)
    found = values(get(port)[2])
    assert found["gearman_empty_grabs_total",] == found["gearman_worker_wakeups_total",] == 1


def test_packets_are_counted_by_type(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    worker, client = connect(server.listening()), connect(server.listening())
    worker.say(Packet.CAN_DO, b"f")
    for _ in range(3):
        client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")
        assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
    client.ask(Packet.NOOP)  # which clients do not send
    before = values(get(port)[2])["gearman_received_packets_total", "text"]
    with AdminClient("{}:{}".format(*server.listening())) as admin:
        admin.version()
    counted = {
        key[1]: value
        for key, value in values(get(port)[2]).items()
        if key[0] == "gearman_received_packets_total" and value
    }
    assert counted.pop("text") == before + 1
    assert counted == {"CAN_DO": 1, "SUBMIT_JOB_BG": 3, "GRAB_JOB": 3, "invalid": 1}


@pytest.mark.slow
def test_store_is_measured(start: Start, connect: Connect, tmp_path: Path) -> None:
    queue = ("-q", "sqlite", "--queue-file", str(tmp_path / "queue"))
    server, port = with_metrics(start, *queue)
    client = connect(server.listening())
    for _ in range(5):
        assert client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"x")[0] == "JOB_CREATED"
    found = values(get(port)[2])
    assert found["gearman_store_jobs_total",] == 5
    assert found["gearman_store_commit_seconds_count",] >= 5
    assert found["gearman_store_failures_total",] == 0
    server.kill()
    server.process.wait()
    _, port = with_metrics(start, *queue)
    assert values(get(port)[2])["gearman_jobs_restored_total", "f"] == 5


@pytest.mark.slow
def test_counters_tell_a_thousand_functions_apart(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    client = connect(server.listening())
    for number in range(MAX_TOLD_APART + 20):
        client.ask(Packet.SUBMIT_JOB_BG, b"f%d" % number, b"", b"")
    for name in (b"other", b"(other)", b"\xff", rb"\xff", b""):
        client.ask(Packet.SUBMIT_JOB_BG, name, b"", b"")
    found = values(get(port)[2])
    accepted = {key[1]: n for key, n in found.items() if key[0] == "gearman_jobs_accepted_total"}
    assert len(accepted) == MAX_TOLD_APART + 1
    assert accepted["(other)"] == 25
    jobs = {key[1]: number for key, number in found.items() if key[0] == "gearman_jobs"}
    assert jobs == dict.fromkeys([*jobs], 1)
    assert len(jobs) == MAX_TOLD_APART + 25
    assert {"other", r"\x28other)", r"\xff", r"\x5cxff", r"\x00"} <= jobs.keys()


def test_a_function_whose_name_is_other_is_counted_apart(start: Start, connect: Connect) -> None:
    """Also by the text command stats, which has the same names."""
    server, port = with_metrics(start)
    client = connect(server.listening())
    names = b"other", b"(other)", b"", b"col\xff", rb"col\xff"
    for number, name in enumerate(names, 1):
        for _ in range(number):
            client.ask(Packet.SUBMIT_JOB_BG, name, b"", b"")
    found = values(get(port)[2])
    labels = "other", r"\x28other)", r"\x00", r"col\xff", r"col\x5cxff"
    for number, label in enumerate(labels, 1):
        assert found["gearman_jobs_accepted_total", label] == number
        assert found["gearman_jobs", label] == number
    assert ("gearman_jobs_accepted_total", "(other)") not in found
    rows = [row.split(b"\t") for row in client.command("stats").splitlines()]
    listed = {row[0].decode(errors="backslashreplace"): row for row in rows[:-1]}
    for number, label in enumerate(labels, 1):
        assert b"accepted=%d" % number in listed.pop(label)
    assert not listed


def test_every_metric_of_the_table_is_told_and_nothing_else(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    assert connect(server.listening()).ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")
    families = list(parser.text_string_to_metric_families(get(port)[2]))
    suffix = {"counter": "_total", "gauge": "", "histogram": ""}
    told = [(each.name + suffix[each.type], each.type, each.documentation) for each in families]
    assert told == [(each.name, each.kind, each.help) for each in METRICS]


def test_openmetrics_are_sent_to_who_asks_for_them(start: Start) -> None:
    _, port = with_metrics(start)
    status, kind, text = get(port, Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert (status, kind) == (200, OPENMETRICS)
    families = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no types
    names = {each.name for each in families}
    assert {"gearman_up", "process_cpu_seconds"} <= names


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.4,*/*;q=0.2",
            OPENMETRICS,
        ),
        ("text/plain;q=0.4, Application/OpenMetrics-Text ; Q=0.5", OPENMETRICS),
        ("application/*", OPENMETRICS),
        ("application/openmetrics-text, text/plain", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.000,*/*", TEXT),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.4", TEXT),
        ("application/*;q=0.5, application/openmetrics-text;q=0, text/*;q=0.1", TEXT),
        ("*/*", TEXT),
        ("", TEXT),
    ],
)
def test_the_format_is_the_more_welcome_one(start: Start, accept: str, kind: str) -> None:
    _, port = with_metrics(start)
    assert get(port, Accept=accept)[:2] == (200, kind)


@pytest.mark.interop
def test_promtool_finds_nothing_to_say(start: Start) -> None:
    if not (promtool := shutil.which("promtool")):
        pytest.skip("needs promtool (apt-get install prometheus)")
    _, port = with_metrics(start)
    text = get(port)[2]
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
def test_health_says_why_no_jobs_are_taken(start: Start, connect: Connect) -> None:
    _, port = with_metrics(start)
    assert get(port, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    _, port = with_metrics(start, "--max-memory", "1M")
    await_true(lambda: get(port, "/healthz")[0] == 503)
    assert get(port, "/healthz")[2] == "the limit of memory is reached (--max-memory)\n"
    assert values(get(port)[2])["gearman_accepting_jobs",] == 0


@pytest.mark.slow
def test_functions_beyond_the_limit_are_told_as_one(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    worker = connect(server.listening())
    for number in range(MAX_FUNCTIONS_SHOWN + 50):
        worker.say(Packet.CAN_DO, b"f%d" % number)
    assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    found = values(get(port)[2])
    workers = {name[1]: value for name, value in found.items() if name[0] == "gearman_workers"}
    assert len(workers) == MAX_FUNCTIONS_SHOWN + 1
    assert workers["(other)"] == 50


def test_other_requests_are_refused_and_the_next_is_answered(start: Start) -> None:
    _, port = with_metrics(start)
    assert get(port, "/")[0] == 404
    assert get(port, method="POST")[0] == 405
    assert get(port, method="HEAD")[::2] == (200, "")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    for _ in range(3):  # on one connection, as a scraper does
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read().startswith(b"# HELP gearman_up")
    connection.close()
    refused = Peer(("127.0.0.1", port))
    with refused.socket:
        refused.socket.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert refused.socket.recv(100).startswith(b"HTTP/1.1 400 ")


def test_what_is_not_an_address_is_refused(start: Start) -> None:
    server = start("--metrics-listen", "127.0.0.1:x")
    server.process.wait(LIMIT)
    said = server.log
    assert re.search(r"--metrics-listen: '127.0.0.1:x' is not a server: 'x' is not a port", said)


@pytest.mark.parametrize("address", ["192.0.2.7", "[2001:db8::7]"])
def test_an_address_that_comes_later_holds_up_no_jobs(
    start: Start, connect: Connect, address: str
) -> None:
    server = start("--metrics-listen", f"{address}:9418")
    assert connect(server.listening()).ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")


def test_connections_that_do_nothing_make_room_for_a_scraper(
    start: Start, connect: Connect
) -> None:
    server, port = with_metrics(start)
    with contextlib.ExitStack() as opened:
        idle = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT))
            for _ in range(MAX_CONNECTIONS + 16)
        ]
        await_true(lambda: len(select.select(idle, [], [], 0)[0]) == 16)
        assert get(port)[0] == 200
        assert connect(server.listening()).ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")


@attack(
    "peer on the network", "keep a scrape from its end by connections that come and go", "mended"
)
@pytest.mark.slow
def test_who_is_being_answered_does_not_give_way(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    worker = connect(server.listening())
    for number in range(MAX_FUNCTIONS_SHOWN):
        worker.say(Packet.CAN_DO, b"%d" % number + b"x" * 200)
    worker.ask(Packet.ECHO_REQ, b"")
    with contextlib.ExitStack() as opened:
        scraper = opened.enter_context(socket.socket())
        scraper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        scraper.settimeout(LIMIT)
        scraper.connect(("127.0.0.1", port))
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = scraper.recv(4096)
        for _ in range(3 * MAX_CONNECTIONS):
            opened.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT))
        assert get(port, "/healthz")[0] == 200  # all have been accepted
        answer += b"".join(iter(lambda: scraper.recv(2**16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length
    assert len(body) == int(length[1]) > 2**20


@pytest.mark.slow
def test_peers_leave_descriptors_for_scrapers_and_operators(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    door = tmp_path / "admin"
    server, port = with_metrics(start, "-f", "100", "--admin-listen", f"unix:{door}")
    peers = [connect(server.listening()) for _ in range(150)]
    await_true(lambda: "at the limit of 100 open files" in server.log)
    await_true(lambda: answers_metrics(port))
    with AdminClient(f"unix:{door}") as operator:
        assert operator.version()
    scrapers = [http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT) for _ in range(16)]
    for scraper in scrapers:
        scraper.connect()
    used = f"/proc/{server.process.pid}/fd"
    await_true(lambda: len(os.listdir(used)) == 100)  # these took the rest
    scrapers[0].request("GET", "/metrics")
    answer = scrapers[0].getresponse()
    assert answer.status == 200
    assert values(answer.read().decode())["process_open_fds",] == 100
    for scraper in scrapers:
        scraper.close()
    assert peers
    assert server.process.poll() is None


def answers_metrics(port: int) -> bool:
    try:
        return get(port)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.slow
def test_scrapers_that_never_read_take_little_memory(start: Start, connect: Connect) -> None:
    server, port = with_metrics(start)
    worker = connect(server.listening())
    for number in range(12_000):
        worker.say(Packet.CAN_DO, b"a function with a long name %d" % number)
    assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    size = len(get(port)[2])
    before = server.resident()
    with contextlib.ExitStack() as opened:
        for _ in range(60):
            scraper = opened.enter_context(socket.socket())
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            scraper.connect(("127.0.0.1", port))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert get(port)[0] == 200  # those before have been answered, or closed
        assert server.resident() - before < 10 * size


def test_workers_are_counted_by_host_and_a_queue_in_memory_is_told(
    start: Start, connect: Connect
) -> None:
    server, port = with_metrics(start)
    client, worker = connect(server.listening()), connect(server.listening())
    client.ask(Packet.ECHO_REQ, b"")
    worker.say(Packet.CAN_DO, b"f")
    assert worker.ask(Packet.GRAB_JOB)[0] == "NO_JOB"
    found = values(get(port)[2])
    assert found["gearman_worker_connections", "127.0.0.1"] == 1
    assert found["gearman_queue_durable",] == 0
    assert ("gearman_certificate_end_seconds",) not in found
