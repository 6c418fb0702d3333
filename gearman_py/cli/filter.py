"""A command as a function: the workload is its input, its output the result. No shell.

Input, output and errors are moved at the same time, so no size of any deadlocks.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from time import sleep
from typing import IO, NoReturn, Self

from gearman_py.worker.job import Failed, WorkerJob

_PART = 2**16  # bytes of the command's errors that are passed on at a time
ERROR_TAIL = 2000  # bytes of the command's errors that a client of a failed job is shown


class Filter:
    """Runs ``argv`` for each job; without any, prints workloads. A context manager: what
    still runs at its end is killed.

    ``by_line`` sends each line of output at once, as data, and no result; ``strip`` takes
    their newlines off. A job whose output, or a line of it, is over ``limit`` bytes fails as
    soon as that much has come. Raises FileNotFoundError when there is no such command.
    """

    def __init__(self, argv: Sequence[str], *, by_line: bool, strip: bool, limit: int) -> None:
        if argv and shutil.which(argv[0]) is None:
            raise FileNotFoundError(f"there is no command {argv[0]!r}")
        self._argv = argv
        self._by_line, self._strip, self._limit = by_line, strip, limit
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs = 0
        self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def __call__(self, job: WorkerJob) -> bytes:
        """Do a job. It fails when the command does not end with status 0."""
        self._jobs, self._busy = self._jobs + 1, True
        try:
            return self._run(job) if self._argv else _print(job.workload)
        finally:
            self._busy = False

    def leave_when_idle(self, rounds: int, seconds: float) -> None:
        """As in the C tool ``seconds`` without a job are a round too: after ``rounds``, drain."""
        Thread(target=self._count_idle, args=(rounds, seconds), daemon=True).start()

    def _count_idle(self, rounds: int, seconds: float) -> None:
        idle = before = 0
        while self._jobs + idle < rounds:
            sleep(seconds)
            idle += not self._busy and self._jobs == before
            before = self._jobs
        if idle:  # else it drains by itself, and a signal would be the second
            os.kill(os.getpid(), signal.SIGTERM)

    def _run(self, job: WorkerJob) -> bytes:
        pipe = subprocess.PIPE
        try:
            # Its own process group: ^C is for the worker, which lets the command finish.
            process = subprocess.Popen(
                self._argv, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0
            )
        except OSError as error:
            fail(f"{self._argv[0]}: {error.strerror}")
        self._process = process
        assert process.stdin and process.stdout and process.stderr  # noqa: S101  for mypy
        errors = bytearray()
        pumps = [
            Thread(target=_feed, args=(process.stdin, job.workload), daemon=True),
            Thread(target=_relay, args=(process.stderr, errors), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        try:
            result = self._collect(job, process.stdout)
        except BaseException:  # nobody takes its output: it must not wait for that
            self._kill()
            raise
        finally:
            for pump in pumps:
                pump.join()
            process.stdout.close()
            process.wait()
        if process.returncode:
            if result:
                job.send_data(result)
            if errors:
                job.send_warning(bytes(errors))
            fail(f"{self._argv[0]}: {describe_exit(process.returncode)}")
        return result

    def _collect(self, job: WorkerJob, output: IO[bytes]) -> bytes:
        if not self._by_line:
            return self._bounded(output.read(self._limit + 1))
        while line := self._bounded(output.readline(self._limit + 1)):
            job.send_data(line.removesuffix(b"\n") if self._strip else line)
        return b""

    def _bounded(self, output: bytes) -> bytes:
        if len(output) > self._limit:
            fail(f"{self._argv[0]}: its output is over the limit of {self._limit} bytes")
        return output

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _print(workload: bytes) -> bytes:
    sys.stdout.buffer.write(workload)
    sys.stdout.flush()
    return b""


def _feed(stdin: IO[bytes], workload: bytes) -> None:
    with suppress(BrokenPipeError):  # it may know enough before it has read all
        stdin.write(workload)
    with suppress(BrokenPipeError):
        stdin.close()


def _relay(stderr: IO[bytes], tail: bytearray) -> None:
    """Show the command's errors here, and keep the last of them."""
    with stderr:
        while part := os.read(stderr.fileno(), _PART):
            with suppress(OSError):  # whoever read ours has gone; the command goes on
                sys.stderr.buffer.write(part)
                sys.stderr.flush()
            tail += part[-ERROR_TAIL:]
            del tail[:-ERROR_TAIL]


def fail(why: str) -> NoReturn:
    """End the job; its client is told why."""
    raise Failed(f"{why}\n")


def describe_exit(status: int) -> str:
    """How a process ended, by its return code."""
    if status > 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
