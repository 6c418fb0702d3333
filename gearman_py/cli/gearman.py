"""gearman: submit jobs from the command line, or serve a function with a command.

The options are those of the C tool. Where that one hangs, deadlocks or reports success for
a failure, this one says what happened, in words and in its exit status.
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

from gearman_py.cli import common
from gearman_py.cli.common import EXIT_STATUSES, command, complain
from gearman_py.cli.filter import Filter
from gearman_py.cli.progress import Progress
from gearman_py.client.arguments import Priority, as_function, as_unique
from gearman_py.client.dispatch import Job
from gearman_py.client.sync import Client
from gearman_py.errors import GearmanError, JobFailed, SubmitError
from gearman_py.net.servers import Server
from gearman_py.printable import printable
from gearman_py.protocol.codec import MAX_PACKET

_USAGE = """\
gearman -f FUNCTION [option]... [--] [DATA]...
       gearman -w -f FUNCTION [option]... [--] [COMMAND [ARGUMENT]...]"""

_EPILOG = f"""\
Client: each DATA word is one job. Without any, standard input is the workload.

Worker: COMMAND runs once for each job, without a shell: the workload is its
standard input, its output the result. If it does not end with 0 the job has
failed. Without COMMAND workloads are printed, and the results are empty.
^C and SIGTERM let it finish the job in hand; a second one ends it at once.

{EXIT_STATUSES}
examples:
  gearman -f wc < /etc/passwd
  gearman -w -f wc -- wc -l
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a client or a worker; return the exit status."""
    common.open_standard_streams()
    parser = command_parser()
    options = _parse(parser, sys.argv[1:] if arguments is None else list(arguments))
    servers = common.servers(parser, options)
    run = partial(_work, parser) if options.worker else _submit
    return command("gearman", partial(_in_place, partial(run, options, servers), options))


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


def _in_place(run: partial[int], options: Namespace) -> int:
    """Run in the background if so asked, with the process id in its file."""
    if options.daemon:
        common.detach(keep_input=True)  # there may be a workload in it
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


def _submit(options: Namespace, servers: list[Server]) -> int:
    seconds = None if options.timeout is None else options.timeout / 1000
    limits = {} if seconds is None else {"connect_timeout": seconds, "submit_timeout": seconds}
    screen, failed = _Screen(options), 0
    most = options.max_packet or MAX_PACKET
    with screen, Client(servers, timeout=seconds, max_packet=most, **limits) as client:
        for workload in _workloads(options):
            jobs = [_start(client, options, screen, name, workload) for name in options.function]
            for job in jobs:
                failed |= 0 if job.background else _finish(screen, job)
    return failed


def _workloads(options: Namespace) -> Iterator[bytes]:
    if options.words:
        yield from map(os.fsencode, options.words)
    elif options.no_input:
        yield b""
    elif options.lines or options.stripped_lines:
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n") if options.stripped_lines else line
    else:
        yield sys.stdin.buffer.read()


def _start(
    client: Client, options: Namespace, screen: "_Screen", function: str, workload: bytes
) -> Job:
    priority: Priority = "high" if options.high else "low" if options.low else "normal"
    job = client.submit(
        function,
        workload,
        # As the C tool: a server with a durable queue may keep one job of those without any.
        unique=os.fsencode(options.unique) if options.unique else str(uuid4()),
        priority=priority,
        background=options.background,
        on_data=partial(screen.show, function, sys.stdout),
        on_warning=partial(screen.warn, function),
        on_status=partial(screen.show_status, function),
    )
    if options.verbose:
        print(f"Task created: {job.handle}", file=sys.stderr)
    return job


def _finish(screen: "_Screen", job: Job) -> int:
    try:
        screen.show(job.function, sys.stdout, job.result())
    except GearmanError as error:
        screen.progress.clear()
        if type(error) is JobFailed:
            screen.show(job.function, sys.stderr, b"Job failed\n")
            return common.FAILED
        status = complain("gearman", error)
        if status != common.FAILED:
            raise SystemExit(status) from None
        return status
    return common.OK


class _Screen:
    """Where what is heard of jobs is shown. At its end the progress bar is taken away."""

    def __init__(self, options: Namespace) -> None:
        self.progress = Progress()
        self._prefixed = options.prefix

    def __enter__(self) -> "_Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.clear()

    def show(self, function: str, stream: TextIO, data: bytes) -> None:
        self.progress.clear()
        stream.buffer.write(self._prefix(function) + data)
        stream.flush()
        self.progress.printed(data, terminal=stream.isatty())

    def warn(self, function: str, data: bytes) -> None:
        if sys.stderr.isatty():
            data = printable(data.decode(errors="backslashreplace")).encode()
        self.show(function, sys.stderr, data)

    def show_status(self, function: str, numerator: int, denominator: int) -> None:
        self.progress.show(function, self._prefix(function), numerator, denominator)

    def _prefix(self, function: str) -> bytes:
        return f"{function}: ".encode() if self._prefixed else b""


# Worker.


def _work(parser: ArgumentParser, options: Namespace, servers: list[Server]) -> int:
    by_line = options.lines or options.stripped_lines
    limit = options.max_packet or MAX_PACKET
    try:
        run = Filter(options.words, by_line=by_line, strip=options.stripped_lines, limit=limit)
    except FileNotFoundError as error:
        parser.error(str(error))
    common.log_to_stderr(options.verbose)
    # The C client does not understand exceptions.
    from gearman_py.worker.worker import Worker  # a client need not wait for what it imports

    worker = Worker(servers, max_jobs=options.count, max_packet=limit, exceptions=False)
    for function in dict.fromkeys(options.function):
        worker.add_function(function, run)
    with run:
        if options.count and options.timeout is not None:
            run.leave_when_idle(options.count, options.timeout / 1000)
        return worker.run()


def command_parser() -> ArgumentParser:
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
        *("-f",),
        dest="function",
        action="append",
        required=True,
        type=common.utf8,
        metavar="FUNCTION",
        help="may be repeated: each gets every workload",
    )
    common.add_servers(parser)
    add("-t", dest="timeout", type=common.milliseconds, metavar="MS", help=_TIMEOUT_HELP)
    add("-n", dest="lines", action="store_true", help="one job for each line; -w: data by line")
    add("-N", dest="stripped_lines", action="store_true", help="as -n, without the newlines")
    add("-i", dest="pid_file", type=Path, metavar="FILE", help="write the process id to FILE")
    add("-d", dest="daemon", action="store_true", help="go on in the background, and print nothing")
    add("-v", dest="verbose", action="count", default=0, help="say more")
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
    client("-u", dest="unique", metavar="KEY", help="share one run with jobs of the same KEY")
    client("-s", dest="no_input", action="store_true", help="do not read standard input")
    client("-P", dest="prefix", action="store_true", help="put FUNCTION: before each output")
    worker = parser.add_argument_group("worker").add_argument
    worker("-w", dest="worker", action="store_true", help="work")
    worker("-c", dest="count", type=common.positive, metavar="N", help=_COUNT_HELP)
    common.add_max_packet(parser.add_argument)
    common.add_tls(parser)
    return parser


class _Completion(Action):
    """Prints completion for a shell, and leaves."""

    def __call__(self, parser: ArgumentParser, _: Namespace, shell: Any, *__: object) -> None:
        from gearman_py.cli import completion  # not at the top: it imports every command

        print(completion.script(shell), end="")
        parser.exit()


_TIMEOUT_HELP = "give up after MS milliseconds without a result (never)"
_COUNT_HELP = "leave after N jobs; with -t, MS without a job is one"

if __name__ == "__main__":
    sys.exit(main())
