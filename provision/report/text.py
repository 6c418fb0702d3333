"""What an operator reads: the only place of the toolkit that prints.

Everything shown comes from events. Symbols carry the meaning and colour repeats it: there is
none when the output is not a terminal or NO_COLOR is set. On a terminal each host at work has a
line of its own, redrawn; elsewhere lines are only added.
"""

import os
import sys
from collections import Counter
from collections.abc import Hashable
from threading import RLock
from typing import TextIO

from provision.errors import Interrupted, ToolkitError, Unreachable
from provision.plan import Plan
from provision.report.events import (
    Applied,
    Begun,
    Building,
    Checked,
    Event,
    Failed,
    Finding,
    Planned,
    Proved,
    PutBack,
    Row,
    Skipped,
    Standing,
    Tried,
    Upgraded,
    Verified,
)
from provision.report.folding import fold_failures, fold_names, shown_alike, tell_diffs_once
from provision.report.lines import diff_lines, make_harmless, put_line, wrap_line
from provision.resources.base import Change, Sign
from provision.wording import format_count

NOT_BEGUN = ("not begun", "staged")
STATES = {
    **dict.fromkeys(("ok", "upgraded", "went back"), 32),
    **dict.fromkeys(("warn", "pending", "ready", "changed"), 33),
    **dict.fromkeys(("fail", "rolled back", "failed", "unreachable", "interrupted"), 31),
    **dict.fromkeys(NOT_BEGUN, 31),
}
COLOURS = {"+": 32, "~": 33, "-": 31, "!": 31, "?": 31, **STATES}
UP_AND_CLEAR = "\033[A\033[2K"


