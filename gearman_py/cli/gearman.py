"""gearman: submit jobs from the command line, or serve a function with a command.

The options are those of the C tool. Where that one hangs, deadlocks or reports success for
a failure, this one says what happened, in words and in its exit status.
"""

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from gearman_py import __version__
from gearman_py.cli import common
from gearman_py.cli.common import EXIT_STATUSES, command, complain
from gearman_py.cli.filter import Filter
from gearman_py.client.arguments import Priority, as_function, as_unique
from gearman_py.client.dispatch import Job
from gearman_py.client.sync import Client
from gearman_py.errors import GearmanError, SubmitError
from gearman_py.worker.worker import Worker

_USAGE = """\
gearman -f FUNCTION [option]... [--] [DATA]...
       gearman -w -f FUNCTION [option]... [-- COMMAND [ARGUMENT]...]"""

_EPILOG = f"""\
Client: each DATA word is one job. Without any, standard input is the workload.
Worker: COMMAND runs once for each job, without a shell: the workload is its standard
input, its output is the result. If it does not end with 0 the job has failed.
Without COMMAND workloads are printed, and the results are empty.

{EXIT_STATUSES}
examples:
  gearman -f wc < /etc/passwd
  gearman -w -f wc -- wc -l
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a client or a worker; return the exit status."""
    parser = _parser()
    options = _parse(parser, sys.argv[1:] if arguments is None else list(arguments))
    servers = common.server_names(parser, options.host, options.port)
    if options.worker:
        _refuse(parser, "with -w", options, "background", "high", "low", "unique", "no_input")
        return command("gearman", partial(_work, parser, options, servers))
    _refuse(parser, "without -w", options, "count")
    return command("gearman", partial(_submit, options, servers))


def _parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Options may come after words; what follows ``--`` is words only, a command's options too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_intermixed_args(arguments[:end])
    options.words += arguments[end + 1 :]
    try:
        as_unique(options.unique)
        for function in options.function:
            as_function(function)
    except (ValueError, SubmitError) as error:
        parser.error(str(error))
    return options


def _refuse(parser: ArgumentParser, when: str, options: Namespace, *names: str) -> None:
    flags = {"background": "b", "high": "I", "low": "L", "unique": "u", "no_input": "s"}
    for name in names:
        if getattr(options, name):
            parser.error(f"-{flags.get(name, name[0])} means nothing {when}")


# Client.


def _submit(options: Namespace, servers: list[str]) -> int:
    seconds = None if options.timeout is None else options.timeout / 1000
    limits = {} if seconds is None else {"connect_timeout": seconds, "submit_timeout": seconds}
    failed = 0
    with _pid_file(options.pid_file), Client(servers, timeout=seconds, **limits) as client:
        for workload in _workloads(options):
            jobs = [_start(client, options, name, workload) for name in options.function]
            for job in jobs:
                failed |= 0 if job.background else _finish(options, job)
    return failed


def _workloads(options: Namespace) -> Iterator[bytes]:
    if options.no_input:
        yield b""
    elif options.words:
        yield from (word.encode(errors="surrogateescape") for word in options.words)
    elif options.lines or options.stripped_lines:
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n") if options.stripped_lines else line
    else:
        yield sys.stdin.buffer.read()


def _start(client: Client, options: Namespace, function: str, workload: bytes) -> Job:
    priority: Priority = "high" if options.high else "low" if options.low else "normal"
    job = client.submit(
        function,
        workload,
        unique=options.unique,
        priority=priority,
        background=options.background,
        on_data=partial(_show, _prefix(options, function), sys.stdout),
        on_warning=partial(_show, _prefix(options, function), sys.stderr),
        on_status=partial(_show_status, function),
    )
    if options.verbose:
        print(f"Task created: {job.handle}", file=sys.stderr)
    return job


def _finish(options: Namespace, job: Job) -> int:
    try:
        _show(_prefix(options, job.function), sys.stdout, job.result())
    except GearmanError as error:
        status = complain("gearman", error)
        if status != common.FAILED:
            raise SystemExit(status) from None
        return status
    return common.OK


def _show(prefix: bytes, stream: TextIO, data: bytes) -> None:
    stream.buffer.write(prefix + data)
    stream.flush()


def _prefix(options: Namespace, function: str) -> bytes:
    return f"{function}: ".encode() if options.prefix else b""


def _show_status(function: str, numerator: int, denominator: int) -> None:
    part = f"{100 * numerator // denominator}%" if denominator else f"{numerator} of {denominator}"
    print(f"{function}: {part} complete", file=sys.stderr)


# Worker.


def _work(parser: ArgumentParser, options: Namespace, servers: list[str]) -> int:
    by_line = options.lines or options.stripped_lines
    try:
        run = Filter(options.words, by_line=by_line, strip=options.stripped_lines)
    except FileNotFoundError as error:
        parser.error(str(error))
    common.log_to_stderr(options.verbose)
    worker = Worker(servers, max_jobs=options.count)
    for function in dict.fromkeys(options.function):
        worker.add_function(function, run)
    with _pid_file(options.pid_file), run:
        return worker.run()


@contextmanager
def _pid_file(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        print(f"gearman: cannot write {path}: {error.strerror}", file=sys.stderr)
        raise SystemExit(common.USAGE) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="gearman",
        usage=_USAGE,
        description="Submit jobs to a Gearman job server, or serve a function with a command.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="DATA", help="a workload; with -w, COMMAND and its arguments")
    add(
        "-f", dest="function", action="append", required=True, metavar="FUNCTION", help="repeatable"
    )
    add("-h", dest="host", action="append", metavar="HOST", help=common.HOST_HELP)
    add("-p", dest="port", type=common.port_number, metavar="PORT", help="port (4730)")
    add("-t", dest="timeout", type=common.positive, metavar="MS", help=_TIMEOUT_HELP)
    add("-n", dest="lines", action="store_true", help="one job for each line; -w: data by line")
    add("-N", dest="stripped_lines", action="store_true", help="as -n, without the newlines")
    add("-i", dest="pid_file", type=Path, metavar="FILE", help="write the process id to FILE")
    add("-v", dest="verbose", action="count", default=0, help="say more")
    add("--version", action="version", version=f"gearman {__version__}")
    add("-H", "--help", action="help", help="show this and leave")
    client = parser.add_argument_group("client").add_argument
    client("-b", dest="background", action="store_true", help="do not wait for the result")
    client("-I", dest="high", action="store_true", help="high priority")
    client("-L", dest="low", action="store_true", help="low priority")
    client("-u", dest="unique", metavar="KEY", help="share one run with jobs of the same KEY")
    client("-s", dest="no_input", action="store_true", help="one job without workload; no input")
    client("-P", dest="prefix", action="store_true", help="put FUNCTION: before each output")
    worker = parser.add_argument_group("worker").add_argument
    worker("-w", dest="worker", action="store_true", help="work")
    worker("-c", dest="count", type=common.positive, metavar="N", help="leave after N jobs")
    return parser


_TIMEOUT_HELP = "give up after MS milliseconds without a result (never)"

if __name__ == "__main__":
    sys.exit(main())
