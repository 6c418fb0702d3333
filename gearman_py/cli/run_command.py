"""A command for each job, several at a time: `gearman-worker FUNCTION -- COMMAND`. No shell.

The workload is its input, its output the result, as with `gearman -w`. It runs in a session of
its own: signals to the worker do not reach it, and what it has started ends with it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from gearman_py.cli.filter import ERROR_TAIL, describe_exit, fail
from gearman_py.worker.job import WorkerJob

_PIPE = asyncio.subprocess.PIPE
_PART = 2**16  # bytes of the command's errors that are passed on at a time


async def run_command(argv: Sequence[str], limit: int, job: WorkerJob) -> bytes:
    """Run ``argv`` for a job; its output, which may have ``limit`` bytes.

    The job fails when the command does not end with status 0. When this is cancelled, at the
    job's time limit or as the worker stops, the command is killed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=_PIPE, stdout=_PIPE, stderr=_PIPE, start_new_session=True
        )
    except OSError as error:
        fail(f"{argv[0]}: {error.strerror}")
    assert process.stdin and process.stdout and process.stderr  # noqa: S101  for mypy
    feeding = asyncio.ensure_future(_feed(process.stdin, job.workload))
    relaying = asyncio.ensure_future(_relay(process.stderr))
    ended = False
    try:
        output = await _read(process.stdout, limit)
        if len(output) > limit:
            fail(f"{argv[0]}: its output is over the limit of {limit} bytes")
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
    if status:
        if output:
            job.send_data(output)
        if errors:
            job.send_warning(errors)
        fail(f"{argv[0]}: {describe_exit(status)}")
    return output


async def _feed(stdin: asyncio.StreamWriter, workload: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it may know enough before the end
        stdin.write(workload)
        await stdin.drain()
    stdin.close()


async def _read(stdout: asyncio.StreamReader, limit: int) -> bytes:
    """All of it, or a little more than ``limit`` bytes."""
    output = bytearray()
    while len(output) <= limit and (part := await stdout.read(limit + 1 - len(output))):
        output += part
    return bytes(output)


async def _relay(stderr: asyncio.StreamReader) -> bytes:
    """Show the command's errors here; the last of them."""
    tail = bytearray()
    while part := await stderr.read(_PART):
        with suppress(OSError):  # who read ours has gone; the command goes on
            sys.stderr.buffer.write(part)
            sys.stderr.flush()
        tail += part[-ERROR_TAIL:]
        del tail[:-ERROR_TAIL]
    return bytes(tail)
