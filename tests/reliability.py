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
STEERING = f"{SERVER}/test_steering_kills.py"
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
        "kill amid pauses",
        "kill -9 of the job server while an operator pauses 100 functions, or resumes them",
        "has no pauses",
        f"{STEERING}::test_pauses_that_were_acknowledged_are_in_effect_after_kill_9",
        {"KILLS": "50"},
    ),
    Row(
        "kill amid limits",
        "kill -9 of the job server while an operator changes the limits of a function 100 times",
        "has no such limits",
        f"{STEERING}::test_limits_that_were_acknowledged_are_in_effect_after_kill_9",
        {"KILLS": "50"},
    ),
    Row(
        "kill amid changes of jobs",
        "kill -9 of the job server while an operator changes the priority, or the due time, of 100 "
        "jobs that wait",
        "neither can be changed",
        f"{STEERING}::test_changes_of_waiting_jobs_that_were_acknowledged_stay_after_kill_9",
        {"KILLS": "50"},
    ),
    Row(
        "kill amid discards",
        "kill -9 of the job server while an operator discards 100 failed jobs",
        "keeps no failed jobs",
        f"{STEERING}::test_failed_jobs_are_discarded_or_kept_after_kill_9",
        {"KILLS": "50"},
    ),
    Row(
        "kill amid purges",
        "kill -9 of the job server while an operator purges a function with 1,000 jobs",
        "purges nothing",
        f"{STEERING}::test_jobs_are_purged_or_wait_after_kill_9",
        {"KILLS": "50"},
    ),
    Row(
        "kill amid schedules",
        "kill -9 of the job server while an operator sets 100 schedules, or deletes them",
        "has no schedules",
        f"{STEERING}::test_schedules_that_were_set_or_deleted_are_so_after_kill_9",
        {"KILLS": "50"},
    ),
    Row(
        "kill amid results",
        "kill -9 of the job server while jobs end whose results are kept",
        "keeps no results",
        f"{SERVER}/test_results.py"
        "::test_jobs_that_end_when_the_server_is_killed_have_a_result_or_wait",
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
        "a long mixed load: memory and open files at its end are those of its first third",
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
        "the write-ahead log of that file is damaged, cut short, removed, or has frames swapped",
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
        "two job servers with the same handle prefix, started at the same moment, share a "
        "database; kill -9 of one, then of the one that took over, under load",
        "each has its queue to itself",
        f"{SERVER}/test_shared.py"
        "::test_servers_of_one_name_and_one_moment_lose_nothing_of_each_other",
        {"NAMESAKES": "20"},
    ),
    Row(
        "two servers",
        "one of two job servers that share a PostgreSQL, or a Redis, is killed, frozen for a "
        "minute, cut off from it, upgraded, drained, retired, under load",
        "each has its queue to itself",
        f"{SERVER}/test_two_servers.py",
        {"JOBS": "50000", "FROZEN": "60"},
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
        "kill -9 of a worker while it runs a job",
        "its job is given to another worker at once, any number of times",
        f"{SERVER}/test_faults.py::test_a_worker_killed_in_mid_job_gives_it_to_another_at_once",
        {"DEATHS": "1000"},
    ),
    Row(
        "silence",
        "a worker's link is dead: nothing arrives, and no connection is closed",
        "never noticed",
        f"{SERVER}/test_faults.py::test_a_worker_behind_a_dead_link_loses_its_job_to_another",
    ),
    Row(
        "server gone silent",
        "a server's link is dead: its clients and workers notice, and connect again",
        "never noticed",
        f"{SERVER}/test_faults.py"
        "::test_clients_and_workers_behind_a_dead_link_notice_and_come_back",
    ),
    Row(
        "cut",
        "connections are cut at random under load",
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
        "the server has reached its limit of open files",
        "63 of 100 served, 55 % CPU, nothing logged",
        f"{SERVER}/test_sockets.py"
        "::test_newcomers_beyond_the_limit_of_open_files_are_turned_away_and_told_of",
    ),
    Row(
        "dawdlers",
        "peers that send the first bytes of a message and then nothing",
        "their connections are never closed",
        f"{SERVER}/test_load.py::test_two_thousand_peers_that_dawdle_slow_nobody",
    ),
    Row(
        "slow readers",
        "a client that reads nothing for three times as long as a dead link is tolerated, and "
        "then reads",
        "it gets all results; memory is not limited",
        f"{SERVER}/test_slow_readers.py"
        "::test_a_reader_that_stands_still_longer_than_keepalive_waits_gets_all_and_holds_up_nobody",
    ),
    Row(
        "large results",
        "clients that read slowly; together their results are twice as large as --max-memory",
        "memory is not limited",
        f"{SERVER}/test_large_results.py"
        "::test_live_readers_get_all_none_is_closed_and_no_result_is_made_twice",
    ),
    Row(
        "many functions",
        "workers that register 62,000 functions each, and leave, with --max-memory 200M",
        "all are kept until a restart",
        f"{SERVER}/test_load.py"
        "::test_functions_of_workers_that_left_are_forgotten_with_their_memory",
        {"FLOODS": "3"},
    ),
    Row(
        "costly requests",
        "floods of requests that could take longer the more functions there are, beside 10,000",
        "0.02 ms (status), 0.4 ms (sleep), 0.6 ms (grab) each, one after the other",
        f"{SERVER}/test_load.py::test_requests_beside_many_functions_keep_others_waiting_no_longer",
    ),
    Row(
        "parts",
        "peers that each send 60 MiB of a message of 63 MiB, together three times --max-memory",
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
        "unfinished TLS handshakes, ten times as many as --max-connections",
        "not tried",
        f"{SERVER}/test_tls.py"
        "::test_handshakes_that_are_not_ended_count_as_connections_and_keep_nobody_out",
    ),
    Row(
        "messages",
        "malformed packets and text commands, each on its own connection",
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
        "TLS handshakes of peers that connect and send nothing",
        "after four of them other peers are not served",
        f"{SERVER}/test_tls.py::test_silent_handshakes_hold_up_nobody_and_are_ended",
    ),
    Row(
        "idle TLS connections",
        "idle TLS connections, with certificates on both sides",
        "not tried",
        f"{SERVER}/test_tls.py"
        "::test_an_idle_connection_takes_little_more_than_openssl_keeps_for_it",
    ),
    Row(
        "names",
        "names with control characters, tabs and line breaks, in logs and listings",
        "rows, columns and ends of listings can be forged; terminals obey control sequences",
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
        "packets, sessions, HTTP requests, inventories, queue files and pictures made by a fuzzer",
        "not tried",
        "tests/fuzz/test_fuzz.py::test_a_fuzzer_ends_nothing",
        {"SECONDS_OF_FUZZING": "60"},
    ),
    Row(
        "limit",
        "a function limited to 4 jobs at a time, with C, PHP and Perl workers that count how many "
        "run; every tenth job fails",
        "has no limits",
        "tests/interop/test_steering.py"
        "::test_c_php_and_perl_workers_never_run_more_jobs_than_the_limit_though_some_fail",
        {"LIMITED_JOBS": "100000", "LIMITED_WORKERS": "64"},
    ),
    Row(
        "upgrade",
        "workers are reloaded under load",
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
    words = {name: name.replace("_", " ") for name in counts}
    for name, count in counts.items():
        first, space, rest = words[name].partition(" ")
        if count == 1 and first != "ms":
            words[name] = first.removesuffix("s") + space + rest
    return ", ".join(f"{count:,} {words[name]}" for name, count in counts.items())


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
