"""A command for each job, several at a time: `gearman-worker FUNCTION -- COMMAND`.

As with `gearman -w` the workload is its input, its output the result, and no shell is used. It
runs in its own session: signals to the worker do not reach it, and its children end with it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from gearman_py.cli.filter import ERROR_TAIL, describe_exit, fail_job
from gearman_py.worker.job import WorkerJob

_PIPE = asyncio.subprocess.PIPE
READ_SIZE = 2**16  # bytes of standard error


class CommandFailed(Exception):
    """A command ended with another status than 0, and is run again."""


async def run_command(argv: Sequence[str], limit: int, retries: int, job: WorkerJob) -> bytes:
    """Run ``argv`` for a job and return its output, at most ``limit`` bytes.

    The job fails unless the exit status is 0; before that CommandFailed is raised ``retries``
    times, for the worker to call this again. The command is killed on cancellation: at the time
    limit of the job, or when the worker stops.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=_PIPE, stdout=_PIPE, stderr=_PIPE, start_new_session=True
        )
    except OSError as error:
        fail_job(f"{argv[0]}: {error.strerror}")
    assert process.stdin and process.stdout and process.stderr  # noqa: S101  for mypy
    feeding = asyncio.ensure_future(_write_input(process.stdin, job.workload))
    relaying = asyncio.ensure_future(_relay_errors(process.stderr))
    ended = False
    try:
        output = await _read_output(process.stdout, limit)
        if len(output) > limit:
            fail_job(f"{argv[0]}: its output is over the limit of {limit} bytes")
        errors = await relaying
        status = await process.wait()
        ended = True
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        feeding.cancel()
        relaying.cancel()
        await asyncio.gather(feeding, relaying, return_exceptions=True)
        await process.wait()
    if status and job.attempt <= retries:
        raise CommandFailed(f"{argv[0]}: {describe_exit(status)}")
    if status:
        if output:
            job.send_data(output)
        if errors:
            job.send_warning(errors)
        fail_job(f"{argv[0]}: {describe_exit(status)}")
    return output


async def _write_input(stdin: asyncio.StreamWriter, workload: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it may not read all of its input
        stdin.write(workload)
        await stdin.drain()
    stdin.close()


async def _read_output(stdout: asyncio.StreamReader, limit: int) -> bytes:
    """The whole output, or ``limit`` bytes and one more."""
    output = bytearray()
    while len(output) <= limit and (part := await stdout.read(limit + 1 - len(output))):
        output += part
    return bytes(output)


async def _relay_errors(stderr: asyncio.StreamReader) -> bytes:
    """Copy the standard error of the command to ours; return its end."""
    tail = bytearray()
    while part := await stderr.read(READ_SIZE):
        with suppress(OSError):  # ours was closed; the command continues
            sys.stderr.buffer.write(part)
            sys.stderr.flush()
        tail += part[-ERROR_TAIL:]
        del tail[:-ERROR_TAIL]
    return bytes(tail)
