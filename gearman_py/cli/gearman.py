"""gearman: submit jobs from the command line, or serve a function with a command.

The options are those of the C tool. Where that one hangs, deadlocks or reports success for a
failure, this one reports what happened in a message and its exit status.
"""

import os
import sys
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from gearman_py import __version__
from gearman_py.cli import common
from gearman_py.cli.common import EXIT_STATUSES, report_error, run_command_line
from gearman_py.cli.filter import Filter
from gearman_py.cli.progress import Progress
from gearman_py.client.arguments import Priority, SubmitOptions, as_function, as_unique
from gearman_py.client.sync import Client
from gearman_py.client.sync_job import Job
from gearman_py.errors import GearmanError, JobFailed, SubmitError
from gearman_py.net.servers import ServerAddress
from gearman_py.option_parser import OptionParser
from gearman_py.printable import printable
from gearman_py.protocol.codec import MAX_PACKET

_USAGE = """\
gearman -f FUNCTION [option]... [--] [DATA]...
       gearman -w -f FUNCTION [option]... [--] [COMMAND [ARGUMENT]...]"""

_EPILOG = f"""\
Client: each DATA word is one job. Without any, standard input is the workload.

Worker: COMMAND runs once for each job, without a shell: the workload is its
standard input, its output is the result. If it exits with a status other than
0, the job fails. Without COMMAND, workloads are printed and results are empty.
On ^C or SIGTERM it finishes the current job; a second signal ends it at once.

{EXIT_STATUSES}
examples:
  gearman -f wc < /etc/passwd
  gearman -w -f wc -- wc -l
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a client or a worker; return the exit status."""
    common.open_standard_streams()
    parser = command_parser()
    options = _parse_options(parser, sys.argv[1:] if arguments is None else list(arguments))
    servers = common.parse_servers_option(parser, options)
    run = partial(_run_worker, parser) if options.worker else _submit_jobs
    run_in_place = partial(_run_detached, partial(run, options, servers), options)
    return run_command_line("gearman", run_in_place)


