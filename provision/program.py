"""``./invoke``: Invoke's program, which tells mistakes on the command line in our words."""

import re
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from invoke._version import __version__
from invoke.exceptions import Exit, ParseError
from invoke.parser.context import ParserContext
from invoke.program import Program

MISSING = re.compile(r"'(.+)' did not receive required positional arguments: '(\w+)'")
UNKNOWN = re.compile(r"No idea what ['\"](.*)['\"] is!")
JSON = re.compile(r"(?:^| )--(?:json|log-format[ =]json)(?: |$)")
HELP = frozenset(("--help", "-h"))
# Invoke's own flags, for what it runs itself: nothing here is run by it, so they would do nothing.
WITHOUT_EFFECT = (
    "command-timeout",
    "config",
    "dry",
    "echo",
    "hide",
    "no-dedupe",
    "prompt-for-sudo-password",
    "pty",
    "warn-only",
)
USAGE = """\
Usage: ./invoke TASK [--flags of TASK]

./invoke --help TASK tells a task's flags.
"""
NO_VALUE = re.compile(r"Flag <\w+: ([\w-]+).*> needed value and was not given one!")


class FrontDoor(Program):
    """Invoke with the tasks of this checkout."""

    def parse_collection(self) -> None:
        if self.args.help.value is True:  # of no task: the tasks, which Invoke would not load
            sys.stdout.write(f"{USAGE}\n")
            self.args.help.value = ""
            self.args.list.set_value(True, cast=False)
        super().parse_collection()  # loads all tasks
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def parse_tasks(self) -> None:
        words = self.core.unparsed
        if words and words[0] in self.collection.task_names and HELP.intersection(words):
            # Invoke would take it for the name that `retire` needs.
            self.args.help.value, self.core.unparsed = words[0], []
        try:
            super().parse_tasks()
        except ParseError as error:
            told = self._reword(error)
            if words[:1] == ["check"]:  # a plugin: status 1 would be a warning
                from gearman_py.cli.check import CheckStatus

                sys.stdout.write(f"GEARMAN FLEET UNKNOWN - {told.removeprefix('invoke: ')}\n")
                raise Exit(code=CheckStatus.UNKNOWN) from error
            raise _tell_usage(told, words, error.context) from error
        self._refuse_without_effect()

    def parse_cleanup(self) -> None:
        try:
            super().parse_cleanup()
        except ParseError as error:
            raise ParseError(self._reword(error), error.context) from error

    def print_help(self) -> None:
        sys.stdout.write(f"{USAGE}\n")
        self.list_tasks()

    def _refuse_without_effect(self) -> None:
        for name in WITHOUT_EFFECT:
            if self.args[name].got_value:
                cure = "plan shows what deploy would change" if name == "dry" else "leave it out"
                told = f"invoke: --{name} has no effect on any task; {cure}"
                raise _tell_usage(told, self.core.unparsed, None)

    def _reword(self, error: ParseError) -> str:
        told = str(error)
        if found := MISSING.fullmatch(told):
            what = error.context.args[found[2]].help if error.context else ""
            return f"invoke: {found[1]} needs {found[2].upper()}: {what}"
        if found := UNKNOWN.fullmatch(told):
            return f"invoke: {self._describe_unknown(found[1], error.context)}"
        if found := NO_VALUE.fullmatch(told):
            return f"invoke: --{found[1]} needs a value"
        return told

    def _describe_unknown(self, word: str, context: ParserContext | None) -> str:
        task = context.name if context else None
        if word.startswith("-"):
            kind, known = "flag", list(context.flags) if context else []
        else:
            kind, known = "task", list(self.collection.task_names)
        near = get_close_matches(word.partition("=")[0], known, 1)
        cure = f"see ./invoke {f'--help {task}' if task else '--list'}"
        for each in context.positional_args if context else ():
            cure = f"{task} takes {(each.name or '').upper()}: {each.help}"
        where = f" after {task}" if task else ""
        return f"unknown {kind} {word}{where}; {f'did you mean {near[0]}?' if near else cure}"


def _tell_usage(told: str, words: Sequence[str], context: ParserContext | None) -> ParseError:
    """The error of a wrong command line, which is told as JSON too if the words ask for that."""
    if JSON.search(" ".join(words).partition(" -- ")[0]):
        from provision.report.json import tell_error

        tell_error("UsageError", 1, told.removeprefix("invoke: "))
    return ParseError(told, context)


def run_tasks() -> None:
    """Do what the command line says, and exit."""
    program = FrontDoor(
        version=__version__, name="Invoke", binary="invoke", binary_names=["invoke"]
    )
    try:
        try:
            program.run(["invoke", *sys.argv[1:]])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        from provision.cli import leave_unread

        raise SystemExit(leave_unread()) from None
