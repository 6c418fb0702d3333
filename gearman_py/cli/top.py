"""What gearadmin top shows: all job servers as one, looked at again and again.

Servers that do not count (C gearmand) show no rates.
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from gearman_py.admin.answers import FunctionStats, join_stats
from gearman_py.admin.client import AdminClient
from gearman_py.cli import common
from gearman_py.errors import AdminError, GearmanError, ServerUnavailable
from gearman_py.net.servers import ServerAddress
from gearman_py.option_parser import OptionParser
from gearman_py.printable import printable

SERVER_TIMEOUT = 2.0  # seconds
KEYS = "q quit  j/k move  s sort  r reverse  / filter"
_EPILOG = f"""\
keys: {KEYS}; Enter ends a filter, Esc clears it.

examples:
  gearadmin top -h one.example.org -h two.example.org
"""


class TopRow(NamedTuple):
    """A function: its counts over all servers, and what happens in a second."""

    stats: FunctionStats
    accepted: float = 0.0
    ended: float = 0.0
    failed: float = 0.0
    run: float = 0.0  # seconds that a run took, of those that ended last


class _Column(NamedTuple):
    heading: str
    width: int
    value: Callable[[TopRow], float | str]


COLUMNS = (
    _Column("WAITING", 8, lambda row: row.stats.waiting),
    _Column("RUNNING", 8, lambda row: row.stats.running),
    _Column("WORKERS", 8, lambda row: row.stats.workers),
    _Column("OLDEST", 7, lambda row: row.stats.oldest_seconds),
    _Column("IN/S", 8, lambda row: row.accepted),
    _Column("DONE/S", 8, lambda row: row.ended),
    _Column("FAIL/S", 7, lambda row: row.failed),
    _Column("RUN", 7, lambda row: row.run),
    _Column(
        "FUNCTION",
        0,
        lambda row: (
            row.stats.name + " (paused)" * bool(row.stats.paused or row.stats.server_paused)
        ),
    ),
)
SECONDS = {"OLDEST", "RUN"}
RATES = {"IN/S", "DONE/S", "FAIL/S"}


@dataclass
class Snapshot:
    """What the servers said: functions by name, and why others said nothing."""

    when: float = 0.0
    functions: dict[str, FunctionStats] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    servers: int = 0


def ask_server(server: ServerAddress) -> list[FunctionStats] | str:
    """The functions of one server, or why it does not say."""
    limit = SERVER_TIMEOUT
    with AdminClient([server], connect_timeout=limit, timeout=limit) as client:
        try:
            return _ask_stats(client)
        except ServerUnavailable:
            return f"{server}: {client.passed_over[0][1]}"
        except GearmanError as error:
            return str(error)


def _ask_stats(client: AdminClient) -> list[FunctionStats]:
    try:
        return client.stats()
    except AdminError:  # it does not know the command
        return [
            FunctionStats(row.name, row.total, row.running, row.waiting, 0, row.workers)
            for row in client.status()
        ]


def take_snapshot(servers: Sequence[ServerAddress], pool: ThreadPoolExecutor) -> Snapshot:
    """Ask all servers at once."""
    snapshot = Snapshot(servers=len(servers))
    for answer in pool.map(ask_server, servers):
        if isinstance(answer, str):
            snapshot.failures.append(answer)
            continue
        for row in answer:
            known = snapshot.functions.get(row.name)
            snapshot.functions[row.name] = join_stats(known, row) if known else row
    snapshot.when = time.monotonic()
    return snapshot


def compute_rows(before: Snapshot, now: Snapshot) -> list[TopRow]:
    """The functions, with what happened between two snapshots."""
    seconds = now.when - before.when
    rows = []
    for name, stats in now.functions.items():
        old = before.functions.get(name)
        if old is None or not before.when or stats.started < old.started:  # restarted
            rows.append(TopRow(stats))
            continue
        failed = stats.failed - old.failed
        ended = stats.completed - old.completed + failed
        run = (stats.run_seconds - old.run_seconds) / ended if ended else 0.0
        accepted = stats.accepted - old.accepted
        rows.append(TopRow(stats, accepted / seconds, ended / seconds, failed / seconds, run))
    return rows


class TopScreen:
    """What is shown: the rows, and how the person wants them."""

    def __init__(self, sort: str = "WAITING", wanted: str = "") -> None:
        self.before = self.now = Snapshot()
        self.sort = sort
        self.reverse = False
        self.wanted = wanted
        self.typing = False
        self.selected = 0

    def update(self, snapshot: Snapshot) -> None:
        """Show newer values."""
        self.before, self.now = self.now, snapshot

    def press(self, key: str) -> bool:
        """Do what a key is for; return whether to go on."""
        if self.typing:
            self._type(key)
        elif key == "q":
            return False
        elif key in ("j", "KEY_DOWN"):
            self.selected += 1
        elif key in ("k", "KEY_UP"):
            self.selected -= 1
        elif key == "s":
            names = [column.heading for column in COLUMNS]
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
        elif key == "r":
            self.reverse = not self.reverse
        elif key == "/":
            self.typing = True
        elif key == "\x1b":
            self.wanted = ""
        return True

    def _type(self, key: str) -> None:
        if key in ("\n", "\r", "KEY_ENTER"):
            self.typing = False
        elif key == "\x1b":
            self.typing, self.wanted = False, ""
        elif key in ("\x7f", "\b", "KEY_BACKSPACE"):
            self.wanted = self.wanted[:-1]
        elif len(key) == 1 and key.isprintable():
            self.wanted += key

    def rows(self) -> list[TopRow]:
        """The rows that are wanted, in their order."""
        rows = [row for row in compute_rows(self.before, self.now) if self.wanted in row.stats.name]
        column = next(each for each in COLUMNS if each.heading == self.sort)
        rows.sort(key=lambda row: row.stats.name)
        largest_first = self.sort != "FUNCTION"
        rows.sort(key=column.value, reverse=largest_first != self.reverse)
        return rows

    def lines(self, width: int, height: int) -> tuple[list[str], int]:
        """The screen's lines, and which of them is selected."""
        rows = self.rows()
        self.selected = max(0, min(self.selected, len(rows) - 1))
        top = [self._summary(rows), *map(printable, self.now.failures)]
        space = max(1, height - len(top) - 2)
        first = max(0, self.selected - space + 1)
        top.append(self._headings())
        body = [_format_row(row) for row in rows[first : first + space]]
        filtered = f"/{self.wanted}" if self.typing or self.wanted else KEYS
        blank = [""] * (space - len(body))
        texts = [*top, *body, *blank, filtered]
        return [text[: width - 1] for text in texts], len(top) + self.selected - first

    def _summary(self, rows: Sequence[TopRow]) -> str:
        answering = self.now.servers - len(self.now.failures)
        waiting = sum(row.stats.waiting for row in rows)
        running = sum(row.stats.running for row in rows)
        return (
            f"{answering} of {self.now.servers} job servers   {waiting} waiting   "
            f"{running} running   {time.strftime('%H:%M:%S')}"
        )

    def _headings(self) -> str:
        marked = (
            f"{'*' if column.heading == self.sort else ''}{column.heading}" for column in COLUMNS
        )
        pairs = zip(marked, COLUMNS, strict=True)
        return "".join(
            f"{text:>{column.width}}" if column.width else f"  {text}" for text, column in pairs
        )


