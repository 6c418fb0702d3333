"""A command as a function: the workload is its input, its output the result. No shell.

Input, output and errors are moved at the same time, so no size of any deadlocks.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import IO, Self

from gearman_py.worker.job import WorkerJob

_TAIL = 2000  # bytes of the command's errors that a client of a failed job is shown


class Filter:
    """Runs ``argv`` for each job; without any, prints workloads. A context manager: what
    still runs at its end is killed.

    ``by_line`` sends each line of output at once, as data, and no result; ``strip`` takes
    their newlines off. Raises FileNotFoundError when there is no such command.
    """

    def __init__(self, argv: Sequence[str], *, by_line: bool, strip: bool) -> None:
        if argv and shutil.which(argv[0]) is None:
            raise FileNotFoundError(f"there is no command {argv[0]!r}")
        self._argv = argv
        self._by_line, self._strip = by_line, strip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def __call__(self, job: WorkerJob) -> bytes:
        """Do a job. It fails when the command does not end with status 0."""
        if not self._argv:
            sys.stdout.buffer.write(job.workload)
            sys.stdout.flush()
            return b""
        pipe = subprocess.PIPE
        # Its own process group: ^C is for the worker, which lets the command finish.
        with subprocess.Popen(
            self._argv, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0
        ) as process:
            self._process = process
            assert process.stdin and process.stdout and process.stderr  # noqa: S101  for mypy
            errors = bytearray()
            pumps = [
                Thread(target=_feed, args=(process.stdin, job.workload), daemon=True),
                Thread(target=_relay, args=(process.stderr, errors), daemon=True),
            ]
            for pump in pumps:
                pump.start()
            result = self._collect(job, process.stdout)
            for pump in pumps:
                pump.join()
        if process.returncode:
            if result:
                job.send_data(result)
            if errors:
                job.send_warning(bytes(errors))
            job.fail(f"{self._argv[0]}: {_how(process.returncode)}\n")
        return result

    def _collect(self, job: WorkerJob, output: IO[bytes]) -> bytes:
        if not self._by_line:
            return output.read()
        for line in output:
            job.send_data(line.removesuffix(b"\n") if self._strip else line)
        return b""


def _feed(stdin: IO[bytes], workload: bytes) -> None:
    with suppress(BrokenPipeError):  # it may know enough before it has read all
        stdin.write(workload)
    with suppress(BrokenPipeError):
        stdin.close()


def _relay(stderr: IO[bytes], tail: bytearray) -> None:
    """Show the command's errors here, and keep the last of them."""
    for line in stderr:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
        tail += line
        del tail[:-_TAIL]


def _how(status: int) -> str:
    if status > 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
