"""Between Invoke and the engine: what every task shares.

A task is a function that returns an exit status or None. Whatever the engine raises
becomes a message on stderr and the status its class documents; a traceback means a bug.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.tasks import Task, task

from gearman_py.log_format import LOG_FORMATS
from gearman_py.printable import printable
from provision.errors import ToolkitError
from provision.invoke_line import same_hosts
from provision.options import BATCH, HOSTS_AT_ONCE, SETTLE
from provision.report.json import tell_error

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130
UNREAD = 141

HOSTS = {"hosts": "the inventory: a folder such as inventory/prod, a file, or - for standard input"}
LIMIT = {"limit": "only these hosts or groups, comma-separated; * matches, ! excludes"}
PART = LIMIT | {
    "tags": "only resources of these roles or kinds, such as worker, unit, file; comma-separated",
    "parallel": f"how many hosts at once ({HOSTS_AT_ONCE})",
}
OUTPUT = {
    "verbose": "show each operation as the shell line it equals, and new files whole",
    "json": "tell what happens as lines of JSON on stdout",
}
RELEASE = {
    "release": "this one, also of an app; tree: those made of this tree and apps (what a host runs)"
}
YES = {
    "yes": "apply without asking",
    "wait": "seconds to wait for hosts that another run has locked (0)",
}

ROLL = {
    **{key: value for key, value in PART.items() if key != "tags"},
    **OUTPUT,
    **YES,
    "batch": f"how many hosts at once after the first: 1, or a share of their group ({BATCH})",
    "max_fail": "how many hosts may fail before all are put back (0)",
    "settle": f"seconds that a unit must stay up ({SETTLE:g})",
    "gap": "a function may be without a worker for a moment",
    "again": "also a release that was given up before",
    "app": "this app of gearman_apps with its workers; all else stays as it is",
}

Parameters = ParamSpec("Parameters")


def command(**options: Any) -> Callable[[Callable[Parameters, int | None]], Task[Any]]:
    """Make a task of a function; ``options`` go to Invoke's ``@task``."""

    def decorate(function: Callable[Parameters, int | None]) -> Task[Any]:
        @wraps(function)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
            # Releases, keys and inventories that are written here: no others may change them.
            os.umask(os.umask(0o022) | 0o022)
            try:
                with same_hosts(str(kwargs.get("hosts", ""))):
                    status = function(*args, **kwargs)
                sys.stdout.flush()
            except ToolkitError as error:
                if kwargs.get("json"):
                    tell_error(type(error).__name__, error.status, str(error))
                raise Exit(f"invoke: {printable(str(error))}", code=error.status) from error
            except KeyboardInterrupt:
                if kwargs.get("json"):
                    tell_error("Interrupted", INTERRUPTED, "interrupted")
                raise Exit("invoke: interrupted", code=INTERRUPTED) from None
            except BrokenPipeError:
                raise Exit(code=leave_unread()) from None
            if status:
                raise Exit(code=status)

        made: Task[Any] = task(auto_shortflags=False, klass=_Command, **options)(run)
        return made

    return decorate


def leave_unread() -> int:
    """The status where the reader closed the pipe, as `| head` does; Python tells it no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


class _Flag(Argument):
    """A flag whose value is looked at as it is read: a mistake there is told, and no traceback."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        # Where a variable of the shell was empty, all would be meant, and not none.
        name = self.names[0] if self.positional else f"--{self.names[0]}"
        if value == "":
            raise ParseError(f"invoke: {name} is empty: give it a value, or leave it out")
        if self.positional and str(value).startswith("-"):
            raise ParseError(f"No idea what '{value}' is!")
        try:
            super().set_value(value, cast)
        except ValueError:
            kind = "a whole number" if self.kind is int else "a number"
            raise ParseError(f"invoke: {name} should be {kind}, not {value!r}") from None


class _Command(Task[Any]):
    """A task; one with ``--json`` can be told so by ``--log-format json`` too, as gearmand is."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        found = super().get_arguments(ignore_unknown_help)
        if any(each.name == "json" for each in found):
            what = "text, or json: as --json (text)"
            found.append(Argument("log-format", attr_name="log_format", default="text", help=what))
        for each in found:
            each.__class__ = _Flag  # Task makes them itself, and of one class only
        return found

    def __call__(self, *args: Any, log_format: str = "text", **kwargs: Any) -> Any:
        if log_format not in LOG_FORMATS:
            known = " or ".join(LOG_FORMATS)
            raise Exit(f"invoke: unknown --log-format {log_format!r}; expected {known}", code=1)
        return super().__call__(*args, **kwargs | ({"json": True} if log_format == "json" else {}))


def inventory_path(hosts: str) -> Path:
    """The folder or file that ``--hosts`` names, or an error that lists what there is."""
    if hosts:
        return Path(hosts)
    known = sorted(path.parent for path in ROOT.glob("inventory/*/hosts.yml"))
    names = " or ".join(f"--hosts {path.relative_to(ROOT)}" for path in known)
    raise ToolkitError(f"which hosts? Say {names}")


def run_python(*arguments: str, output: int | None = None) -> int:
    """The exit status of this Python with these arguments, run in the checkout."""
    with start_python(*arguments, output=output) as process:
        return process.wait()


def start_python(*arguments: str, output: int | None = None) -> subprocess.Popen[bytes]:
    """As :func:`run_python`, and it goes on; ``output`` is a descriptor for all that it prints."""
    # Tests start hundreds of processes: without bytecode each would compile our modules again.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