def _format_row(row: TopRow) -> str:
    cells = []
    for column in COLUMNS:
        value = column.value(row)
        if isinstance(value, str):
            cells.append(f"  {printable(value)}")
        elif column.heading in SECONDS:
            cells.append(f"{format_seconds(value):>{column.width}}")
        else:
            text = f"{value:.1f}" if column.heading in RATES and value < 1000 else f"{value:.0f}"
            cells.append(f"{text:>{column.width}}")
    return "".join(cells)


def format_seconds(seconds: float) -> str:
    """In at most 6 characters: 5ms, 1.2s, 59s, 12m, 3h, 2d."""
    if seconds < 1:
        return f"{1000 * seconds:.0f}ms"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"


def top_parser() -> ArgumentParser:
    parser = OptionParser(
        prog="gearadmin top",
        usage="gearadmin top [-h HOST]...",
        description="Watch the functions of all job servers as one.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    common.add_servers(parser)
    add = parser.add_argument
    add("-f", "--function", default="", metavar="TEXT", help="only functions whose name has it")
    add(
        "--sort",
        default="waiting",
        choices=[column.heading.lower() for column in COLUMNS],
        help="the column to sort by",
    )
    add(
        "--interval",
        type=common.positive_int,
        default=1,
        metavar="SECONDS",
        help="between two looks (1)",
    )
    common.add_help(parser)
    common.add_tls(parser)
    return parser