def _parse_options(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Options may follow words; everything after ``--`` is a word, such as options of COMMAND."""
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


def _run_detached(run: partial[int], options: Namespace) -> int:
    """Run, in the background if asked to, with the process id in its file."""
    if options.daemon:
        common.detach_process(keep_input=True)  # it may be the workload
    with _pid_file(options.pid_file):
        return run()


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


# Client.


def _submit_jobs(options: Namespace, servers: list[ServerAddress]) -> int:
    seconds = None if options.timeout is None else options.timeout / 1000
    limits = {} if seconds is None else {"connect_timeout": seconds, "submit_timeout": seconds}
    screen, failed = _Screen(options), 0
    most = options.max_packet or MAX_PACKET
    with screen, Client(servers, timeout=seconds, max_packet=most, **limits) as client:
        for workload in _read_workloads(options):
            start = partial(_start_job, client, options, screen, workload)
            jobs = [start(name) for name in options.function]
            for job in jobs:
                failed |= 0 if job.background else _finish_job(screen, job)
    return failed


def _read_workloads(options: Namespace) -> Iterator[bytes]:
    if options.words:
        yield from map(os.fsencode, options.words)
    elif options.no_input:
        yield b""
    elif options.lines or options.stripped_lines:
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n") if options.stripped_lines else line
    else:
        yield sys.stdin.buffer.read()


def _start_job(
    client: Client, options: Namespace, screen: "_Screen", workload: bytes, function: str
) -> Job:
    priority: Priority = "high" if options.high else "low" if options.low else "normal"
    asked: SubmitOptions = {
        # As in the C tool: a durable queue may keep only one of the jobs without a unique.
        "unique": os.fsencode(options.unique) if options.unique else str(uuid4()),
        "priority": priority,
        "background": options.background,
    }
    if not options.background:
        asked |= screen.callbacks(function)
    job = client.submit(function, workload, **asked)
    if options.verbose:
        print(f"Task created: {job.handle}", file=sys.stderr)
    return job


def _finish_job(screen: "_Screen", job: Job) -> int:
    try:
        screen.show_data(job.function, sys.stdout, job.result())
    except GearmanError as error:
        screen.progress.clear_bar()
        if type(error) is JobFailed:
            screen.show_data(job.function, sys.stderr, b"Job failed\n")
            return common.FAILED
        status = report_error("gearman", error)
        if status != common.FAILED:
            raise SystemExit(status) from None
        return status
    return common.OK


class _Screen:
    """Shows what jobs send. The progress bar is removed at the end."""

    def __init__(self, options: Namespace) -> None:
        self.progress = Progress()
        self._prefixed = options.prefix

    def __enter__(self) -> "_Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.clear_bar()

    def callbacks(self, function: str) -> SubmitOptions:
        """What to do with the updates of a job."""
        return {
            "on_data": partial(self.show_data, function, sys.stdout),
            "on_warning": partial(self.show_warning, function),
            "on_status": partial(self.show_status, function),
        }

    def show_data(self, function: str, stream: TextIO, data: bytes) -> None:
        self.progress.clear_bar()
        stream.buffer.write(self._format_prefix(function) + data)
        stream.flush()
        self.progress.note_output(data, terminal=stream.isatty())

    def show_warning(self, function: str, data: bytes) -> None:
        if sys.stderr.isatty():
            data = printable(data.decode(errors="backslashreplace")).encode()
        self.show_data(function, sys.stderr, data)

    def show_status(self, function: str, numerator: int, denominator: int) -> None:
        self.progress.show_status(function, self._format_prefix(function), numerator, denominator)

    def _format_prefix(self, function: str) -> bytes:
        return f"{function}: ".encode() if self._prefixed else b""


# Worker.


def _run_worker(parser: ArgumentParser, options: Namespace, servers: list[ServerAddress]) -> int:
    by_line = options.lines or options.stripped_lines
    limit = options.max_packet or MAX_PACKET
    try:
        run = Filter(options.words, by_line=by_line, strip=options.stripped_lines, limit=limit)
    except FileNotFoundError as error:
        parser.error(str(error))
    common.log_to_stderr(options.verbose)
    # The C client does not understand exceptions.
    from gearman_py.worker.worker import Worker  # slow to import, and not needed by clients

    worker = Worker(servers, max_jobs=options.count, max_packet=limit, exceptions=False)
    for function in dict.fromkeys(options.function):
        worker.add_function(function, run)
    with run:
        if options.count and options.timeout is not None:
            run.leave_when_idle(options.count, options.timeout / 1000)
        return worker.run()


def command_parser() -> ArgumentParser:
    parser = OptionParser(
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
        *("-f",),
        dest="function",
        action="append",
        required=True,
        type=common.utf8_text,
        metavar="FUNCTION",
        help="may be repeated: each function gets every workload",
    )
    common.add_servers(parser)
    add("-t", dest="timeout", type=common.time_limit, metavar="MS", help=_TIMEOUT_HELP)
    add(
        "-n",
        dest="lines",
        action="store_true",
        help="one job per line; -w: send output by line",
    )
    add("-N", dest="stripped_lines", action="store_true", help="the same without newlines")
    add("-i", dest="pid_file", type=Path, metavar="FILE", help="write the process id to FILE")
    add("-d", dest="daemon", action="store_true", help="run in the background, without output")
    add("-v", dest="verbose", action="count", default=0, help="print more")
    add(
        *("--completion",),
        action=_Completion,
        choices=("bash", "zsh", "fish"),
        metavar="SHELL",
        help="print completion of all commands for bash, zsh or fish",
    )
    common.add_help(parser)
    client = parser.add_argument_group("client").add_argument
    client("-b", dest="background", action="store_true", help="do not wait for the result")
    client("-I", dest="high", action="store_true", help="high priority")
    client("-L", dest="low", action="store_true", help="low priority")
    client("-u", dest="unique", metavar="KEY", help="jobs with the same KEY share one run")
    client("-s", dest="no_input", action="store_true", help="do not read standard input")
    client("-P", dest="prefix", action="store_true", help="prefix each output with FUNCTION:")
    worker = parser.add_argument_group("worker").add_argument
    worker("-w", dest="worker", action="store_true", help="run as a worker")
    worker("-c", dest="count", type=common.positive_int, metavar="N", help=_COUNT_HELP)
    common.add_max_packet(parser.add_argument)
    common.add_tls(parser)
    return parser


def all_parsers() -> Iterator[ArgumentParser]:
    """The parser of each command."""
    from gearman_py.cli import gearadmin, web, worker_options  # not at the top: slow to import
    from gearman_py.server import options

    yield command_parser()
    yield gearadmin.command_parser()
    yield options.parser(__version__)
    yield web.command_parser()
    yield worker_options.command_parser()


class _Completion(Action):
    """Prints the completion for a shell and exits."""

    def __call__(self, parser: ArgumentParser, _: Namespace, shell: Any, *__: object) -> None:
        from gearman_py.cli.completion import completion_script  # needed for this only

        print(completion_script(shell, all_parsers()), end="")
        parser.exit()


_TIMEOUT_HELP = "give up after MS milliseconds without a result (never)"
_COUNT_HELP = "exit after N jobs; with -t, MS without a job counts as one"

if __name__ == "__main__":
    sys.exit(main())
