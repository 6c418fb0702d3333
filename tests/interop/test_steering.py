"""Workers of other languages under a limit of our job server."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client, Submit
from tests.interop.programs import ask
from tests.job_servers import OUR_GEARMAND, Address, running_server

Serving = Callable[[list[str], Address, str], None]

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


@pytest.mark.parametrize("kind", ["c", "php", "perl"])
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
