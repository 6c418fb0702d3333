"""gearadmin: inspect job servers, and manage their functions and jobs.

Several commands run in a fixed order, that of the C tool. The output of one job server is also that
of the C tool, byte for byte, except on a terminal, where listings have columns with headings.
"""

import sys
import time
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gearman_py.admin.client import AdminClient
from gearman_py.admin.sync_several import ask_members, find_silent, is_unknown
from gearman_py.cli import common
from gearman_py.cli.answer_text import ask_question, format_answer, format_answers
from gearman_py.cli.check import CheckStatus, check_servers
from gearman_py.cli.confirmation import may_remove
from gearman_py.cli.questions import QUESTIONS, JobReport, SteeringAction
from gearman_py.errors import AdminError, GearmanError, ServerUnavailable
from gearman_py.option_parser import OptionParser
from gearman_py.printable import printable

_EPILOG = f"""\
All job servers are asked; with several, a last column says which of them
answered. What changes a function or a server is done at all of them, what
changes a job where it is.
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
        return _run_top(words[1:])
    parser = command_parser()
    try:
        options = parser.parse_args(words)
    except SystemExit as stop:
        if "--check" in words and stop.code == common.USAGE:
            return CheckStatus.UNKNOWN
        raise
    asked = [name for name in QUESTIONS if vars(options)[name] not in (None, False)]
    if options.check:
        if other := [*asked, *(name for name in ("json", "watch") if vars(options)[name])]:
            print(f"gearadmin: --check stands alone, without --{other[0]}", file=sys.stderr)
            return CheckStatus.UNKNOWN
        return _check(parser, options)
    if not asked:
        parser.error("nothing to do: expected a command, such as --status")
    if options.watch and any(isinstance(QUESTIONS[name], SteeringAction) for name in asked):
        parser.error("--watch: cannot repeat commands that change something")
    servers = common.parse_servers_option(parser, options)
    for name in asked:
        question = QUESTIONS[name]
        if len(servers) > 1 and isinstance(question, SteeringAction) and question.alone:
            parser.error(f"--{name}: expected one job server (-h), not {len(servers)}")

    def ask_servers() -> int:
        with AdminClient(servers) as client:
            try:
                if not may_remove(client, options):
                    print("nothing was changed")
                    return common.FAILED
                answers = ServerAnswers(client, options)
                answers.print_all(asked)
            except ValueError as error:
                parser.error(str(error))
        return answers.status

    return common.run_command_line("gearadmin", ask_servers)


def _run_top(arguments: Sequence[str]) -> int:
    try:
        from gearman_py.cli import top_window  # not at the top: a Python may have no curses
    except ImportError as error:
        print(f"gearadmin: top: {error}: this Python was built without it", file=sys.stderr)
        return common.USAGE
    return top_window.main(arguments)


def _check(parser: ArgumentParser, options: Namespace) -> int:
    warning, critical = options.warning, options.critical
    if None not in (warning, critical) and warning > critical:
        print(f"gearadmin: --warning {warning} is more than --critical {critical}", file=sys.stderr)
        return CheckStatus.UNKNOWN
    servers = common.parse_servers_option(parser, options)
    status, line = check_servers(servers, options.warning, options.critical)
    print(line)
    return status


class ServerAnswers:
    """What the servers say to the commands, and the exit status that tells what they did not."""

    def __init__(self, client: AdminClient, options: Namespace) -> None:
        self._client = client
        self._options = options
        self._silent: dict[str, str] = {}
        self.status = common.OK

    def print_all(self, asked: list[str]) -> None:
        """Answer once, or repeatedly with --watch until ^C; on a terminal, in the same place."""
        while True:
            texts: Iterable[str | bytes] = map(self._answer, asked)
            if self._options.watch and sys.stdout.isatty():
                texts = list(texts)
                print("\x1b[H\x1b[2J", end="")
            for text in texts:
                if text:
                    _write_answer(text)
            if not self._options.watch:
                return
            time.sleep(self._options.watch)

    def _answer(self, name: str) -> str | bytes:
        client, options = self._client, self._options
        question = QUESTIONS[name]
        if not client.members:
            return format_answer(name, ask_question(client, options, name), options)
        if isinstance(question, SteeringAction | JobReport) and question.of_job:
            try:
                answer = ask_question(client, options, name)
            except ServerUnavailable as error:
                if len(error.attempts) == len(client.members):
                    raise
                self.status = self.status or common.PARTIAL
                print(f"gearadmin: {printable(str(error))}", file=sys.stderr)
                return ""
            if isinstance(answer, dict | bytes):
                return format_answer(name, answer, options)
            return format_answers(name, [(str(client.server), answer)], options)
        answers = ask_members(client.members, lambda each: ask_question(each, options, name))
        self._report(answers)
        pairs = zip(client.members, answers, strict=True)
        found = [
            (str(each.server), answer)
            for each, answer in pairs
            if not isinstance(answer, GearmanError)
        ]
        return format_answers(name, found, options) if found else ""

    def _report(self, answers: Sequence[object]) -> None:
        """Say on stderr which servers are silent, each once, and which refused."""
        silent = dict(find_silent(self._client.members, answers))
        if len(silent) == len(answers):
            raise ServerUnavailable([*silent.items()])
        for server, why in silent.items():
            if server not in self._silent:
                print(f"gearadmin: {server} does not answer: {why}", file=sys.stderr)
            self.status = self.status or common.PARTIAL
        self._silent = silent
        done = any(not isinstance(answer, GearmanError) for answer in answers)
        refused = [each for each in answers if isinstance(each, AdminError)]
        for error in refused if not done else (each for each in refused if not is_unknown(each)):
            self.status = common.report_error("gearadmin", error)


def _write_answer(text: str | bytes) -> None:
    if isinstance(text, bytes):  # a result
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    else:
        print(text, flush=True)


class StoreOnce(Action):
    """Refuses an option that is given twice: the first would be dropped without a word."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice: run gearadmin once for each")
        setattr(namespace, self.dest, values)


def command_parser() -> ArgumentParser:
    parser = OptionParser(
        prog="gearadmin",
        usage="gearadmin [-h HOST]... [-p PORT] COMMAND...\n       gearadmin top [-h HOST]...",
        description="Inspect or manage Gearman job servers.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    _add_questions(
        parser.add_argument_group("commands, in the order in which they run").add_argument
    )
    common.add_servers(parser)
    _add_options(parser.add_argument)
    parser.set_defaults(until=0.0)  # when the last job failed that --discard-all asked for
    common.add_help(parser)
    common.add_tls(parser)
    return parser


def _add_questions(add: Callable[..., object]) -> None:
    for name, question in QUESTIONS.items():
        flag = f"--{name}"
        words = question.words if isinstance(question, SteeringAction) else ()
        repeated = isinstance(question, SteeringAction) and question.repeated
        if isinstance(question, JobReport):
            facts: dict[str, Any] = {"metavar": "HANDLE"}
            if question.optional:
                facts = {"metavar": "FUNCTION", "nargs": "?", "const": ""}
            add(flag, dest=name, help=question.help, **facts)
            continue
        if words:
            nargs = "+" if repeated else len(words)
            add(
                *(flag,),
                dest=name,
                action=StoreOnce,
                nargs=nargs,
                metavar=words,
                help=question.help,
            )
        else:
            add(flag, dest=name, action="store_true", help=question.help)


def _add_options(add: Callable[..., object]) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
