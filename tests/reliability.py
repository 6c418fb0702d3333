"""The faults and inputs that a job server must survive, and the tests that show it.

    .venv/bin/python -m tests.reliability [ROW...]     (as root; all rows take half an hour)

runs them as long as before a release, and writes what they counted into docs/reliability.md.
`SHORT=yes` runs them as CI does, and writes nothing.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by invoke reliability -->", "<!-- end -->"
HEAD = "| | fault or input | C gearmand 1.1.20 | ours |\n|---|---|---|---|\n"


class Row(NamedTuple):
    """What is done to a server, where that is shown, and what the C one does then (measured)."""

    name: str
    what: str
    c: str
    test: str
    long: Mapping[str, str] = {}  # environment for as much of it as before a release


SERVER = "tests/server"
DURABLE = f"{SERVER}/test_durable.py"
ROWS = (
    Row(
        "kill",
        "kill -9 of the job server under load, its queue in SQLite",
        "with SQLite 0 of 7,991 lost (5 kills); its built-in queue: all",
        f"{DURABLE}::test_jobs_survive_kill_9_under_load",
        {"KILLS": "200"},
    ),
    Row(
        "kill amid retries",
        "kill -9 of the job server while an operator retries 100 failed jobs",
        "keeps no failed jobs",
        f"{DURABLE}::test_jobs_that_are_retried_when_the_server_is_killed_are_failed_or_wait",
        {"KILLS": "50"},
    ),
    Row(
        "stop",
        "SIGTERM under load",
        "with SQLite it had not ended after 10 to 30 s, 4 times of 4; 0 lost",
        f"{DURABLE}::test_server_told_to_stop_under_load_stops_soon_and_keeps_all",
        {"STOPS": "20"},
    ),
    Row(
        "soak",
        "a mixed load for long: memory and descriptors at its end are those of its first third",
        "not tried",
        f"{DURABLE}::test_long_mixed_load_needs_no_more_of_anything_at_its_end",
        {"SOAK": "180"},
    ),
    Row(
        "power",
        "the power is cut, on a file system that forgets what was not synced",
        "the last acknowledged job lost, 3 times of 3",
        f"{SERVER}/test_power_cut.py::test_power_cut_loses_no_acknowledged_job",
        {"CUTS": "100"},
    ),
    Row(
        "sync",
        "the disk fails the N-th sync",
        "not tried",
        f"{DURABLE}::test_disk_that_fails_to_keep_what_was_written_stops_the_server",
        {"FAULTS": "40"},
    ),
    Row(
        "write",
        "the disk fails the N-th write, for each N",
        "not tried",
        f"{DURABLE}::test_write_that_fails_refuses_its_jobs_and_no_others",
        {"WRITES": "130"},
    ),
    Row(
        "full disk",
        "the disk is full, and then not",
        "never recovers; 49 jobs that it had refused ran later",
        f"{DURABLE}::test_full_disk_refuses_jobs_while_it_is_full_and_everything_else_goes_on",
    ),
    Row(
        "damage",
        "the queue's file is cut short, zeroed in part, or has a flipped bit",
        "one bad row: no start; a zeroed page: connections are dropped",
        "tests/store/test_sqlite.py::test_damaged_file_is_refused_or_loses_nothing_in_silence",
    ),
    Row(
        "log",
        "its write-ahead log is damaged, cut, removed, or frames of it are exchanged",
        "not tried",
        "tests/store/test_wal.py::test_damaged_wal_is_refused_or_loses_nothing",
    ),
    Row(
        "succession",
        "kill -9 of one of two job servers that share a PostgreSQL, or a Redis, under load",
        "each has its queue to itself",
        f"{SERVER}/test_shared.py::test_jobs_of_a_killed_server_run_on_another",
        {"SUCCESSIONS": "10"},
    ),
    Row(
        "namesakes",
        "two job servers of one name, started in one moment, share a database; kill -9 of one, "
        "and of its successor, under load",
        "each has its queue to itself",
        f"{SERVER}/test_shared.py"
        "::test_servers_of_one_name_and_one_moment_lose_nothing_of_each_other",
        {"NAMESAKES": "20"},
    ),
    Row(
        "database",
        "kill -9 of that PostgreSQL, or Redis, under load",
        "not tried",
        f"{SERVER}/test_shared.py::test_jobs_survive_kill_9_of_the_database",
        {"SUCCESSIONS": "50"},
    ),
    Row(
        "worker",
        "kill -9 of a worker in the midst of its job",
        "given to another at once, without end",
        f"{SERVER}/test_faults.py::test_a_worker_killed_in_mid_job_gives_it_to_another_at_once",
        {"DEATHS": "1000"},
    ),
    Row(
        "silence",
        "a worker's network goes silent: nothing comes, and nothing says so",
        "never noticed",
        f"{SERVER}/test_faults.py::test_a_worker_behind_a_dead_link_loses_its_job_to_another",
    ),
    Row(
        "server gone silent",
        "the same, seen by clients and workers: they notice, and come back",
        "never noticed",
        f"{SERVER}/test_faults.py"
        "::test_clients_and_workers_behind_a_dead_link_notice_and_come_back",
    ),
    Row(
        "cut",
        "connections cut at random, all day long",
        "not tried",
        f"{SERVER}/test_faults.py::test_connections_cut_at_random_lose_nothing_and_hang_nobody",
        {"CUTS_OF_LINES": "300"},
    ),
    Row(
        "clock",
        "the clock is set forward and back by an hour",
        "not tried",
        f"{SERVER}/test_faults.py::test_a_clock_that_is_set_moves_epoch_jobs_and_no_time_limit",
    ),
    Row(
        "memory",
        "more jobs than --max-memory lets in",
        "no limit",
        f"{SERVER}/test_load.py"
        "::test_a_flood_ends_at_the_limit_of_memory_and_is_taken_again_when_there_is_room",
    ),
    Row(
        "connections",
        "more connections than --max-connections",
        "no limit but the system's",
        f"{SERVER}/test_faults.py::test_more_connections_than_allowed_are_turned_away",
        {"CONNECTIONS": "50000"},
    ),
    Row(
        "descriptors",
        "no descriptors are left",
        "63 of 100 served, 55 % CPU, not a word",
        f"{SERVER}/test_sockets.py"
        "::test_newcomers_beyond_the_limit_of_open_files_are_turned_away_and_told_of",
    ),
    Row(
        "dawdlers",
        "peers that send a part of a message, and no more",
        "kept without end",
        f"{SERVER}/test_load.py::test_two_thousand_peers_that_dawdle_slow_nobody",
    ),
    Row(
        "slow readers",
        "a client that stands still for three times what a silent peer has, and then reads",
        "gets all; memory without limit",
        f"{SERVER}/test_slow_readers.py"
        "::test_a_reader_that_stands_still_longer_than_keepalive_waits_gets_all_and_holds_up_nobody",
    ),
    Row(
        "large results",
        "live clients that read slowly; their results are twice as much together as --max-memory",
        "memory without limit",
        f"{SERVER}/test_large_results.py"
        "::test_live_readers_get_all_none_is_closed_and_no_result_is_made_twice",
    ),
    Row(
        "parts",
        "peers with 60 of 63 MiB each of a message, three times --max-memory together",
        "no limit",
        f"{SERVER}/test_slow_readers.py"
        "::test_parts_of_messages_leave_memory_for_the_jobs_of_others",
    ),
    Row(
        "chunks",
        "an HTTP body in chunks of one byte",
        "not tried",
        f"{SERVER}/test_web.py::test_a_body_in_tiny_chunks_keeps_nobody_waiting",
    ),
    Row(
        "half handshakes",
        "ten times as many handshakes that are not ended as --max-connections",
        "not tried",
        f"{SERVER}/test_tls.py"
        "::test_handshakes_that_are_not_ended_count_as_connections_and_keep_nobody_out",
    ),
    Row(
        "messages",
        "malformed packets and lines, each on a connection of its own",
        "not all are survived; 6 of 90 are never answered",
        f"{SERVER}/test_malformed.py"
        "::test_every_bad_message_is_answered_or_closed_and_nobody_else_notices",
    ),
    Row(
        "tls",
        "with --ssl: no certificate, a foreign or an expired one, TLS 1.1, plain text",
        "all served, but for TLS 1.1",
        f"{SERVER}/test_tls.py::test_peers_without_a_valid_certificate_are_refused",
    ),
    Row(
        "handshakes",
        "handshakes that are begun, and not gone on with",
        "four of them, and no other peer is served",
        f"{SERVER}/test_tls.py::test_silent_handshakes_hold_up_nobody_and_are_ended",
    ),
    Row(
        "idle TLS connections",
        "connections by TLS, with certificates on both sides, that do nothing",
        "not tried",
        f"{SERVER}/test_tls.py"
        "::test_an_idle_connection_takes_little_more_than_openssl_keeps_for_it",
    ),
    Row(
        "names",
        "names that mean something to terminals, logs, or readers of listings",
        "rows, ends of listings and columns are forged; terminals obey",
        f"{SERVER}/test_injection.py::test_listings_have_as_many_rows_as_there_are",
    ),
    Row(
        "sessions",
        "random sessions of random packets",
        "1.59 million packets in 60 s, and no other crash",
        f"{SERVER}/test_fuzz.py::test_random_sessions_leave_the_server_as_it_was",
        {"PACKETS": "1000000"},
    ),
    Row(
        "fuzzing",
        "what a fuzzer makes of packets, sessions, HTTP, inventories, queue files and pictures",
        "not tried",
        "tests/fuzz/test_fuzz.py::test_a_fuzzer_ends_nothing",
        {"SECONDS_OF_FUZZING": "60"},
    ),
    Row(
        "upgrade",
        "reloads of the workers under load",
        "-",
        "tests/worker/test_reload.py::test_reloads_under_load_lose_and_fail_no_job",
        {"RELOADS": "200"},
    ),
)


def run(row: Row, *, long: bool) -> dict[str, int] | None:
    """What a row's test counted; None when it failed."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "tally"
        environment = {**os.environ, **(row.long if long else {}), "TALLY": str(told)}
        command = [sys.executable, "-m", "pytest", "-q", "--timeout=3600", str(ROOT / row.test)]
        print(f"{row.name}: {row.what}", flush=True)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout[-5000:], done.stderr[-2000:])
            return None
        sums: defaultdict[str, int] = defaultdict(int)
        for line in told.read_text().splitlines():
            for name, count in json.loads(line)["counts"].items():
                sums[name] += count
    print(f"    {sentence(sums)}", flush=True)
    return sums


def sentence(counts: Mapping[str, int]) -> str:
    """`5 kills, 0 lost`"""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


def write(found: Mapping[str, Mapping[str, int]]) -> None:
    """Put what was counted into the page; rows that were not run stay as they are."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    known = dict(re.findall(r"^\| (\w[\w ]*) \|.*\| ([^|]*) \|$", table, re.MULTILINE))
    lines = "".join(
        f"| {row.name} | {row.what} | {row.c} | "
        f"{sentence(found[row.name]) if row.name in found else known.get(row.name, 'not run')} |\n"
        for row in ROWS
    )
    when = f"Last run of any row: {datetime.now(UTC):%Y-%m-%d}.\n"
    PAGE.write_text(f"{before}{BEGIN}\n{HEAD}{lines}\n{when}{END}{after}")


def main(names: Sequence[str]) -> int:
    known = {row.name: row for row in ROWS}
    if unknown := [name for name in names if name not in known]:
        print(f"there is no row {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 1
    long = os.environ.get("SHORT") != "yes"
    found = {row.name: run(row, long=long) for row in ROWS if not names or row.name in names}
    if long:
        write({name: counts for name, counts in found.items() if counts is not None})
    failed = [name for name, counts in found.items() if counts is None]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
