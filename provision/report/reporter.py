"""Who is told what happens: a person at a terminal, or a program that reads JSON."""

from collections.abc import Sequence
from typing import Protocol

from provision.options import Options
from provision.report.events import Event
from provision.report.json import JsonReport
from provision.report.quiet import QuietReport
from provision.report.text import Report


class Reporter(Protocol):
    """Shows events as they come; safe to use from every host's thread."""

    def show(self, event: Event) -> None: ...

    def recap(self, seconds: float) -> None:
        """Close a plan."""

    def end(self, seconds: float, *, limit: bool = True) -> None:
        """Close a run that changed hosts."""

    def say(self, line: str) -> None:
        """A remark that is not about one host."""

    def silence(self, *lines: str) -> None:
        """Say these last lines, and from then on nothing."""

    def confirm(self, question: str) -> bool:
        """Ask before anything is changed. Raises :class:`ToolkitError` if it cannot."""


def make_reporter(options: Options, names: Sequence[str], *, plans: bool = False) -> Reporter:
    """The one that the operator asked for. ``names``: the hosts', to align what is told.

    ``plans``: a plan of the hosts comes first.
    """
    if options.quiet:
        return QuietReport()
    return (
        JsonReport() if options.json else Report(list(names), verbose=options.verbose, plans=plans)
    )
