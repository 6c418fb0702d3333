"""gearadmin, beyond the C tool; see also tests/interop/test_command_line.py."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from gearman_py import Client
from gearman_py.net.servers import parse_servers
from gearman_py.protocol.packets import Packet
from tests.peer import Peer
from tests.waiting import LIMIT

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def gearadmin(run: Run, shared_gearmand: Any) -> Run:
    def gearadmin(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return run("gearadmin", "-h", "127.0.0.1", "-p", str(shared_gearmand.port), *arguments)

    return gearadmin


def test_ping_prints_the_round_trip_time(gearadmin: Run, shared_gearmand: Any) -> None:
    words = gearadmin("--ping").stdout.decode().split()
    assert words[:3] + words[4:] == [shared_gearmand.address, "answers", "in", "ms"]
    assert float(words[3]) >= 0


def test_listings_are_printed_as_json(gearadmin: Run, shared_gearmand: Any) -> None:
    with Client(shared_gearmand.address) as client:
        handle = client.do_background("a-json", "x", unique="k-json")
        lines = gearadmin("--status", "--show-jobs", "--show-unique-jobs", "--json").stdout
    jobs, uniques, functions = map(json.loads, lines.splitlines())
    server = {"server": str(shared_gearmand.address)}
    assert {"name": "a-json", "total": 1, "running": 0, "workers": 0} | server in functions
    known = {"handle": handle, "retries": 0, "ignored": False, "background": True}
    assert known | server in jobs
    assert "k-json" in uniques


@pytest.mark.slow
def test_a_queue_can_be_limited(gearadmin: Run, run: Run, shared_gearmand: Any) -> None:
    def submit() -> subprocess.CompletedProcess[bytes]:
        return run("gearman", "-h", shared_gearmand.address, "-b", "-f", "a-limit", "x")

    assert gearadmin("--max-queue", "a-limit", "1").stdout == b"OK\n"
    assert [submit().returncode, submit().returncode] == [0, 1]
    assert gearadmin("--max-queue", "a-limit", "0").stdout == b"OK\n"
    assert submit().returncode == 0


def test_waiting_jobs_are_prioritized_and_rescheduled(gearadmin: Run, shared_gearmand: Any) -> None:
    with Client(shared_gearmand.address) as client:
        handle = client.do_background("a-later", "x")
    words = ("--prioritize", handle, "high", "--reschedule", handle, "2100-01-31T18:00Z")
    assert gearadmin(*words).stdout == b"OK\nOK\n"
    facts = json.loads(gearadmin("--show-job", handle, "--json").stdout)
    assert (facts["priority"], facts["due"]) == ("high", "2100-01-31T18:00:00Z")
    assert gearadmin("--reschedule", handle, "4102444800", "--run-now", handle).returncode == 0
    facts = json.loads(gearadmin("--show-job", handle, "--json").stdout)
    assert (facts["state"], facts["priority"]) == ("waiting", "high")


def test_whole_server_is_paused_and_resumed(gearadmin: Run, shared_gearmand: Any) -> None:
    assert gearadmin("--create-function", "a-held", "--pause-server").stdout == b"OK\nOK\n"
    try:
        rows = json.loads(gearadmin("--stats", "--json").stdout)
        assert {row["server_paused"] for row in rows} == {1}
    finally:
        assert gearadmin("--resume-server").stdout == b"OK\n"


def test_commands_before_a_refused_one_are_reported(gearadmin: Run) -> None:
    done = gearadmin("--create-function", "a-done", "--cancel-job", "H:none:1")
    assert (done.returncode, done.stdout) == (1, b"OK\n")
    assert b"UNKNOWN_JOB" in done.stderr


def test_watch_asks_until_it_is_interrupted(program: Any, shared_gearmand: Any) -> None:
    where = ("-h", shared_gearmand.address, "--server-verbose", "--watch", "1")
    watch = program("gearadmin", *where)
    assert [watch.stdout.readline(), watch.stdout.readline()] == [b"INFO\n"] * 2
    watch.send_signal(signal.SIGINT)
    assert (watch.wait(30), watch.stderr.read()) == (130, b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do"),
        (["--watch", "1", "--drop-function", "x"], "cannot repeat"),
        (["--watch", "soon", "--status"], "'soon' is not a positive integer"),
        (["--max-queue", "x", "many"], "'many' is not a number of jobs"),
        (["--reschedule", "H:1", "soon"], "'soon' is not a time"),
        (["--cancel-job", "H 1"], "'H 1' cannot be sent"),
        (["--cancel-job", "\udcff"], "cannot be sent"),
        (["-S", "--ssl-key", "/no/key", "--status"], "No such file or directory"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    gearadmin: Run, arguments: list[str], message: str
) -> None:
    done = gearadmin(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_only_an_admin_socket_stops_a_server(gearadmin: Run) -> None:
    done = gearadmin("--shutdown")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"only through its admin socket, which gearmand --admin-listen unix:PATH" in done.stderr


def test_values_are_json_too(gearadmin: Run, shared_gearmand: Any) -> None:
    lines = gearadmin("--json", "--server-version", "--getpid", "--ping").stdout.splitlines()
    ping, pid, version = map(json.loads, lines)
    assert ping["server"] == str(shared_gearmand.address)
    assert 0 < ping["seconds"] < 60
    assert (pid, type(version)) == (shared_gearmand.pid, str)
    assert json.loads(gearadmin("--json", "--create-function", "a-made").stdout) == "OK"


def test_a_name_with_a_space_is_refused(gearadmin: Run) -> None:
    done = gearadmin("--drop-function", "two words")
    assert done.returncode == 2
    assert b"separates words by spaces" in done.stderr


@pytest.mark.slow
def test_a_paused_function_is_resumed_and_says_so_meanwhile(
    gearadmin: Run, program: Any, shared_gearmand: Any
) -> None:
    assert gearadmin("--pause", "a-paused").stdout == b"OK\n"
    with Client(shared_gearmand.address, timeout=LIMIT) as client:
        job = client.submit("a-paused", b"abc")
        (row,) = [
            row
            for row in json.loads(gearadmin("--stats", "--json").stdout)
            if row["name"] == "a-paused"
        ]
        assert (row["paused"], row["accepted"], row["waiting"]) == (1, 1, 1)
        program("gearman", "-h", shared_gearmand.address, "-w", "-f", "a-paused", "--", "rev")
        assert gearadmin("--resume", "a-paused").stdout == b"OK\n"
        assert job.result() == b"cba"


@pytest.mark.slow
def test_a_purge_asks_and_cancels_what_waits(gearadmin: Run, shared_gearmand: Any) -> None:
    with Client(shared_gearmand.address) as client:
        for _ in range(1200):  # more than one part of a listing
            client.do_background("a-purged", "x")
        client.do_background("a-kept", "x")
    refused = gearadmin("--purge", "a-purged")
    assert (refused.returncode, b"expected --yes" in refused.stderr) == (2, True)
    assert gearadmin("--purge", "a-purged", "--yes").stdout == b"1200 jobs purged\n"
    purged = gearadmin("--purge", "a-purged", "--yes", "--json").stdout
    assert json.loads(purged) == {"done": "purged", "jobs": 0, "handles": []}
    assert b"a-purged\t0\t0\t0\n" in gearadmin("--status").stdout
    assert b"a-kept\t1\t0\t0\n" in gearadmin("--status").stdout


def fail_jobs(address: str, function: str, *workloads: str) -> list[str]:
    """Background jobs that a worker of the test fails with their workload as reason."""
    worker = Peer(parse_servers(address)[0][:2])
    worker.say(Packet.CAN_DO, function.encode())
    with Client(address) as client, worker.socket:
        handles = [client.do_background(function, each) for each in workloads]
        for each in workloads:
            _, handle, *_ = worker.ask(Packet.GRAB_JOB)
            worker.say(Packet.WORK_EXCEPTION, handle, f"Timeout: {each}\t".encode())
        assert worker.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    return handles


def test_what_fails_while_it_asks_is_not_discarded(
    gearadmin: Run, program: Any, shared_gearmand: Any
) -> None:
    fail_jobs(shared_gearmand.address, "asked", "one", "two")
    master, terminal = os.openpty()
    where = ("-h", "127.0.0.1", "-p", str(shared_gearmand.port))
    asking = program("gearadmin", *where, "--discard-all", "asked", stdin=terminal)
    question = b"asked: discard 2 jobs that failed? [y/N] "
    assert asking.stdout.read(len(question)) == question
    (later,) = fail_jobs(shared_gearmand.address, "asked", "later")
    os.write(master, b"y\n")
    assert asking.communicate(timeout=60)[0] == b"2 jobs discarded\n"
    os.close(master)
    os.close(terminal)
    rows = gearadmin("--failed", "asked").stdout.decode().splitlines()
    assert [row.split("\t")[0] for row in rows] == [later, "."]


@pytest.mark.parametrize("flag", ["--discard-all", "--purge"])
def test_nothing_is_asked_where_there_is_nothing_to_remove(
    gearadmin: Run, program: Any, shared_gearmand: Any, flag: str
) -> None:
    gearadmin("--create-function", "a-empty")
    master, terminal = os.openpty()
    where = ("-h", "127.0.0.1", "-p", str(shared_gearmand.port))
    done = program("gearadmin", *where, flag, "a-empty", stdin=terminal).communicate(timeout=60)
    os.close(master)
    os.close(terminal)
    assert done[0] in (b"0 jobs discarded\n", b"0 jobs purged\n")


def test_failed_jobs_are_listed_shown_retried_and_discarded(
    gearadmin: Run, shared_gearmand: Any
) -> None:
    one, two, three = fail_jobs(shared_gearmand.address, "a-failing", "one", "two", "three")
    fail_jobs(shared_gearmand.address, "a-failing-too", "one")
    rows = gearadmin("--failed", "a-failing").stdout.decode().splitlines()
    assert [row.split("\t")[0] for row in rows] == [three, two, one, "."]
    assert rows[0].endswith("\tTimeout: three\\x09")
    (row,) = json.loads(gearadmin("--failed", "--reason", "t: two", "--json").stdout)
    assert (row["handle"], row["attempts"], row["bytes"]) == (two, 1, 3)
    shown = dict(
        line.split(maxsplit=1)
        for line in gearadmin("--show-job", two).stdout.decode().splitlines()
        if " " in line.strip()
    )
    assert (shown["state"], shown["workload"], shown["priority"]) == ("failed", "two", "normal")
    assert gearadmin("--retry", two).stdout == b"OK\n"
    again = gearadmin("--retry", two)
    assert (again.returncode, b"UNKNOWN_JOB" in again.stderr) == (1, True)
    some = gearadmin("--retry-all", "a-failing", "--reason", "three", "--json")
    assert json.loads(some.stdout) == {"done": "queued again", "jobs": 1, "handles": [three]}
    refused = gearadmin("--discard-all", "a-failing")
    assert (refused.returncode, b"expected --yes" in refused.stderr) == (2, True)
    assert gearadmin("--discard-all", "a-failing", "--yes").stdout == b"1 job discarded\n"
    assert gearadmin("--failed", "a-failing").stdout == b".\n"
    assert b"a-failing\t2\t0\t0\n" in gearadmin("--status").stdout
    assert b"Timeout: one" in gearadmin("--failed", "a-failing-too").stdout


def test_jobs_that_have_not_ended_are_listed_with_what_is_known_of_them(
    gearadmin: Run, shared_gearmand: Any
) -> None:
    with Client(shared_gearmand.address) as client:
        runs, waits = (client.do_background("a-listed", "abc", unique=u) for u in "xy")
        later = client.do_background("a-listed", at=4102444800.0)
        client.do_background("a-listed-too")
    worker = Peer(parse_servers(shared_gearmand.address)[0][:2])
    with worker.socket:
        worker.say(Packet.SET_CLIENT_ID, b"some-worker")
        worker.say(Packet.CAN_DO, b"a-listed")
        assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
        rows = json.loads(gearadmin("--list-jobs", "a-listed", "--json").stdout)
        lines = gearadmin("--list-jobs").stdout.decode().splitlines()
    assert [(row["handle"], row["state"]) for row in rows] == [
        (runs, "running"),
        (waits, "waiting"),
        (later, "scheduled"),
    ]
    assert [row["unique"] for row in rows[:2]] == ["x", "y"]
    assert [row["client_id"] for row in rows] == ["some-worker", "", ""]
    assert (rows[1]["bytes"], rows[1]["attempts"], rows[1]["due"]) == (3, 0, None)
    assert (rows[2]["due"], rows[2]["priority"]) == ("2100-01-01T00:00:00Z", "normal")
    assert {line.split("\t")[2] for line in lines[:-1]} >= {"a-listed", "a-listed-too"}


def test_function_of_any_name_is_steered(gearadmin: Run, shared_gearmand: Any) -> None:
    name = "a 100% function"
    with Client(shared_gearmand.address) as client:
        client.do_background(name, "x")
    assert gearadmin("--pause", name).stdout == b"OK\n"
    limits = "rate=5/m", "per-key=2", "separator=%/"
    assert gearadmin("--limit", name, *limits).stdout == b"OK\n"
    (row,) = [
        row for row in json.loads(gearadmin("--stats", "--json").stdout) if row["name"] == name
    ]
    assert (row["paused"], row["max_started"]) == (1, 5)
    assert (row["max_per_key"], row["key_separator"]) == (2, "%/")
    assert gearadmin("--resume", name).stdout == b"OK\n"
    assert gearadmin("--purge", name, "--yes").stdout == b"1 job purged\n"


@pytest.mark.parametrize(
    "limit",
    ["4", "running=", "running=-1", "walking=4", "rate=5", "rate=1/w", "per-key=x", "separator="],
)
def test_a_limit_that_is_not_one_is_refused(gearadmin: Run, limit: str) -> None:
    refused = gearadmin("--limit", "a-limited", limit)
    assert refused.returncode == 2
    assert f"{limit!r} is not a limit; expected running=N, rate=N/PERIOD" in refused.stderr.decode()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--limit", "f", "rate=0/s"), "PERIOD at most 999999d"),
        (("--limit", "f", "running=1", "running=2"), "running= is given twice"),
        (("--prioritize", "H:x:1", "urgent"), "high|normal|low"),
        (
            ("--schedule", "n", "function=f", "cron=* * * * *", "function=g"),
            "function= is given tw",
        ),
        (("--schedule", "n", "function=f", "cron=61 * * * *"), "Bad minute"),
        (("--schedule", "n", "function=f", "cron=0 5 * * *", "zone=+02:00"), "zone +02:00;"),
        (("--pause", "f" * 9000), "more than 8190"),
    ],
)
def test_what_cannot_be_meant_is_a_wrong_command_line(
    gearadmin: Run, words: tuple[str, ...], text: str
) -> None:
    refused = gearadmin(*words)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert text in refused.stderr.decode()


def test_what_the_server_does_not_know_is_refused(gearadmin: Run) -> None:
    for flag in ("--resume", "--purge"):
        refused = gearadmin(flag, "a-nothing", "--yes")
        assert (refused.returncode, b"unknown function a-nothing" in refused.stderr) == (1, True)


def test_schedules_are_set_listed_paused_run_and_deleted(gearadmin: Run) -> None:
    facts = "cron=0 5 * * *", "function=a-report", "zone=Europe/Berlin", "workload=all of it"
    assert gearadmin("--schedule", "a night", *facts, "missed=none").stdout == b"OK\n"
    assert gearadmin("--pause-schedule", "a night").stdout == b"OK\n"
    (row,) = json.loads(gearadmin("--schedules", "a-report", "--json").stdout)
    assert (row["name"], row["cron"], row["zone"]) == ("a night", "0 5 * * *", "Europe/Berlin")
    assert (row["workload"], row["missed"], row["paused"]) == ("all of it", "none", True)
    assert (row["next"], row["last"]) == (None, None)
    handle = gearadmin("--run-schedule", "a night").stdout.decode().strip()
    assert b"all of it" in gearadmin("--show-job", handle).stdout
    assert gearadmin("--resume-schedule", "a night").stdout == b"OK\n"
    (row,) = json.loads(gearadmin("--schedules", "a-report", "--json").stdout)
    assert row["next"].endswith(":00:00Z")
    assert gearadmin("--delete-schedule", "a night").stdout == b"OK\n"
    assert gearadmin("--schedule", "two\nlines", *facts).stdout == b"OK\n"
    assert gearadmin("--schedules").stdout.splitlines()[0].startswith(b"two\\nlines\t0 5 * * *\t")
    assert gearadmin("--delete-schedule", "two\nlines").stdout == b"OK\n"
    assert gearadmin("--schedules").stdout == b".\n"
    gone = gearadmin("--pause-schedule", "a night")
    assert (gone.returncode, b"UNKNOWN_SCHEDULE" in gone.stderr) == (1, True)
    assert gearadmin("--cancel-job", handle).stdout == b"OK\n"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (["cron=0 5 * * *"], "function= is missing"),
        (["function=f", "cron=5", "at=5"], "expected cron=, function=, zone="),
        (["function=f", "cron=5"], "expected five fields"),
        (["function=f", "cron=0 5 * * *", "missed=some"], "expected once, all or none"),
    ],
)
def test_a_schedule_that_is_not_one_is_refused(gearadmin: Run, facts: list[str], why: str) -> None:
    refused = gearadmin("--schedule", "a-schedule", *facts)
    assert refused.returncode in (1, 2)
    assert why in refused.stderr.decode().replace("+", " ")


@pytest.mark.parametrize("time", ["0", "1900-01-01T00:00Z", "99999999999999999999", "noon"])
def test_a_time_that_is_not_one_is_refused_as_it_was_written(gearadmin: Run, time: str) -> None:
    refused = gearadmin("--reschedule", "H:none:1", time)
    assert refused.returncode == 2
    assert f"--reschedule: {time!r} is not a time after 1970" in refused.stderr.decode()


def test_a_change_that_is_given_twice_is_refused(gearadmin: Run) -> None:
    refused = gearadmin("--limit", "a-twice", "rate=3/s", "--limit", "a-twice", "running=5")
    assert (refused.returncode, b"--limit is given twice" in refused.stderr) == (2, True)


def test_jobs_are_moved_through_the_admin_socket(gearadmin: Run) -> None:
    refused = gearadmin("--move-jobs", "127.0.0.1:1")
    assert (refused.returncode, b"only through the admin socket" in refused.stderr) == (1, True)
