"""Hooks and context managers around jobs, and what happens to a job when one of them fails."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client, JobException, Outcome, Requeue, TimeLimit, Worker, WorkerJob
from gearman_py.testing import Server, running
from tests.waiting import await_true
from tests.worker.kinds import serve


@pytest.fixture
def worker(gearman_server: Server, kind: str) -> Worker:
    return Worker(gearman_server.address, processes=1 if kind == "process" else 0)


def fail(job: WorkerJob) -> None:
    raise ValueError("I would rather not")


def test_an_error_that_is_swallowed_around_the_job_fails_it(
    worker: Worker, kind: str, gearman_client: Client
) -> None:
    serve(worker, kind, fail)

    @worker.around
    @contextmanager
    def swallow(job: WorkerJob) -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass

    with running(worker), pytest.raises(JobException, match="ValueError: I would rather not"):
        gearman_client.do("f")


def outcomes(worker: Worker, *, awaited: bool = False) -> list[tuple[str, str, int]]:
    heard: list[tuple[str, str, int]] = []

    if awaited:

        @worker.on_outcome
        async def hear_async(job: WorkerJob, outcome: Outcome) -> None:
            await asyncio.sleep(0)
            heard.append((outcome.how, outcome.why, os.getpid()))
    else:

        @worker.on_outcome
        def hear(job: WorkerJob, outcome: Outcome) -> None:
            assert outcome.seconds >= 0
            heard.append((outcome.how, outcome.why, os.getpid()))

    return heard


@pytest.mark.slow
@pytest.mark.parametrize("awaited", [False, True])
def test_every_outcome_is_heard_in_the_workers_own_process(
    worker: Worker, kind: str, gearman_client: Client, tmp_path: Path, awaited: bool
) -> None:
    def do(job: WorkerJob) -> str:
        if job.workload == b"fail":
            job.fail("card was declined")
        if job.workload == b"raise":
            raise ValueError("no")
        if job.workload == b"requeue" and not (tmp_path / "seen").exists():
            (tmp_path / "seen").touch()
            raise Requeue("not now")
        return "done"

    serve(worker, kind, do)
    heard = outcomes(worker, awaited=awaited)
    with running(worker):
        for workload in ("well", "fail", "raise", "requeue"):
            gearman_client.submit("f", workload).exception()
    assert heard == [
        (how, why, os.getpid())
        for how, why in (
            ("complete", ""),
            ("failed", "card was declined"),
            ("failed", "ValueError: no"),
            ("given back", ""),
            ("complete", ""),
        )
    ]


def test_jobs_that_cannot_speak_for_themselves_are_heard_of(
    gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address, exceptions=False)
    heard = outcomes(worker)
    worker.add_function("slow", lambda job: time.sleep(60), timeout=0.2)
    worker.add_function("die", lambda job: os.kill(os.getpid(), signal.SIGKILL), timeout=60)

    @worker.function("slow-async", timeout=0.2)
    async def slow(job: WorkerJob) -> None:
        await asyncio.sleep(60)

    with running(worker):
        for function in ("slow", "die", "slow-async"):
            gearman_client.submit(function).exception()
    assert [why for _, why, _ in heard] == [
        "TimeLimit: it took longer than 0.2 s",
        "WorkerDied: the worker process died: killed by SIGKILL",
        "TimeLimit: it took longer than 0.2 s",
    ]


def test_a_hook_that_fails_changes_nothing(
    worker: Worker, kind: str, gearman_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    serve(worker, kind, lambda job: b"done")

    @worker.on_outcome
    def refuse(job: WorkerJob, outcome: Outcome) -> None:
        raise OSError("no Sentry")

    with running(worker):
        assert gearman_client.do("f") == gearman_client.do("f") == b"done"
    assert "an on_outcome function failed" in caplog.text


def test_an_error_that_cannot_be_shown_fails_its_job_alone(
    worker: Worker, kind: str, gearman_client: Client
) -> None:
    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def hide(job: WorkerJob) -> None:
        raise Shy

    serve(worker, kind, hide)
    with running(worker):
        for _ in range(2):
            with pytest.raises(JobException, match="Shy"):
                gearman_client.do("f")


def test_a_task_that_is_cancelled_inside_a_function_is_its_own(
    gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address)

    @worker.function("f")
    async def cancel(job: WorkerJob) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    with running(worker):
        for _ in range(2):
            with pytest.raises(JobException, match="CancelledError"):
                gearman_client.do("f")


def test_async_hooks_share_the_event_loop_of_async_functions(
    gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address)
    said: list[object] = []

    @worker.on_startup
    async def up() -> None:
        said.append(asyncio.get_running_loop())

    @worker.on_shutdown
    async def down() -> None:
        said.append(asyncio.get_running_loop())

    @worker.around
    @asynccontextmanager
    async def around(job: WorkerJob) -> AsyncIterator[None]:
        said.append("before")
        yield
        said.append("after")

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        said.append(asyncio.get_running_loop())

    with running(worker):
        gearman_client.do("f")
    loop = said[0]
    assert said == [loop, "before", loop, "after", loop]


@pytest.mark.parametrize("processes", [0, 1])
def test_async_hooks_run_beside_plain_functions(
    gearman_server: Server, gearman_client: Client, processes: int, tmp_path: Path
) -> None:
    worker = Worker(gearman_server.address, processes=processes)

    @worker.on_startup
    async def up() -> None:
        await asyncio.sleep(0)
        (tmp_path / "up").write_text(str(os.getpid()))

    @worker.on_shutdown
    async def down() -> None:
        (tmp_path / "down").write_text(str(os.getpid()))

    worker.add_function("f", lambda job: (tmp_path / "up").read_text() + f" {os.getpid()}")
    with running(worker):
        started, here = gearman_client.do("f").split()
    assert started == here
    assert (tmp_path / "down").read_bytes() == here


def test_a_soft_limit_lets_a_function_end_by_itself(
    gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address)

    @worker.function("tidy", timeout=60, soft_timeout=0.2, retries=3)
    def tidy(job: WorkerJob) -> str:
        try:
            time.sleep(60)
        except TimeLimit:
            return "half of it"
        return "all"

    @worker.function("cut", timeout=60, soft_timeout=0.2, retries=3)
    def cut(job: WorkerJob) -> None:
        try:
            time.sleep(60)
        finally:
            job.send_data("tidied")

    @worker.function("cut-async", timeout=60, soft_timeout=0.2, retries=3)
    async def cut_async(job: WorkerJob) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            job.send_data("tidied")

    @worker.function("stubborn", timeout=0.5, soft_timeout=0.1)
    def stubborn(job: WorkerJob) -> None:
        while True:
            try:
                time.sleep(60)
            except TimeLimit:
                pass

    with running(worker):
        assert gearman_client.do("tidy") == b"half of it"
        for function in ("cut", "cut-async"):
            job = gearman_client.submit(function)
            with pytest.raises(JobException, match=r"TimeLimit: it took longer than 0\.2 s"):
                job.result()
            assert job.data == [b"tidied"]
        with pytest.raises(JobException, match=r"TimeLimit: it took longer than 0\.5 s"):
            gearman_client.do("stubborn")


def test_job_that_a_client_waits_for_is_given_back_between_attempts_when_the_worker_drains(
    worker: Worker, kind: str, gearman_server: Server, gearman_client: Client, tmp_path: Path
) -> None:
    def again(job: WorkerJob) -> None:
        with (tmp_path / "attempts").open("a") as file:
            file.write("attempt\n")
        raise OSError

    serve(worker, kind, again, retries=5, backoff=60)
    heard = outcomes(worker)
    with running(worker):
        gearman_client.submit("f")
        await_true((tmp_path / "attempts").exists)
    assert [how for how, _, _ in heard] == ["given back"]
    gearman_server.wait_for("f", waiting=1, running=0)
    assert (tmp_path / "attempts").read_text() == "attempt\n"


def test_log_records_carry_their_job(
    gearman_server: Server, gearman_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(gearman_server.address)
    worker.add_function("f", fail)
    with running(worker):
        job = gearman_client.submit("f", unique="key")
        job.exception()
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    facts = vars(record)
    assert (facts["function"], facts["handle"], facts["unique"]) == ("f", job.handle, "key")


@pytest.mark.parametrize("awaited", [False, True])
def test_a_hook_that_exits_ends_no_slot(
    worker: Worker, kind: str, gearman_client: Client, awaited: bool
) -> None:
    serve(worker, kind, lambda job: b"done")

    def leave(job: WorkerJob, outcome: Outcome) -> None:
        sys.exit(3)

    async def leave_async(job: WorkerJob, outcome: Outcome) -> None:
        leave(job, outcome)

    async def wait_for_a_cancelled_task(job: WorkerJob, outcome: Outcome) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    worker.on_outcome(leave_async if awaited else leave)
    worker.on_outcome(wait_for_a_cancelled_task)
    with running(worker):
        assert gearman_client.do("f") == gearman_client.do("f") == b"done"


def test_a_hook_that_fails_at_the_end_keeps_no_other_from_its_turn(
    worker: Worker, kind: str, gearman_client: Client, tmp_path: Path
) -> None:
    serve(worker, kind, lambda job: b"done")

    @worker.on_shutdown
    def refuse() -> None:
        raise OSError("no database")

    @worker.on_shutdown
    async def refuse_async() -> None:
        raise OSError("no database")

    @worker.on_shutdown
    def close() -> None:
        (tmp_path / "closed").touch()

    with running(worker):
        gearman_client.do("f")
    assert (tmp_path / "closed").exists()


def test_a_context_manager_of_both_kinds_is_around_any_function(
    worker: Worker, kind: str, gearman_client: Client
) -> None:
    serve(worker, kind, lambda job: b"done")
    worker.around(lambda job: nullcontext())
    with running(worker):
        assert gearman_client.do("f") == b"done"


def test_a_serializer_may_make_text(gearman_server: Server, gearman_client: Client) -> None:
    text: Any = json
    for processes in (0, 1):
        worker = Worker(gearman_server.address, serializer=text, processes=processes)
        worker.add_function("f", lambda job: {"a": 1})
        with running(worker):
            assert gearman_client.do("f") == b'{"a": 1}'


def test_a_soft_limit_leaves_whole_messages(gearman_server: Server, gearman_client: Client) -> None:
    worker = Worker(gearman_server.address)

    @worker.function("flood", timeout=60, soft_timeout=0.3)
    def flood(job: WorkerJob) -> str:
        sent = 0
        try:
            while True:
                sent += 1
                job.send_data(b"%d " % sent + bytes(8_000_000))
        except TimeLimit:
            return str(sent)

    numbers: list[int] = []
    sizes: set[int] = set()

    def take(data: bytes) -> None:
        number, _, rest = data.partition(b" ")
        numbers.append(int(number))
        sizes.add(len(rest))

    def some_arrive() -> bool:
        """On a busy machine the limit may be reached before the first message, or the loop."""
        numbers.clear()
        try:
            result = int(gearman_client.do("flood", on_data=take))
        except JobException as error:
            assert "TimeLimit" in str(error)
            return False
        assert numbers in ([*range(1, result + 1)], [*range(1, result)])
        return bool(numbers)

    with running(worker):
        await_true(some_arrive)
    assert sizes == {8_000_000}
