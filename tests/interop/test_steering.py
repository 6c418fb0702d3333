"""Workers of other languages under a limit of our job server."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client, JobFailed, Submit
from tests.interop.programs import KINDS, Stage, ask
from tests.job_servers import OUR_GEARMAND, Address, JobServer, running_server
from tests.tally import tally

Serving = Callable[[list[str], Address, str], None]

JOBS = int(os.environ.get("LIMITED_JOBS", "600"))  # 100,000 before a release
WORKERS = int(os.environ.get("LIMITED_WORKERS", "9"))  # 64
LIMIT = 4
FAILING = 10  # every tenth job

# Notes itself while it runs, and prints how many do; by the key that is its workload.
COUNTING = "k={0}/$(cat).; touch $k$$; ls -d $k* | wc -l; sleep 0.02; rm $k$$"


def test_no_more_jobs_run_than_the_limits_allow_however_many_workers_there_are(
    our_gearmand: Address, serving: Serving, tmp_path: Path
) -> None:
    host, port = our_gearmand
    place = f"{host}:{port}"
    with AdminClient(place) as admin:
        admin.limit("limited", running=3)
    for _ in range(8):
        words = ["/usr/bin/gearman", "-w", "-h", host, "-p", str(port), "-f", "limited"]
        serving([*words, "--", "sh", "-c", COUNTING.format(tmp_path)], our_gearmand, "limited")
    with Client(place, timeout=60) as client:
        jobs = client.submit_many([Submit(function="limited", workload=b"all")] * 80)
        assert max(int(job.result()) for job in jobs) == 3
        with AdminClient(place) as admin:
            admin.limit("limited", running=0, per_key=2)
        keyed = [
            Submit(function="limited", workload=key, unique=f"{key.decode()}:{number}")
            for key in (b"one", b"two", b"three")
            for number in range(30)
        ]
        running = [int(job.result()) for job in client.submit_many(keyed)]
        for start in (0, 30, 60):
            assert max(running[start : start + 30]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_have_submitted_is_fetched_by_its_handle(
    kind: str, serving: Serving, tmp_path: Path
) -> None:
    with running_server([*OUR_GEARMAND, "--keep-results", "60"], tmp_path) as address:
        place = f"{address[0]}:{address[1]}"
        place_words = ["-h", address[0], "-p", str(address[1])]
        (line,) = ask(kind, "queue", place, "c_reverse", workload=b"abc")
        serving(
            ["gearman", "-w", *place_words, "-f", "c_reverse", "--", "rev"], address, "c_reverse"
        )
        with Client(place, timeout=60) as client:
            assert client.result(line.decode().split("//")[-1]) == b"cba"


def test_c_php_and_perl_workers_never_run_more_jobs_than_the_limit_though_some_fail(
    shared_gearmand: JobServer, tmp_path: Path
) -> None:
    folder = tmp_path / "running"
    folder.mkdir()
    with (
        AdminClient(shared_gearmand.address) as admin,
        Client(shared_gearmand.address, timeout=120) as client,
        closing(Stage(shared_gearmand)) as stage,
    ):
        admin.limit("few", running=LIMIT)
        for number in range(WORKERS):
            stage.worker(KINDS[number % len(KINDS)], "few count")
        seen: list[int] = []
        failed = 0
        for start in range(0, JOBS, 1000):
            numbers = range(start, min(start + 1000, JOBS))
            words = [f"{folder} fail" if each % FAILING == 0 else str(folder) for each in numbers]
            jobs = client.submit_many(Submit(function="few", workload=word) for word in words)
            for job in jobs:
                try:
                    seen.append(int(job.result()))
                except JobFailed:
                    failed += 1
        admin.limit("few", running=0)
    assert (len(seen), failed) == (JOBS - JOBS // FAILING, JOBS // FAILING)
    assert max(seen) == LIMIT
    tally("limit", jobs=JOBS, workers=WORKERS, failed=failed, running_at_most=max(seen))
