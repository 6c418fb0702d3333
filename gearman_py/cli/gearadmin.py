"""gearadmin: inspect a job server, and manage its functions and jobs.

Several commands run in a fixed order, that of the C tool. The output is also that of the C tool,
byte for byte, except on a terminal, where listings have columns with headings.
"""

import json
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from typing import Any

from gearman_py.admin.client import AdminClient
from gearman_py.cli import common, failed_jobs, top
from gearman_py.cli.check import CheckStatus, check_servers
from gearman_py.cli.questions import QUESTIONS, JobReport, Ping, SteeringAction, ValueQuestion
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
    asked = [name for name in QUESTIONS if vars(options)[name] not in (None, False)]
    if options.check:
        return _check(parser, options)
    if not asked:
        parser.error("nothing to do: expected a command, such as --status")
    if options.watch and any(isinstance(QUESTIONS[name], SteeringAction) for name in asked):
        parser.error("--watch: cannot repeat commands that change something")
    servers = common.parse_servers_option(parser, options)

    def ask_server() -> int:
        with AdminClient(servers) as client:
            try:
                if not _may_remove(client, options):
                    print("nothing was changed")
                    return common.FAILED
                _answer_repeatedly(client, options, asked)
            except ValueError as error:
                parser.error(str(error))
        return common.OK

    return common.run_command_line("gearadmin", ask_server)


def _may_remove(client: AdminClient, options: Namespace) -> bool:
    """Ask whether to remove jobs, unless --yes was given. Raises ValueError without a terminal."""
    for flag in ("purge", "discard-all"):
        if (words := vars(options)[flag]) is None or options.yes:
            continue
        if not sys.stdin.isatty():
            raise ValueError(f"--{flag}: expected --yes, since this is not a terminal")
        (function,) = words
        if flag == "purge":
            rows: Iterable[Any] = client.status()
            number = sum(row.waiting for row in rows if row.name == function)
            question = f"cancel {failed_jobs.count_jobs(number)} that do not run"
        else:
            number = len(failed_jobs.list_failed(client, function, options.reason))
            question = f"discard {failed_jobs.count_jobs(number)} that failed"
        print(f"{printable(function)}: {question}? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return False
    return True


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
    question = QUESTIONS[name]
    if isinstance(question, ValueQuestion):
        value = question.ask(client)
        if not options.json:
            return printable(str(value))
        return json.dumps(value._asdict() if isinstance(value, Ping) else value)
    if isinstance(question, SteeringAction):
        words = vars(options)[name]
        if question.to_servers:
            words = [common.parse_servers_of(options, words)]
        more = {"reason": options.reason} if question.filtered else {}
        said = question.act(client, *(words if isinstance(words, list) else ()), **more) or "OK"
        return json.dumps(said) if options.json else said
    if isinstance(question, JobReport):
        return _format_report(name, question.read(client, options), options)
    if options.json:
        rows = [row if isinstance(row, str) else row._asdict() for row in question.rows(client)]
        return json.dumps(rows)
    if sys.stdout.isatty():
        return format_table(name, question.rows(client))
    return "\n".join([*map(printable, client.listing(question.command)), "."])


def _format_report(name: str, found: Sequence[Any] | dict[str, Any], options: Namespace) -> str:
    if isinstance(found, dict):
        if options.json:
            return json.dumps(found)
        width = max(map(len, found))
        return "\n".join(f"{key:{width}}  {printable(str(value))}" for key, value in found.items())
    if options.json:
        return json.dumps([row._asdict() for row in found])
    if sys.stdout.isatty():
        return format_table(name, found)
    return "\n".join(["\t".join(printable(str(cell)) for cell in row) for row in found] + ["."])


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
    for name, question in QUESTIONS.items():
        flag = f"--{name}"
        words = question.words if isinstance(question, SteeringAction) else ()
        if isinstance(question, JobReport):
            facts: dict[str, Any] = {"metavar": "HANDLE"}
            if question.optional:
                facts = {"metavar": "FUNCTION", "nargs": "?", "const": ""}
            questions.add_argument(flag, dest=name, help=question.help, **facts)
            continue
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
    add("--yes", action="store_true", help="--purge, --discard-all: do not ask")
    add(
        *("--reason",),
        default="",
        metavar="TEXT",
        help="--failed, --retry-all, --discard-all: only jobs that failed for a reason with TEXT",
    )
    add("--json", action="store_true", help="print answers as JSON, one per line")
    common.add_help(parser)
    common.add_tls(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
