"""What functions may do, wherever they run (thread, process, event loop), on both job servers."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gearman_py import AdminClient, Client, JobException, JobFailed, Requeue, Worker, WorkerJob
from gearman_py.serializer import JSON
from gearman_py.testing import Server, job, running, server
from gearman_py.worker.function_spec import FunctionOptions
from tests.job_servers import C_GEARMAND, JobServer, running_server
from tests.waiting import LIMIT, await_true
from tests.worker.kinds import serve


class Jobs(NamedTuple):
    """Where a job server is."""

    address: str


@pytest.fixture(scope="module", params=["ours", pytest.param("C", marks=pytest.mark.interop)])
def jobs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Jobs]:
    if request.param == "ours":
        with server() as here:
            yield Jobs(here.address)
    elif not Path(*C_GEARMAND).exists():
        pytest.skip("needs Debian's gearman-job-server")
    else:
        folder = tmp_path_factory.mktemp("c-gearmand")
        with running_server(C_GEARMAND, folder) as (host, port):
            yield Jobs(f"{host}:{port}")


@pytest.fixture
def worker(jobs: Jobs, kind: str) -> Worker:
    return Worker(jobs.address, processes=1 if kind == "process" else 0)


def test_a_function_has_the_job(jobs: Jobs, worker: Worker, kind: str) -> None:
    def tell(job: WorkerJob) -> str:
        return f"{job.function} {job.unique} {job.handle} {job.server} {job.attempt}"

    serve(worker, kind, tell)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        submitted = client.submit("f", unique="key")
        expected = f"f key {submitted.handle} {jobs.address} 1"
        assert submitted.result().decode() == expected


def test_a_job_for_this_very_worker_runs_the_same_function(
    jobs: Jobs, worker: Worker, kind: str
) -> None:
    serve(worker, kind, lambda job: f"{job.function} here")
    worker.configure(address="host-1")
    other = Worker(jobs.address, address="host-2")
    other.add_function("f", lambda job: "elsewhere")
    with running(worker), running(other), Client(jobs.address, timeout=LIMIT) as client:
        for _ in range(3):
            assert client.do("f@host-1") == b"f here"


def test_what_it_sends_comes_in_order(jobs: Jobs, worker: Worker, kind: str) -> None:
    def talk(job: WorkerJob) -> str:
        job.send_data("one")
        job.send_warning("beware")
        job.send_status(1, 2)
        job.send_data(b"two")
        return "three"

    serve(worker, kind, talk)
    heard: list[object] = []
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        submitted = client.submit(
            "f",
            on_data=heard.append,
            on_warning=heard.append,
            on_status=lambda *status: heard.append(status),
        )
        assert submitted.result() == b"three"
    assert heard == [b"one", b"beware", (1, 2), b"two"]


def test_an_exception_reaches_the_client_as_one_line(jobs: Jobs, worker: Worker, kind: str) -> None:
    def refuse(job: WorkerJob) -> None:
        raise ValueError("I would\nrather not")

    serve(worker, kind, refuse)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        with pytest.raises(JobException) as caught:
            client.do("f")
        assert caught.value.text == "ValueError: I would rather not"


def test_a_job_that_fails_tells_why(jobs: Jobs, worker: Worker, kind: str) -> None:
    serve(worker, kind, lambda job: job.fail(job.workload.decode() or None))
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        with pytest.raises(JobFailed, match="f failed: card was declined") as caught:
            client.do("f", "card was declined")
        assert isinstance(caught.value, JobException)
        assert caught.value.text == "card was declined"
        with pytest.raises(JobFailed) as caught:
            client.do("f")
        assert type(caught.value) is JobFailed


def test_an_exit_fails_the_job_and_not_the_worker(jobs: Jobs, worker: Worker, kind: str) -> None:
    def leave(job: WorkerJob) -> None:
        raise SystemExit(3)

    serve(worker, kind, leave)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        for _ in range(2):
            with pytest.raises(JobException, match="SystemExit: 3"):
                client.do("f")


def test_failures_without_exceptions_are_a_warning_and_a_fail(jobs: Jobs) -> None:
    worker = Worker(jobs.address, exceptions=False)
    worker.add_function("f", lambda job: 1 / 0)
    warnings: list[bytes] = []
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        with pytest.raises(JobFailed) as caught:
            client.do("f", on_warning=warnings.append)
        assert type(caught.value) is JobFailed
    assert warnings == [b"ZeroDivisionError: division by zero"]


def test_it_is_tried_again_as_often_as_was_said(jobs: Jobs, worker: Worker, kind: str) -> None:
    def third_time(job: WorkerJob) -> str:
        if job.attempt < 3:
            raise OSError(f"attempt {job.attempt}")
        return f"attempt {job.attempt}"

    serve(worker, kind, third_time, retries=2, backoff=0.01)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        assert client.do("f") == b"attempt 3"


def attempts_noted(folder: Path) -> list[str]:
    noted = folder / "attempts"
    return noted.read_text().split() if noted.exists() else []


def postponing(worker: Worker, kind: str, way: str, pause: float, folder: Path) -> Worker:
    """A worker whose function puts its job off twice, and notes the attempts."""

    def third_time(job: WorkerJob) -> None:
        if job.workload:
            return
        with (folder / "attempts").open("a") as file:
            file.write(f"{job.attempt}\n")
        if job.attempt < 3:
            raise OSError("not yet") if way == "retries" else Requeue("not yet", delay=pause)

    serve(worker, kind, third_time, retries=2 if way == "retries" else 0, backoff=pause)
    return worker


@pytest.mark.parametrize("way", ["retries", "Requeue"])
def test_background_job_waits_for_its_next_attempt_at_the_server(
    kind: str, way: str, tmp_path: Path
) -> None:
    """Another job can run meanwhile, and the worker need not wait with it when it ends."""
    with server() as jobs, Client(jobs.address, timeout=LIMIT) as client:
        worker = Worker(jobs.address, processes=1 if kind == "process" else 0)
        with running(postponing(worker, kind, way, 3600, tmp_path)):
            client.do_background("f")
            jobs.wait_for("f", waiting=1, running=0)
            await_true(lambda: attempts_noted(tmp_path) == ["1"])
            assert client.do("f", "beside") == b""
        jobs.wait_for("f", waiting=1, running=0, workers=0)


@pytest.mark.parametrize(("delay", "why"), [(0.0, "no luck"), (0.001, "no luck"), (0.0, "")])
def test_a_job_that_is_given_back_for_the_last_time_fails_for_its_reason(
    gearmand: JobServer, kind: str, delay: float, why: str
) -> None:
    gearmand.stop()
    gearmand.start("--job-retries", "1")

    def give_back(job: WorkerJob) -> None:
        raise Requeue(why, delay=delay)

    worker = Worker(gearmand.address, processes=1 if kind == "process" else 0)
    serve(worker, kind, give_back)
    with AdminClient(gearmand.address) as admin:
        with running(worker), Client(gearmand.address, timeout=LIMIT) as client:
            client.do_background("f")
            await_true(lambda: admin.find_jobs("failed"))
        (failed,) = admin.find_jobs("failed")
        assert (failed.reason, failed.attempts) == (why or "its worker gave it back", 1)


@pytest.mark.parametrize("way", ["retries", "Requeue"])
def test_attempts_are_counted_with_the_job(kind: str, way: str, tmp_path: Path) -> None:
    with server() as jobs, Client(jobs.address, timeout=LIMIT) as client:
        workers = [Worker(jobs.address, processes=int(kind == "process")) for _ in range(2)]
        one, two = (postponing(worker, kind, way, 0.05, tmp_path) for worker in workers)
        with running(one), running(two):
            client.do_background("f")
            await_true(lambda: attempts_noted(tmp_path) == ["1", "2", "3"])
            jobs.wait_for("f", waiting=0, running=0)


def test_background_job_is_tried_again_where_the_server_counts_no_attempts(
    jobs: Jobs, worker: Worker, kind: str, tmp_path: Path
) -> None:
    def third_time(job: WorkerJob) -> None:
        with (tmp_path / "attempts").open("a") as file:
            file.write(f"{job.attempt}\n")
        if job.attempt < 3:
            raise OSError("not yet")

    serve(worker, kind, third_time, retries=2, backoff=0.01)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        client.do_background("f")
        await_true(lambda: attempts_noted(tmp_path) == ["1", "2", "3"])


@pytest.mark.parametrize("delay", [-1, float("nan"), True, "1"])
def test_delay_that_is_none_is_refused(delay: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="delay is"):
        Requeue("later", delay=delay)


def test_only_the_errors_named_are_tried_again(jobs: Jobs, worker: Worker, kind: str) -> None:
    def fail(job: WorkerJob) -> None:
        raise ValueError(f"attempt {job.attempt}")

    serve(worker, kind, fail, retries=2, retry_on=(OSError,), backoff=0.01)
    with (
        running(worker),
        Client(jobs.address, timeout=LIMIT) as client,
        pytest.raises(JobException, match="attempt 1"),
    ):
        client.do("f")


def test_the_last_attempt_counts(jobs: Jobs, worker: Worker, kind: str) -> None:
    def fail(job: WorkerJob) -> None:
        raise ValueError(f"attempt {job.attempt}")

    serve(worker, kind, fail, retries=1, backoff=0.01)
    with (
        running(worker),
        Client(jobs.address, timeout=LIMIT) as client,
        pytest.raises(JobException, match="attempt 2"),
    ):
        client.do("f")


@pytest.mark.slow
def test_a_job_given_back_is_run_again(
    jobs: Jobs, worker: Worker, kind: str, tmp_path: Path
) -> None:
    mark = tmp_path / "seen"

    def second_time(job: WorkerJob) -> str:
        if not mark.exists():
            mark.touch()
            raise Requeue("not now")
        return job.handle

    serve(worker, kind, second_time)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        submitted = client.submit("f")
        assert submitted.result().decode() == submitted.handle


@pytest.mark.parametrize("processes", [0, 1])
def test_parts_that_are_yielded_are_sent_at_once(jobs: Jobs, processes: int) -> None:
    worker = Worker(jobs.address, processes=processes)

    @worker.function("letters", workload=True)
    def letters(workload: bytes) -> Any:
        yield from workload.decode()
        return "end"

    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        submitted = client.submit("letters", "abc")
        assert submitted.result() == b"end"
        assert submitted.data == [b"a", b"b", b"c"]


def test_an_async_generator_yields_parts(jobs: Jobs) -> None:
    worker = Worker(jobs.address)

    @worker.function("letters", workload=True)
    async def letters(workload: bytes) -> AsyncIterator[str]:
        for letter in workload.decode():
            await asyncio.sleep(0)
            yield letter

    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        submitted = client.submit("letters", "abc")
        assert submitted.result() == b""
        assert submitted.data == [b"a", b"b", b"c"]


@pytest.mark.parametrize("processes", [0, 2])
def test_a_plain_function_over_its_limit_is_stopped(
    jobs: Jobs, processes: int, tmp_path: Path
) -> None:
    worker = Worker(jobs.address, processes=processes)

    @worker.function("slow", timeout=0.3)
    def slow(job: WorkerJob) -> None:
        Path(job.workload.decode()).write_text(str(os.getpid()))
        time.sleep(60)

    pid = tmp_path / "pid"
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        with pytest.raises(JobException, match=r"TimeLimit: it took longer than 0\.3 s"):
            client.do("slow", str(pid))
        assert int(pid.read_text()) != os.getpid()
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
        with pytest.raises(JobException, match="TimeLimit"):
            client.do("slow", str(pid))


def test_an_async_function_over_its_limit_is_cancelled(jobs: Jobs) -> None:
    worker = Worker(jobs.address)
    cancelled = threading.Event()

    @worker.function("slow", timeout=0.1)
    async def slow(job: WorkerJob) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with (
        running(worker),
        Client(jobs.address, timeout=LIMIT) as client,
        pytest.raises(JobException, match=r"TimeLimit: it took longer than 0\.1 s"),
    ):
        client.do("slow")
    assert cancelled.is_set()


@pytest.mark.parametrize("own", [{"timeout": 50}, {"timeout": 50, "soft_timeout": 40}, {}])
@pytest.mark.parametrize("processes", [0, 1])
def test_who_runs_a_worker_limits_the_time_of_its_functions(
    jobs: Jobs, own: FunctionOptions, processes: int
) -> None:
    worker = Worker(jobs.address, processes=processes)

    @worker.function("slow", **own)
    def slow(job: WorkerJob) -> None:
        time.sleep(60)

    @worker.function("short", timeout=0.2)
    async def short(job: WorkerJob) -> None:
        await asyncio.sleep(60)

    worker.configure(timeout=0.4)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        with pytest.raises(JobException, match=r"TimeLimit: it took longer than 0\.4 s"):
            client.do("slow")
        with pytest.raises(JobException, match=r"TimeLimit: it took longer than 0\.2 s"):
            client.do("short")


def test_a_timeout_raised_by_the_function_is_not_its_time_limit(jobs: Jobs) -> None:
    worker = Worker(jobs.address)

    @worker.function("late", timeout=30)
    async def late(job: WorkerJob) -> None:
        raise TimeoutError("mine")

    with (
        running(worker),
        Client(jobs.address, timeout=LIMIT) as client,
        pytest.raises(JobException, match="TimeoutError: mine"),
    ):
        client.do("late")


def test_a_process_that_dies_fails_its_job_and_is_replaced(jobs: Jobs) -> None:
    worker = Worker(jobs.address, processes=1)

    @worker.function("die")
    def die(job: WorkerJob) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @worker.function("live")
    def live(job: WorkerJob) -> str:
        return str(os.getpid())

    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        before = client.do("live")
        with pytest.raises(JobException, match=r"WorkerDied: .* killed by SIGKILL"):
            client.do("die")
        assert client.do("live") not in (before, b"")


@pytest.mark.slow
def test_a_function_that_will_not_stop_is_killed(jobs: Jobs) -> None:
    worker = Worker(jobs.address, processes=1)

    @worker.function("stubborn", timeout=0.1)
    def stubborn(job: WorkerJob) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            job.send_data("still here")
            time.sleep(0.01)

    with (
        running(worker),
        Client(jobs.address, timeout=LIMIT) as client,
        pytest.raises(JobException, match="TimeLimit"),
    ):
        client.do("stubborn")


def test_a_worker_whose_processes_cannot_start_says_so(jobs: Jobs, caplog: Any) -> None:
    worker = Worker(jobs.address, processes=1)
    worker.add_function("f", lambda job: None)

    @worker.on_startup
    def refuse() -> None:
        raise OSError("no database")

    assert worker.run() == 1
    assert "a worker process could not start: exit status 1" in caplog.text


def test_a_process_is_replaced_after_so_many_jobs(jobs: Jobs) -> None:
    worker = Worker(jobs.address, processes=1, max_jobs_per_child=2)
    worker.add_function("pid", lambda job: str(os.getpid()))
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        one, two, three, four = (client.do("pid") for _ in range(4))
    assert one == two != three == four


def test_a_process_that_holds_too_much_is_replaced(jobs: Jobs) -> None:
    here = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    worker = Worker(jobs.address, processes=1, max_memory_per_child=here + 200 * 2**20)
    kept: list[bytearray] = []

    @worker.function("grow", workload=True)
    def grow(workload: bytes) -> str:
        kept.append(bytearray(b"x") * int(workload))
        return str(os.getpid())

    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        small = client.do("grow", "1000")
        assert client.do("grow", "300000000") == small
        assert client.do("grow", "1000") != small


def test_processes_run_at_the_same_time(jobs: Jobs, tmp_path: Path) -> None:
    worker = Worker(jobs.address, processes=3)

    @worker.function("meet")
    def meet(job: WorkerJob) -> str:
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.005)
        return str(os.getpid())

    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        started = [client.submit("meet") for _ in range(3)]
        assert len({one.result() for one in started}) == 3


@pytest.mark.parametrize("awaited", [False, True])
def test_so_many_jobs_run_at_a_time(jobs: Jobs, awaited: bool) -> None:
    worker = Worker(jobs.address, concurrency=3)
    barrier = threading.Barrier(3)
    everyone = asyncio.Event()
    inside = 0

    async def meet_async(job: WorkerJob) -> None:
        nonlocal inside
        inside += 1
        if inside == 3:
            everyone.set()
        await everyone.wait()

    def meet(job: WorkerJob) -> None:
        barrier.wait(30)

    worker.add_function("meet", meet_async if awaited else meet)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        for one in [client.submit("meet") for _ in range(3)]:
            assert one.result() == b""


def test_a_function_starts_and_ends_within_its_hooks(
    jobs: Jobs, worker: Worker, kind: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def note(line: str) -> None:
        with log.open("a") as file:
            file.write(f"{line} {os.getpid()}\n")

    worker.on_startup(lambda: note("up"))
    worker.on_shutdown(lambda: note("down"))

    @worker.around
    @contextmanager
    def around(job: WorkerJob) -> Iterator[None]:
        note(f"before {job.function}")
        yield
        note(f"after {job.function}")

    serve(worker, kind, lambda job: note("in"))
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        client.do("f")
    words, pids = zip(*(line.rsplit(" ", 1) for line in log.read_text().splitlines()), strict=True)
    assert words == ("up", "before f", "in", "after f", "down")
    assert len(set(pids)) == 1
    assert (int(pids[0]) == os.getpid()) == (kind != "process")


def test_a_serializer_makes_values_of_workloads(jobs: Jobs, kind: str) -> None:
    worker = Worker(jobs.address, serializer=JSON, processes=1 if kind == "process" else 0)
    serve(worker, kind, lambda value: {"sum": sum(value)}, workload=True)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        assert client.do("f", "[1, 2, 3]") == b'{"sum":6}'
        with pytest.raises(JobException, match="JSONDecodeError"):
            client.do("f", "{")


def test_a_prefix_is_for_the_wire_alone(jobs: Jobs) -> None:
    worker = Worker(jobs.address, prefix="staging.")
    worker.add_function("f", lambda job: job.function)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        assert client.do("staging.f") == b"f"


def test_workloads_may_be_large(jobs: Jobs, worker: Worker, kind: str) -> None:
    serve(worker, kind, lambda job: job.workload)
    with running(worker), Client(jobs.address, timeout=LIMIT) as client:
        big = os.urandom(3_000_000)
        assert client.do("f", big) == big


def test_the_server_takes_a_job_away_that_is_over_its_limit(
    jobs: Jobs, tmp_path: Path, until: Any
) -> None:
    mark, done = tmp_path / "seen", tmp_path / "done"
    workers = [Worker(jobs.address) for _ in range(2)]

    def slow_at_first(job: WorkerJob) -> str:
        if mark.exists():
            done.touch()
            return "second"
        mark.touch()
        until(done.exists)
        return "first"

    for worker in workers:
        worker.add_function("stolen", slow_at_first, server_timeout=1)
        worker.add_function("nudge", lambda job: b"")
    with (
        running(workers[0]),
        running(workers[1]),
        Client(jobs.address, timeout=LIMIT) as client,
    ):
        job = client.submit("stolen")

        def is_done() -> bool:
            # C gearmand may leave the other worker asleep. Low: it must not keep it from the job.
            client.do_low_background("nudge")
            return job.done()

        until(is_done)
        assert job.result() == b"second"


def test_work_does_what_there_is_and_returns(jobs: Jobs) -> None:
    worker = Worker(jobs.address)
    worker.add_function("burst", lambda job: job.workload)
    with Client(jobs.address) as client:
        for _ in range(5):
            client.do_background("burst")
    assert worker.work(limit=2) == 2
    assert worker.work() == 3
    assert worker.work() == 0
    assert worker.work(timeout=0.05) == 0


def test_a_function_is_tested_without_a_server() -> None:
    def shout(job: WorkerJob) -> str:
        job.send_status(1, 1)
        return job.workload.decode().upper()

    recorded = job("hello")
    assert shout(recorded) == "HELLO"
    assert recorded.status == (1, 1)


def test_fixtures_are_there_for_pytest(gearman_server: Server, gearman_client: Client) -> None:
    worker = Worker(gearman_server.address)
    worker.add_function("reverse", lambda workload: workload[::-1], workload=True)
    with running(worker):
        assert gearman_client.do("reverse", "abc") == b"cba"


def test_a_function_that_the_server_refuses_is_told_of_and_the_others_are_served(
    gearman_server: Server, gearman_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(gearman_server.address, address="here")
    worker.add_function("f" * 8192, lambda job: None)  # and with @here, which is too long

    @worker.function("f")
    def speak(job: WorkerJob) -> str:
        job.send_data("one")
        return "two"

    with running(worker):
        job = gearman_client.submit("f")
        assert job.result() == b"two"
        assert job.data == [b"one"], "data and warnings are what other servers lack"
    assert "refused the registration of this worker: ARGUMENT_TOO_LARGE" in caplog.text
