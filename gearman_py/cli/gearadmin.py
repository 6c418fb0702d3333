"""gearadmin: ask a job server how it is, and tidy its functions and jobs.

Several questions are asked in one fixed order, the C tool's. Its output is the C tool's too,
byte for byte, except on a terminal: there listings have columns with headings.
"""

import json
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gearman_py.admin.client import AdminClient
from gearman_py.cli import common
from gearman_py.cli.table import table
from gearman_py.printable import printable

_EPILOG = f"""\
One job server is asked: the first of those named that can be reached.
On a terminal listings have headings, and no dot at their end.

{common.EXIT_STATUSES}
examples:
  gearadmin -h jobs.example.org --status
  gearadmin --status --watch 2
  gearadmin --workers --json | jq '.[].functions'
"""

Say = Callable[[AdminClient], str | int]


class _Value(NamedTuple):
    """A question with a line for an answer."""

    help: str
    ask: Say


class _Listing(NamedTuple):
    """A question with a listing for an answer: what is sent, and how its rows are read."""

    help: str
    command: str
    rows: Callable[[AdminClient], Sequence[Any]]


class _Act(NamedTuple):
    """Something to be done to what the words name; ``OK`` when it is."""

    help: str
    words: tuple[str, ...]
    act: Callable[..., None]


def _ping(client: AdminClient) -> str:
    client.ping()  # connects first
    return f"{client.server} answers in {1000 * client.ping():.1f} ms"


def _limit(client: AdminClient, function: str, jobs: str) -> None:
    if not jobs.isascii() or not jobs.isdigit():
        raise ValueError(f"--max-queue: {jobs!r} is not a number of jobs")
    client.max_queue(function, int(jobs) or None)


_QUESTIONS: dict[str, _Value | _Listing | _Act] = {
    "ping": _Value("whether it answers, and how fast", _ping),
    "getpid": _Value("the server's process id", AdminClient.pid),
    "create-function": _Act(
        "make a function known before its workers come",
        ("FUNCTION",),
        AdminClient.create_function,
    ),
    "max-queue": _Act("refuse more jobs while there are N; 0: no limit", ("FUNCTION", "N"), _limit),
    "drop-function": _Act(
        "forget a function without workers and jobs", ("FUNCTION",), AdminClient.drop_function
    ),
    "show-jobs": _Listing(
        "jobs: handle, retries, ignored, background", "show jobs", AdminClient.jobs
    ),
    "show-unique-jobs": _Listing(
        "the unique of every job", "show unique jobs", AdminClient.unique_jobs
    ),
    "cancel-job": _Act("take a waiting job from its queue", ("HANDLE",), AdminClient.cancel),
    "server-verbose": _Value("how much the server logs", lambda client: client.value("verbose")),
    "server-version": _Value("the server's version", lambda client: client.value("version")),
    "workers": _Listing("connections: fd, address, id : functions", "workers", AdminClient.workers),
    "priority-status": _Listing(
        "functions: name, high, normal, low, workers",
        "prioritystatus",
        AdminClient.priority_status,
    ),
    "status": _Listing("functions: name, jobs, running, workers", "status", AdminClient.status),
    "drain": _Act(
        "stop the server when its jobs are done (by its admin socket)",
        (),
        lambda client: client.shutdown(graceful=True),
    ),
    "shutdown": _Act("stop the server at once (by its admin socket)", (), AdminClient.shutdown),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask a server; return the exit status."""
    common.open_standard_streams()
    parser = command_parser()
    options = parser.parse_args(arguments)
    asked = [name for name in _QUESTIONS if vars(options)[name] not in (None, False)]
    if not asked:
        parser.error("nothing to do: say what to ask, such as --status")
    if options.watch and any(isinstance(_QUESTIONS[name], _Act) for name in asked):
        parser.error("--watch: for questions only, not for what changes something")
    servers = common.servers(parser, options)

    def run() -> int:
        with AdminClient(servers) as client:
            try:
                _repeat(client, options, asked)
            except ValueError as error:
                parser.error(str(error))
        return common.OK

    return common.command("gearadmin", run)


def _repeat(client: AdminClient, options: Namespace, asked: list[str]) -> None:
    """Answer once, or with --watch until ^C: on a terminal each time in the same place."""
    told = False
    while True:
        answers: Iterable[str] = (_answer(client, options, name) for name in asked)
        if options.watch and sys.stdout.isatty():
            answers = list(answers)
            print("\x1b[H\x1b[2J", end="")
        for answer in answers:
            print(answer, flush=True)
            if not told:
                _tell_passed_over(client)
                told = True
        if not options.watch:
            return
        time.sleep(options.watch)


def _tell_passed_over(client: AdminClient) -> None:
    for server, why in client.passed_over:
        print(f"gearadmin: {server}: {why}; {client.server} was asked", file=sys.stderr)


def _answer(client: AdminClient, options: Namespace, name: str) -> str:
    question = _QUESTIONS[name]
    if isinstance(question, _Value):
        value = question.ask(client)
        return json.dumps(value) if options.json else printable(str(value))
    if isinstance(question, _Act):
        words = vars(options)[name]
        question.act(client, *(words if isinstance(words, list) else ()))
        return json.dumps("OK") if options.json else "OK"
    if options.json:
        rows = [row if isinstance(row, str) else row._asdict() for row in question.rows(client)]
        return json.dumps(rows)
    if sys.stdout.isatty():
        return table(name, question.rows(client))
    return "\n".join([*map(printable, client.listing(question.command)), "."])


def command_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="gearadmin",
        usage="gearadmin [-h HOST] [-p PORT] QUESTION...",
        description="Ask a Gearman job server how it is, or tidy it.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    questions = parser.add_argument_group("questions, in the order in which they are asked")
    for name, question in _QUESTIONS.items():
        flag = f"--{name}"
        words = question.words if isinstance(question, _Act) else ()
        if words:
            questions.add_argument(
                *(flag,), dest=name, nargs=len(words), metavar=words, help=question.help
            )
        else:
            questions.add_argument(flag, dest=name, action="store_true", help=question.help)
    common.add_servers(parser)
    add = parser.add_argument
    add("--watch", type=common.positive, metavar="SECONDS", help="ask again and again, until ^C")
    add("--json", action="store_true", help="answers as JSON, one a line")
    common.add_help(parser)
    common.add_tls(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
