"""A command as a function: the workload is its input, its output the result. No shell is used.

Input, output and errors are copied concurrently, so that none of them can cause a deadlock.
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

from gearman_py.worker.job import FunctionFailed, WorkerJob

READ_SIZE = 2**16  # bytes of standard error
ERROR_TAIL = 2000  # bytes of standard error that the client of a failed job gets


class Filter:
    """Runs ``argv`` for each job; if it is empty, prints workloads.

    A context manager: a command that still runs at the end is killed. ``by_line`` sends each line
    of output at once, as data, and an empty result; ``strip`` removes the newlines. A job fails as
    soon as its output, or a line of it, exceeds ``limit`` bytes. Raises FileNotFoundError for an
    unknown command.
    """

    def __init__(self, argv: Sequence[str], *, by_line: bool, strip: bool, limit: int) -> None:
        if argv and shutil.which(argv[0]) is None:
            raise FileNotFoundError(f"command not found: {argv[0]!r}")
        self._argv = argv
        self._by_line, self._strip, self._limit = by_line, strip, limit
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs = 0
        self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_command()

    def __call__(self, job: WorkerJob) -> bytes:
        """Run the command for a job, which fails unless the exit status is 0."""
        self._jobs, self._busy = self._jobs + 1, True
        try:
            return self._run_command(job) if self._argv else _print_workload(job.workload)
        finally:
            self._busy = False

    def leave_when_idle(self, rounds: int, seconds: float) -> None:
        """Drain after ``rounds``: a job, or as in the C tool ``seconds`` without one."""
        Thread(target=self._count_idle, args=(rounds, seconds), daemon=True).start()

    def _count_idle(self, rounds: int, seconds: float) -> None:
        idle = before = 0
        while self._jobs + idle < rounds:
            sleep(seconds)
            idle += not self._busy and self._jobs == before
            before = self._jobs
        if idle:  # otherwise it drains on its own, and a signal would end it at once
            os.kill(os.getpid(), signal.SIGTERM)

    def _run_command(self, job: WorkerJob) -> bytes:
        pipe = subprocess.PIPE
        try:
            # Its own process group: ^C reaches only the worker, which lets the command finish.
            process = subprocess.Popen(
                self._argv, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0
            )
        except OSError as error:
            fail_job(f"{self._argv[0]}: {error.strerror}")
        self._process = process
        assert process.stdin and process.stdout and process.stderr  # noqa: S101  for mypy
        errors = bytearray()
        pumps = [
            Thread(target=_write_input, args=(process.stdin, job.workload), daemon=True),
            Thread(target=_relay_errors, args=(process.stderr, errors), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        try:
            result = self._collect_output(job, process.stdout)
        except BaseException:  # it must not block on output that nothing reads
            self._kill_command()
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
            fail_job(f"{self._argv[0]}: {describe_exit(process.returncode)}")
        return result

    def _collect_output(self, job: WorkerJob, output: IO[bytes]) -> bytes:
        if not self._by_line:
            return self._check_size(output.read(self._limit + 1))
        while line := self._check_size(output.readline(self._limit + 1)):
            job.send_data(line.removesuffix(b"\n") if self._strip else line)
        return b""

    def _check_size(self, output: bytes) -> bytes:
        if len(output) > self._limit:
            fail_job(f"{self._argv[0]}: its output is over the limit of {self._limit} bytes")
        return output

    def _kill_command(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _print_workload(workload: bytes) -> bytes:
    sys.stdout.buffer.write(workload)
    sys.stdout.flush()
    return b""


def _write_input(stdin: IO[bytes], workload: bytes) -> None:
    with suppress(BrokenPipeError):  # it may not read all of its input
        stdin.write(workload)
    with suppress(BrokenPipeError):
        stdin.close()


def _relay_errors(stderr: IO[bytes], tail: bytearray) -> None:
    """Copy the standard error of the command to ours, and keep its end."""
    with stderr:
        while part := os.read(stderr.fileno(), READ_SIZE):
            with suppress(OSError):  # ours was closed; the command continues
                sys.stderr.buffer.write(part)
                sys.stderr.flush()
            tail += part[-ERROR_TAIL:]
            del tail[:-ERROR_TAIL]


def fail_job(why: str) -> NoReturn:
    """End the job; its client is told why."""
    raise FunctionFailed(f"{why}\n")


def describe_exit(status: int) -> str:
    """How a process ended, by its return code."""
    if status > 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
