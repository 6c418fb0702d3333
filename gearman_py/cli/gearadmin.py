"""gearadmin: inspect a job server, and manage its functions and jobs.

Several commands run in a fixed order, that of the C tool. The output is also that of the C tool,
byte for byte, except on a terminal, where listings have columns with headings.
"""

import json
import re
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gearman_py.admin.client import AdminClient
from gearman_py.cli import common, move_jobs, top
from gearman_py.cli.check import CheckStatus, check_servers
from gearman_py.cli.table import format_table
from gearman_py.printable import printable

_EPILOG = f"""\
The first of the job servers that can be reached is asked.
On a terminal, listings have headings and no final dot.
(*) needs a job server of gearman_py.

{common.EXIT_STATUSES}
examples:
  gearadmin -h jobs.example.org --status
  gearadmin --status --watch 2
  gearadmin top -h one.example.org -h two.example.org
  gearadmin --workers --json | jq '.[].functions'
"""

Ask = Callable[[AdminClient], str | int]


class _Value(NamedTuple):
    """A question that is answered with one line."""

    help: str
    ask: Ask


class _Listing(NamedTuple):
    """A question that is answered with a listing: the command, and how its rows are parsed."""

    help: str
    command: str
    rows: Callable[[AdminClient], Sequence[Any]]


class _Action(NamedTuple):
    """A change to what the arguments name; prints what ``act`` returns, or ``OK``.

    ``to_servers``: the argument is a list of job servers.
    """

    help: str
    words: tuple[str, ...]
    act: Callable[..., str | None]
    to_servers: bool = False


def _format_ping(client: AdminClient) -> str:
    client.ping()  # connects first
    return f"{client.server} answers in {1000 * client.ping():.1f} ms"


def _set_max_queue(client: AdminClient, function: str, jobs: str) -> None:
    if not jobs.isascii() or not jobs.isdigit():
        raise ValueError(f"--max-queue: {jobs!r} is not a number of jobs")
    client.max_queue(function, int(jobs) or None)


def _limit(client: AdminClient, function: str, limit: str) -> None:
    what, _, most = limit.partition("=")
    if what == "running" and most.isascii() and most.isdigit():
        client.limit(function, running=int(most))
    elif what == "rate" and re.fullmatch(r"0|\d+/\d*[smhd]", most, re.ASCII):
        client.limit(function, rate=most)
    else:
        raise ValueError(
            f"--limit: {limit!r} is not a limit; expected running=N or rate=N/PERIOD, such as 100/s"
        )


def _purge(client: AdminClient, function: str) -> str:
    number = len(client.purge(function))
    return f"{number} {'job' if number == 1 else 'jobs'} purged"


