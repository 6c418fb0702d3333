"""Limits that are changed together are changed at once."""

import threading
import time

import pytest

from gearman_py import AdminClient, AdminError, Client, Worker, WorkerJob
from gearman_py.testing import running
from tests.job_servers import JobServer
from tests.waiting import await_true

SWAPS = 40


def test_no_job_is_given_out_between_the_end_of_a_limit_and_the_next_one(
    gearmand: JobServer,
) -> None:
    guard, at_once, most = threading.Lock(), 0, 0
    worker = Worker([gearmand.address], concurrency=8)

    @worker.function("f")
    def count(job: WorkerJob) -> None:
        nonlocal at_once, most
        with guard:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.003)
        with guard:
            at_once -= 1

    with Client(gearmand.address) as client, AdminClient(gearmand.address) as admin:
        admin.limit("f", running=1, per_key=0)
        for number in range(300):
            client.do_background("f", unique=f"k:{number}")
        with running(worker):
            for _ in range(SWAPS):
                admin.limit("f", running=0, per_key=1)
                admin.limit("f", running=1, per_key=0)
            await_true(lambda: not admin.find_jobs("waiting", function="f"))
    assert most == 1


def test_a_limit_that_says_nothing_is_refused(gearmand: JobServer) -> None:
    with (
        AdminClient(gearmand.address) as admin,
        pytest.raises(ValueError, match="no limit; expected running, rate or per_key"),
    ):
        admin.limit("f")


@pytest.mark.parametrize(
    "command",
    [
        "limit f running=1 running=2",
        "limit f running=7 per-key=2 separator=12345678901234567",
        "schedule set n cron=@daily function=f function=g",
        "jobs waiting function=a function=b",
        "retry jobs function=a function=b",
    ],
)
def test_a_command_with_a_fact_twice_or_wrong_changes_nothing(
    gearmand: JobServer, command: str
) -> None:
    with AdminClient(gearmand.address) as admin:
        with pytest.raises(AdminError, match="INVALID_ARGUMENTS"):
            admin.listing(command)
        assert not [row for row in admin.stats() if row.max_running or row.max_per_key]
        assert admin.schedules() == []