class Report:
    """Shows events as they come; safe to use from every host's thread."""

    def __init__(
        self,
        names: list[str],
        *,
        verbose: bool = False,
        plans: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream or sys.stdout
        self._verbose = verbose
        self._plans_yet = plans  # until it is recapped, equal failures are told once
        self._terminal = self._stream.isatty()
        self._redraws = self._terminal and os.environ.get("TERM") != "dumb"
        self._colour = self._redraws and "NO_COLOR" not in os.environ
        self._width = max(map(len, names), default=0)
        self._lock = RLock()
        self._plans: dict[str, Plan] = {}
        self._shown: dict[Hashable, str] = {}  # what was shown of a plan -> its host
        self._alike: dict[tuple[str, str], list[str]] = {}  # hosts whose line is yet to be shown
        self._done: Counter[str] = Counter()
        self._failed: set[str] = set()
        self._states: dict[str, str] = {}
        self._working: dict[str, str] = {}  # host -> its line, while it is at work
        self._took: dict[str, float] = {}
        self._failures: dict[str, list[str]] = {}  # host -> what is told at the end
        self._drawn = 0
        self._silent = False

    def show(self, event: Event) -> None:
        with self._lock:
            if self._silent:
                return
            self._erase_lines()
            folded = Planned | Skipped | Failed if self._plans_yet else Planned | Skipped
            if not isinstance(event, folded):
                self._show_alike()
            match event:
                case Building(target):
                    self._print_line(f"building the release for {target}")
                case Planned(host, plan):
                    self._plans[host] = plan
                    self._failed.discard(host)
                    self._show_plan(host, plan)
                case Standing():
                    self._show_standing(event)
                case Begun(host):
                    self._works_on(host)
                case Applied():
                    self._show_applied(event)
                case Verified(host, seconds):
                    self._took[host] = seconds
                    count = format_count(self._done[host], "change")
                    self._end_line(host, "changed", f"{count}, {seconds:.1f} s")
                case Failed(host, error, seconds):
                    self._show_failure(host, error, seconds)
                case Tried(host, _, seconds):
                    self._end_line(host, "ready", f"{event.told} ({seconds:.1f} s)")
                case Proved(host, summary, seconds):
                    self._working[host] = f"does it work? {summary}"
                    if self._verbose:
                        self._print_line(f"{host:{self._width}}  {seconds:6.2f} s  {summary}")
                case Upgraded(host, release, seconds):
                    self._took[host] = seconds
                    state = "went back" if event.back else "upgraded"
                    self._end_line(host, state, f"{release} ({seconds:.1f} s)")
                case PutBack(host, release, seconds):
                    self._took[host] = seconds
                    self._end_line(host, "rolled back", f"{release} ({seconds:.1f} s)")
                case Row(_, lines, wraps):
                    for line in lines:
                        self._print_line(line, wraps=wraps)
                case Checked():
                    self._show_check(event)
                case Finding():
                    self._show_finding(event)
                case Skipped(host, because):
                    staged = ("staged", "but not in use, ")
                    state, but = staged if self._done[host] else ("not begun", "")
                    self._show_later(host, state, f"{but}because of {fold_names(because)}")
            self._draw_lines()

    def recap(self, seconds: float) -> None:
        """Close a plan: what went wrong, how many hosts stand how, what is left, and the time."""
        self._show_alike()
        self._plans_yet = False
        self._tell_failures()
        self._sum_up(seconds)
        self._shown.clear()  # a later plan is shown as a whole

    def _tell_failures(self) -> None:
        for names, first, more in fold_failures(self._failures):
            self._print_line(f"{names}: ", ("failed", first))
            for line in more:
                self._print_line(f"    {line}")
        self._failures.clear()

    def _sum_up(self, seconds: float) -> None:
        states = Counter(self._states.values())
        counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
        hosts = format_count(len(self._states), "host")
        self._print_line(f"{hosts}: {counts}{self._pending_counts()} ({seconds:.1f} s)")

    def end(self, seconds: float, *, limit: bool = True) -> None:
        """Close a run: each host in a table, as :meth:`recap`, and who was not begun.

        ``limit``: those can be named to go on with them alone.
        """
        self._erase_lines()
        self._show_alike()
        self._working.clear()  # of what was not told to have ended
        wide = max(map(len, self._states.values()), default=0)
        self._print_line(f"{'':{self._width}}  {'':{wide}}     ok  changed  failed  seconds")
        for host, state in self._states.items():
            done, plan = self._done[host], self._plans.get(host)
            failed = int(host in self._failed)
            ok = plan.resources - len(plan.changes) if plan else 0
            took = f"{self._took[host]:9.1f}" if host in self._took else ""
            counts = f"{max(ok, 0):5}  {done:7}  {failed:6}{took}"
            self._print_line(f"{host:{self._width}}  ", (state, f"{state:{wide}}"), f"  {counts}")
            if plan and plan.problems:
                problems = [f"{each.sign} {each.message}" for each in plan.problems]
                self._failures.setdefault(host, ["no plan can be made for it", *problems])
        self._tell_failures()
        left = [host for host, state in self._states.items() if state in NOT_BEGUN]
        if limit and left:
            self._print_line(f"to go on with these alone: --limit {','.join(left)}")
        self._sum_up(seconds)

    def say(self, line: str) -> None:
        """A remark that changes nothing."""
        with self._lock:
            if self._silent:
                return
            self._erase_lines()
            self._show_alike()
            for number, each in enumerate(line.split("\n")):  # as of an error with what was said
                self._print_line(("    " if number else "") + each)
            self._draw_lines()

    def silence(self, *lines: str) -> None:
        """Say these last lines, and from then on nothing."""
        with self._lock:
            self._working.clear()
            for line in lines:
                self.say(line)
            self._silent = True

    def _pending_counts(self) -> str:
        if set(self._states.values()) == {"ok"}:
            return "; nothing to change"
        pending = [plan for host, plan in self._plans.items() if self._states[host] == "pending"]
        signs = [change.sign for plan in pending for change in plan.changes]
        words: dict[Sign, str] = {"+": "to add", "~": "to change", "-": "to remove"}
        counts = ", ".join(f"{signs.count(sign)} {word}" for sign, word in words.items())
        return f": {counts}" if signs else ""

    def confirm(self, question: str) -> bool:
        """Ask the person at the terminal. Raises :class:`ToolkitError` when there is none."""
        if not (self._terminal and sys.stdin.isatty()):
            raise ToolkitError("not a terminal, so you cannot be asked: use --yes to apply")
        try:
            return input(f"{make_harmless(question)} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            self._print_line("")
            return False

    # -- the lines ----------------------------------------------------------------------

    def _show_plan(self, host: str, plan: Plan) -> None:
        """Of hosts with the same to tell, show the first, and the others in one line."""
        if not plan.changes and not plan.problems:
            self._show_later(host, "ok", f"{plan.resources} resources as wanted")
            return
        state = "failed" if plan.problems else "pending"
        self._failed |= {host} if plan.problems else set()
        problems = f"{format_count(len(plan.problems), 'problem')}, " if plan.problems else ""
        count = problems + format_count(len(plan.changes), "change")
        keys = shown_alike(host, plan, verbose=self._verbose)
        first = next((self._shown[key] for key in keys if key in self._shown), host)
        self._shown |= dict.fromkeys(keys, first)
        if first != host:
            self._show_later(host, state, f"{count}, as {first}")
            return
        self._end_line(host, state, count)
        for problem in plan.problems:
            self._print_line("  ", (problem.sign, problem.sign), f" {problem.message}")
        for change in tell_diffs_once(plan.changes):
            self._show_change(change)

    def _show_later(self, host: str, state: str, note: str) -> None:
        self._states[host] = state
        self._alike.setdefault((state, note), []).append(host)

    def _show_alike(self) -> None:
        alike, self._alike = self._alike, {}
        for (state, note), names in alike.items():
            self._print_line(f"{fold_names(names):{self._width}}  ", (state, state), f"  {note}")

    def _show_change(self, change: Change) -> None:
        reason = f"  ({change.reason})" if change.reason else ""
        self._print_line("  ", (change.sign, change.sign), f" {change.summary}{reason}")
        # What a new file will hold is worth a page only to those who ask.
        if change.diff and (change.sign != "+" or self._verbose):
            for line in diff_lines(change.diff):
                self._print_line("      ", (line[:1], line))

    def _show_standing(self, event: Standing) -> None:
        state = "pending" if event.pending else "ok"
        pending = f", {format_count(event.pending, 'change')} due" if event.pending else ""
        releases = ", ".join((f"release {event.release}", *event.apps))
        self._end_line(event.host, state, f"{releases}{pending}")
        wide = max(34, *map(len, event.units)) if event.units else 0
        for name, unit in event.units.items():
            process = f"  pid {unit['pid']}" if unit.get("pid") else ""
            restarts = f"  {format_count(n, 'restart')}" if (n := unit.get("restarts")) else ""
            self._print_line(f"  {name:{wide}} {unit['active']}{process}{restarts}")

    def _show_check(self, event: Checked) -> None:
        state = "failed" if event.problem else "ok"
        self._print_line((state, f"{state:6}"), f"  {event.name} ({event.seconds:.2f} s)")
        if event.problem:
            for line in event.problem.splitlines():
                self._print_line(f"    {line}")
            self._print_line(f"    try: {event.cure}")

    def _show_finding(self, event: Finding) -> None:
        first, *more = event.text.split("\n")
        state = (event.state, f"{event.state:4}")
        self._print_line(f"{event.host:{self._width}}  ", state, f"  {event.check:10}  {first}")
        for line in [*more, *([f"try: {event.cure}"] if event.cure else [])]:
            self._print_line(" " * (self._width + 20) + line)

    def _show_applied(self, event: Applied) -> None:
        host, outcome = event.host, event.outcome
        if outcome.error is None:
            self._done[host] += 1
            self._works_on(host)
        if self._verbose:
            seconds = f"{outcome.seconds:6.2f} s"
            self._print_line(
                f"{host:{self._width}}  {seconds}  {event.change.operation.shell_line}"
            )

    def _works_on(self, host: str) -> None:
        """A host's line while it is at work: what is being done there."""
        changes, done = self._plans[host].changes, self._done[host]
        now = changes[done].summary if done < len(changes) else "is it as wanted?"
        self._working[host] = f"{min(done + 1, len(changes))} of {len(changes)}: {now}"

    def _show_failure(self, host: str, error: ToolkitError, seconds: float) -> None:
        state = "unreachable" if isinstance(error, Unreachable) else "failed"
        state = "interrupted" if isinstance(error, Interrupted) else state
        self._took[host] = seconds
        self._failed |= {host} if state != "interrupted" else set()
        lines = str(error).removeprefix(f"{host}: ").splitlines()
        if self._plans_yet:
            self._show_later(host, state, lines[0])
        else:
            self._end_line(host, state, f"{lines[0]} ({seconds:.1f} s)")
        if len(lines) > 1:
            self._failures[host] = lines

    def _end_line(self, host: str, state: str, note: str) -> None:
        self._states[host] = state
        self._working.pop(host, None)
        self._print_line(f"{host:{self._width}}  ", (state, state), f"  {note}")

    def _print_line(self, *pieces: str | tuple[str, str], wraps: bool = True) -> None:
        """Print a line; what a pair's first is (a state, a sign) gives its second a colour."""
        *first, last = pieces
        shown = self._colour_piece(last)
        if wraps and self._redraws and isinstance(last, str):
            columns = os.get_terminal_size(self._stream.fileno()).columns
            before = "".join(each if isinstance(each, str) else each[1] for each in first)
            shown = wrap_line(before, shown, columns)
        put_line("".join(map(self._colour_piece, first)) + shown, self._stream)

    def _colour_piece(self, piece: str | tuple[str, str]) -> str:
        key, text = ("", piece) if isinstance(piece, str) else piece
        colour = COLOURS.get(key) if self._colour else None
        shown = make_harmless(text)
        return f"\033[{colour}m{shown}\033[0m" if colour else shown

    # -- the lines that are redrawn -----------------------------------------------------

    def _erase_lines(self) -> None:
        print(UP_AND_CLEAR * self._drawn, end="", file=self._stream)
        self._drawn = 0

    def _draw_lines(self) -> None:
        if not self._redraws:
            return
        columns, rows = os.get_terminal_size(self._stream.fileno())
        for host, line in list(self._working.items())[: rows - 2]:
            put_line(make_harmless(f"{host:{self._width}}  {line}")[: columns - 1], self._stream)
            self._drawn += 1