_QUESTIONS: dict[str, _Value | _Listing | _Action] = {
    "ping": _Value("round-trip time", _format_ping),
    "getpid": _Value("process id of the server", AdminClient.pid),
    "create-function": _Action(
        "create a function before its workers register",
        ("FUNCTION",),
        AdminClient.create_function,
    ),
    "max-queue": _Action(
        "refuse jobs while there are N; 0: no limit",
        ("FUNCTION", "N"),
        _set_max_queue,
    ),
    "drop-function": _Action(
        "drop a function without workers and jobs", ("FUNCTION",), AdminClient.drop_function
    ),
    "show-jobs": _Listing(
        "jobs: handle, retries, ignored, background", "show jobs", AdminClient.jobs
    ),
    "show-unique-jobs": _Listing(
        "uniques of all jobs", "show unique jobs", AdminClient.unique_jobs
    ),
    "cancel-job": _Action("remove a waiting job from its queue", ("HANDLE",), AdminClient.cancel),
    "pause": _Action("give out no job of a function (*)", ("FUNCTION",), AdminClient.pause),
    "resume": _Action("end a pause (*)", ("FUNCTION",), AdminClient.resume),
    "limit": _Action(
        "running=4: run at most 4 jobs at a time, over all workers; rate=100/s, rate=10/30m: "
        "start no more in a period; running=0, rate=0: no limit (*)",
        ("FUNCTION", "LIMIT"),
        _limit,
    ),
    "purge": _Action(
        "cancel all jobs of a function that do not run; asks first (*)", ("FUNCTION",), _purge
    ),
    "server-verbose": _Value("log level of the server", lambda client: client.value("verbose")),
    "server-version": _Value("version of the server", lambda client: client.value("version")),
    "workers": _Listing("connections: fd, address, id : functions", "workers", AdminClient.workers),
    "priority-status": _Listing(
        "functions: name, high, normal, low, workers",
        "prioritystatus",
        AdminClient.priority_status,
    ),
    "status": _Listing("functions: name, jobs, running, workers", "status", AdminClient.status),
    "stats": _Listing(
        "functions: what is queued and what happened (*)",
        "stats",
        AdminClient.stats,
    ),
    "move-jobs": _Action(
        "move the background jobs that wait to other job servers (admin socket only)",
        ("SERVERS",),
        move_jobs.move_jobs,
        to_servers=True,
    ),
    "retire": _Action(
        "the same, wait for those that run, and stop the server (admin socket only)",
        ("SERVERS",),
        move_jobs.retire,
        to_servers=True,
    ),
    "drain": _Action(
        "stop the server after its jobs (admin socket only)",
        (),
        lambda client: client.shutdown(graceful=True),
    ),
    "shutdown": _Action("stop the server at once (admin socket only)", (), AdminClient.shutdown),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the commands; return the exit status."""
    common.open_standard_streams()
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["top"]:
        return top.main(words[1:])
    parser = command_parser()
    try:
        options = parser.parse_args(words)
    except SystemExit as stop:
        if "--check" in words and stop.code == common.USAGE:
            return CheckStatus.UNKNOWN
        raise
    asked = [name for name in _QUESTIONS if vars(options)[name] not in (None, False)]
    if options.check:
        return _check(parser, options)
    if not asked:
        parser.error("nothing to do: expected a command, such as --status")
    if options.watch and any(isinstance(_QUESTIONS[name], _Action) for name in asked):
        parser.error("--watch: cannot repeat commands that change something")
    servers = common.parse_servers_option(parser, options)

    def ask_server() -> int:
        with AdminClient(servers) as client:
            try:
                if options.purge and not _may_purge(client, options):
                    print("nothing was purged")
                    return common.FAILED
                _answer_repeatedly(client, options, asked)
            except ValueError as error:
                parser.error(str(error))
        return common.OK

    return common.run_command_line("gearadmin", ask_server)


def _may_purge(client: AdminClient, options: Namespace) -> bool:
    """Ask whether to purge, unless --yes was given. Raises ValueError without a terminal."""
    if options.yes:
        return True
    (function,) = options.purge
    if not sys.stdin.isatty():
        raise ValueError("--purge: expected --yes, since this is not a terminal")
    row = next((each for each in client.status() if each.name == function), None)
    waiting = row.waiting if row else 0
    jobs = f"{waiting} {'job' if waiting == 1 else 'jobs'}"
    print(f"{printable(function)}: cancel {jobs} that do not run? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _check(parser: ArgumentParser, options: Namespace) -> int:
    warning, critical = options.warning, options.critical
    if None not in (warning, critical) and warning > critical:
        print(f"gearadmin: --warning {warning} is more than --critical {critical}", file=sys.stderr)
        return CheckStatus.UNKNOWN
    servers = common.parse_servers_option(parser, options)
    status, line = check_servers(servers, options.warning, options.critical)
    print(line)
    return status


def _answer_repeatedly(client: AdminClient, options: Namespace, asked: list[str]) -> None:
    """Answer once, or repeatedly with --watch until ^C; on a terminal, always in the same place."""
    reported = False
    while True:
        answers: Iterable[str] = (_format_answer(client, options, name) for name in asked)
        if options.watch and sys.stdout.isatty():
            answers = list(answers)
            print("\x1b[H\x1b[2J", end="")
        for answer in answers:
            print(answer, flush=True)
            if not reported:
                _report_passed_over(client)
                reported = True
        if not options.watch:
            return
        time.sleep(options.watch)


def _report_passed_over(client: AdminClient) -> None:
    for server, why in client.passed_over:
        print(f"gearadmin: {server}: {why}; {client.server} was asked", file=sys.stderr)


def _format_answer(client: AdminClient, options: Namespace, name: str) -> str:
    question = _QUESTIONS[name]
    if isinstance(question, _Value):
        value = question.ask(client)
        return json.dumps(value) if options.json else printable(str(value))
    if isinstance(question, _Action):
        words = vars(options)[name]
        if question.to_servers:
            words = [common.parse_servers_of(options, words)]
        said = question.act(client, *(words if isinstance(words, list) else ())) or "OK"
        return json.dumps(said) if options.json else said
    if options.json:
        rows = [row if isinstance(row, str) else row._asdict() for row in question.rows(client)]
        return json.dumps(rows)
    if sys.stdout.isatty():
        return format_table(name, question.rows(client))
    return "\n".join([*map(printable, client.listing(question.command)), "."])


def command_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="gearadmin",
        usage="gearadmin [-h HOST] [-p PORT] COMMAND...\n       gearadmin top [-h HOST]...",
        description="Inspect or manage a Gearman job server.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    questions = parser.add_argument_group("commands, in the order in which they run")
    for name, question in _QUESTIONS.items():
        flag = f"--{name}"
        words = question.words if isinstance(question, _Action) else ()
        if words:
            questions.add_argument(
                *(flag,), dest=name, nargs=len(words), metavar=words, help=question.help
            )
        else:
            questions.add_argument(flag, dest=name, action="store_true", help=question.help)
    common.add_servers(parser)
    add = parser.add_argument
    add(
        "--watch",
        type=common.positive_int,
        metavar="SECONDS",
        help="repeat until ^C",
    )
    add(
        "--check",
        action="store_true",
        help="answer as a plugin of Nagios: exit status 0, 1 or 2 (all servers are asked)",
    )
    add("--warning", type=common.positive_int, metavar="JOBS", help="--check: more that wait")
    add("--critical", type=common.positive_int, metavar="JOBS", help="the same")
    add("--yes", action="store_true", help="--purge: do not ask")
    add("--json", action="store_true", help="print answers as JSON, one per line")
    common.add_help(parser)
    common.add_tls(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
