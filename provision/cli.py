"""Between Invoke and the engine: what every task shares.

A task is a function that returns an exit status or None. Whatever the engine raises
becomes a message on stderr and the status its class documents; a traceback means a bug.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from invoke.exceptions import Exit
from invoke.tasks import Task, task

from provision.errors import ToolkitError

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130

Parameters = ParamSpec("Parameters")


def command(**options: Any) -> Callable[[Callable[Parameters, int | None]], Task[Any]]:
    """Make a task of a function; ``options`` go to Invoke's ``@task``."""

    def decorate(function: Callable[Parameters, int | None]) -> Task[Any]:
        @wraps(function)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
            try:
                status = function(*args, **kwargs)
            except ToolkitError as error:
                raise Exit(f"invoke: {error}", code=error.status) from error
            except KeyboardInterrupt:
                raise Exit("invoke: interrupted", code=INTERRUPTED) from None
            if status:
                raise Exit(code=status)

        made: Task[Any] = task(auto_shortflags=False, **options)(run)
        return made

    return decorate


def inventory_folder(hosts: str) -> Path:
    """The folder that ``--hosts`` names, or an error that lists what there is."""
    if hosts:
        return Path(hosts)
    known = sorted(path.parent for path in ROOT.glob("inventory/*/hosts.yml"))
    names = " or ".join(f"--hosts {path.relative_to(ROOT)}" for path in known)
    raise ToolkitError(f"which hosts? Say {names}")
