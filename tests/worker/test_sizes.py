"""Jobs and results over the limit of a packet fail their own job, and touch nothing else."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client, DataTooLarge, JobException, JobFailed, Requeue, Worker, WorkerJob
from gearman_py.testing import job, running
from gearman_py.testing import server as job_server

pytestmark = pytest.mark.slow

LIMIT = 100_000
OVER = b"x" * (LIMIT + 1)
TOO_LARGE = rf"ResultTooLarge: a packet of \d+ bytes is over the limit of {LIMIT}"


@pytest.fixture(params=["thread", "process", "timeout", "async"])
def worker(request: pytest.FixtureRequest) -> Any:
    """A worker with functions of one kind, and its job server."""
    kind = request.param
    with job_server() as jobs:
        worker = Worker(
            jobs.address,
            processes=1 if kind == "process" else 0,
            timeout=60 if kind == "timeout" else None,
            max_packet=LIMIT,
        )

        def give(job: WorkerJob) -> bytes:
            return b"x" * int(job.workload)

        def send(job: WorkerJob) -> None:
            job.send_data(b"x" * int(job.workload))

        def warn(job: WorkerJob) -> None:
            job.send_warning(b"x" * int(job.workload))

        def parts(job: WorkerJob) -> Any:
            yield b"x" * int(job.workload)

        async def parts_async(job: WorkerJob) -> AsyncIterator[bytes]:
            yield b"x" * int(job.workload)

        for function in (give, send, warn):
            if kind == "async":
                worker.add_function(function.__name__, _as_async(function), retries=3)
            else:
                worker.add_function(function.__name__, function, retries=3)
        worker.add_function("parts", parts_async if kind == "async" else parts, retries=3)
        with running(worker):
            yield jobs


def test_long_texts_of_errors_are_cut_in_the_log_and_for_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def raise_long(_: WorkerJob) -> bytes:
        try:
            raise KeyError("k" * 1_000_000)
        except KeyError as error:
            raise ValueError("e" * 1_000_000) from error

    def fail_long(job: WorkerJob) -> bytes:
        job.fail("f" * 1_000_000)

    def requeue_once(job: WorkerJob) -> bytes:
        if not requeued:
            requeued.append(job)
            raise Requeue("r" * 1_000_000)
        return b""

    requeued: list[WorkerJob] = []
    with job_server() as jobs, Client(jobs.address, timeout=60) as client:
        worker = Worker(jobs.address)
        for function in (raise_long, fail_long, requeue_once):
            worker.add_function(function.__name__, function)
        with running(worker):
            with pytest.raises(JobException) as raised:
                client.do("raise_long")
            assert raised.value.text == "ValueError: " + "e" * 500
            with pytest.raises(JobException) as raised:
                client.do("fail_long")
            assert raised.value.text == "f" * 512
            client.do("requeue_once")
    assert "characters left out" in caplog.text
    assert "raise_long" in caplog.text, "the traceback is there"
    assert len(caplog.text) < 60_000


def test_message_of_an_error_is_harmless_and_not_endless() -> None:
    text = "\x1b[31mred" + "x" * 1_000_000
    error = JobException(FakeJob(), text.encode())
    assert error.text == text
    assert str(error).startswith(r"f failed: \x1b[31mred")
    assert len(str(error)) < 11_000


class FakeJob:
    function = "f"
    handle = "H:1"

    def snapshot(self) -> "FakeJob":
        return self


def _as_async(function: Any) -> Any:
    async def awaited(job: WorkerJob) -> Any:
        return function(job)

    return awaited


@pytest.mark.parametrize("function", ["give", "send", "warn", "parts"])
def test_a_result_over_the_limit_fails_the_job_alone(worker: Any, function: str) -> None:
    with Client(worker.address, timeout=60) as client:
        with pytest.raises(JobException, match=TOO_LARGE):
            client.do(function, str(LIMIT))
        assert "\n" not in client.submit(function, str(LIMIT)).exception().text  # type: ignore[union-attr]  # it is one
        fits = client.submit("give", str(LIMIT - 100))
        assert len(fits.result()) == LIMIT - 100


def test_a_job_over_the_limit_fails_and_the_connection_stays(worker: Any) -> None:
    with Client(worker.address, timeout=60) as client:
        for size in (1, 1_000, 1_000_000):
            over = client.submit("give", b"0" * (LIMIT + 1024 + size))
            with pytest.raises(JobException, match=f"JobTooLarge: .* limit of {LIMIT}"):
                over.result()
        assert client.do("give", "3") == b"xxx"
        fits = b" " * (LIMIT - len("give") - 3) + b"7"
        assert client.do("give", fits) == b"x" * 7


@pytest.mark.slow
def test_a_process_takes_what_is_as_large_as_the_limit(gearmand: Any) -> None:
    worker = Worker(gearmand.address, processes=1)
    worker.add_function("length", lambda job: str(len(job.workload)))
    size = 64 * 2**20 - len("length") - 2
    with running(worker), Client(gearmand.address, timeout=60) as client:
        assert client.do("length", bytes(size)) == b"%d" % size


@pytest.mark.slow
@pytest.mark.parametrize("by_line", [[], ["-n"]])
def test_the_output_of_a_command_over_the_limit_fails_its_job(
    gearmand: Any, program: Any, until: Any, by_line: list[str], tmp_path: Path
) -> None:
    where = ["-h", gearmand.address, "--max-packet", str(LIMIT)]
    shell = f'read n; echo $$ > {tmp_path}/pid; exec head -c "$n" /dev/zero'
    program("gearman", *where, "-w", "-f", "zeros", *by_line, "--", "sh", "-c", shell)
    until(lambda: gearmand.workers_of("zeros") == 1)
    warnings: list[bytes] = []
    with Client(gearmand.address, timeout=60) as client:
        for size in (b"%d" % (LIMIT + 1), b"100000000000000"):
            with pytest.raises(JobFailed):
                client.do("zeros", size + b"\n", on_warning=warnings.append)
            assert b"over the limit of %d" % LIMIT in b"".join(warnings)
            warnings.clear()
            pid = (tmp_path / "pid").read_text().strip()
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
        done = client.submit("zeros", b"1000\n")
        assert len(done.result() + b"".join(done.data)) == 1000


@pytest.mark.slow
def test_a_commands_endless_errors_are_not_kept(
    gearmand: Any, program: Any, until: Any, tmp_path: Path
) -> None:
    shell = "head -c 300000000 /dev/zero >&2"
    arguments = ["-h", gearmand.address, "-w", "-f", "noisy", "--", "sh", "-c", shell]
    worker = program("gearman", *arguments, stderr=subprocess.DEVNULL)
    until(lambda: gearmand.workers_of("noisy") == 1)
    with Client(gearmand.address, timeout=60) as client:
        assert client.do("noisy") == b""
    peak = Path(f"/proc/{worker.pid}/status").read_text().split("VmHWM:")[1].split()[0]
    assert int(peak) < 150_000, "KiB"


@pytest.mark.slow
def test_a_function_alone_has_the_limit_too() -> None:
    with pytest.raises(DataTooLarge, match="over the limit of 67108864"):
        job().send_data(bytes(64 * 2**20))
