"""Our client and worker at Perl's Gearman::Server, which knows an older protocol."""

import logging
import time
from typing import Any

import pytest

from gearman_py import (
    Client,
    JobException,
    JobFailed,
    Requeue,
    ResultsUnsupported,
    Worker,
    WorkerJob,
)
from gearman_py.testing import running
from tests.job_servers import Address
from tests.waiting import LIMIT


@pytest.fixture
def at(perl_server: Address) -> str:
    return "{}:{}".format(*perl_server)


@pytest.mark.parametrize("kind", ["thread", "async"])
@pytest.mark.parametrize("reducers", [False, True])
def test_jobs_are_done_and_fail_as_elsewhere(
    at: str, kind: str, reducers: bool, caplog: Any
) -> None:
    def do(job: WorkerJob) -> str:
        if job.workload == b"raise":
            raise ValueError("no")
        if job.workload == b"fail":
            job.fail()
        if job.workload == b"requeue":
            raise Requeue
        job.send_warning("beware")
        job.send_data("one ")
        return "two"

    async def do_async(job: WorkerJob) -> str:
        return do(job)

    worker = Worker(at, reducers=reducers)
    worker.add_function("f", do if kind == "thread" else do_async)
    with running(worker), Client(at, timeout=LIMIT) as client:
        assert client.do("f") == b"one two"
        with pytest.raises(JobException, match="ValueError: no"):
            client.do("f", "raise")
        for workload in ("fail", "requeue"):
            with pytest.raises(JobFailed):
                client.do("f", workload)
        assert "failed, as its server cannot take a job back" in caplog.text
        assert client.do("f") == b"one two"
        began = time.monotonic()
    assert time.monotonic() - began < 20, "it drains at once: it took 26 s"


def test_it_says_that_it_keeps_no_results(at: str) -> None:
    with Client(at, timeout=LIMIT) as client:
        handle = client.do_background("held")
        for _ in range(2):
            with pytest.raises(ResultsUnsupported, match=f"{at} cannot be asked for results"):
                client.result(handle)
        assert client.status(handle).known


def test_what_the_server_said_is_said_once(
    at: str, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearman_py.worker.session._logged_refusals", {})
    worker = Worker(at, concurrency=3)
    worker.add_function("f", lambda job: None)
    with caplog.at_level(logging.WARNING), running(worker):
        pass
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "does not know GRAB_JOB_UNIQ (server_error: Can't locate object method" in said[0]
    assert said[0].endswith("); GRAB_JOB is used")
