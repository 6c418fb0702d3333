"""gearadmin --check: answers as a plugin of Nagios, Icinga and Naemon does.

https://www.monitoring-plugins.org/doc/guidelines.html: a line of text and figures, and an exit
status of 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3 (UNKNOWN).
"""

from collections.abc import Collection, Sequence
from enum import IntEnum
from typing import NamedTuple

from gearman_py.admin.answers import FunctionStats, join_stats
from gearman_py.admin.client import AdminClient
from gearman_py.cli.top import SERVER_TIMEOUT, ask_server
from gearman_py.errors import GearmanError
from gearman_py.net.servers import ServerAddress
from gearman_py.printable import printable, shorten

MAX_TEXT = 3000  # bytes of findings: Nagios reads 8 KiB, with the figures
MAX_FINDING = 300  # characters


class CheckStatus(IntEnum):
    """The exit status of a plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3  # the command line is wrong


class ServerFinding(NamedTuple):
    """Something that is wrong; with ``waiting`` jobs of a function, if it is that."""

    status: CheckStatus
    text: str
    waiting: int | None = None


def check_servers(
    servers: Sequence[ServerAddress], warning: int | None, critical: int | None
) -> tuple[CheckStatus, str]:
    """The state of all of these servers, and the line about it.

    It is critical that a server does not answer or refuses jobs, that jobs of a function wait and
    it has no worker, or that more than ``critical`` wait; more than ``warning`` are a warning.
    """
    findings: list[ServerFinding] = []
    functions: dict[str, FunctionStats] = {}
    for server in servers:
        answer = ask_server(server)
        if isinstance(answer, str):
            findings.append(ServerFinding(CheckStatus.CRITICAL, answer))
            continue
        if why := _ask_refusal(server):
            findings.append(ServerFinding(CheckStatus.CRITICAL, f"{server} refuses jobs: {why}"))
        for row in answer:
            known = functions.get(row.name)
            functions[row.name] = join_stats(known, row) if known else row
    judged = (_check_function(row, warning, critical) for row in functions.values())
    findings += filter(None, judged)
    findings.sort(key=_rank)
    status = findings[0].status if findings else CheckStatus.OK
    text = join_findings([each.text for each in findings]) or _summary(servers, functions)
    figures = _figures(functions.values(), warning, critical)
    return status, f"GEARMAN {status.name} - {text} | {figures}"


def _rank(finding: ServerFinding) -> tuple[int, bool, int]:
    """What is worst comes first: by status, servers before functions, the longest queue first."""
    return -finding.status, finding.waiting is not None, -(finding.waiting or 0)


def join_findings(texts: Sequence[str], separator: str = "; ") -> str:
    """The first ones and how many more there are, as much as a plugin may print in one line;
    without what a terminal or the format of plugins would take for its own.
    """
    shown: list[str] = []
    room = MAX_TEXT
    for text in texts:
        shown.append(shorten(printable(text, keep="").replace("|", "/"), MAX_FINDING))
        room -= len((shown[-1] + separator).encode(errors="replace"))
        if room < 0:
            shown[-1] = f"and {len(texts) - len(shown) + 1:,} more"
            break
    return separator.join(shown)


def _ask_refusal(server: ServerAddress) -> str:
    """Why it refuses jobs; "" if it does not, or if it is one of C, which does not tell."""
    limit = SERVER_TIMEOUT
    with AdminClient([server], connect_timeout=limit, timeout=limit) as client:
        try:
            return client.facts().get("refuses", "")
        except GearmanError:
            return ""


def _check_function(
    row: FunctionStats, warning: int | None, critical: int | None
) -> ServerFinding | None:
    wait = "1 job waits" if row.waiting == 1 else f"{row.waiting} jobs wait"
    if row.waiting and not row.workers:
        text = f"{row.name}: {wait} and no worker does it"
        return ServerFinding(CheckStatus.CRITICAL, text, row.waiting)
    for status, limit in ((CheckStatus.CRITICAL, critical), (CheckStatus.WARNING, warning)):
        if limit is not None and row.waiting > limit:
            return ServerFinding(status, f"{row.name}: {wait} (limit {limit})", row.waiting)
    return None


def _summary(servers: Sequence[ServerAddress], functions: dict[str, FunctionStats]) -> str:
    jobs = sum(row.waiting for row in functions.values())
    words = "1 job server" if len(servers) == 1 else f"{len(servers)} job servers"
    known = "1 function" if len(functions) == 1 else f"{len(functions)} functions"
    return f"{words}, {known}, {'1 job waits' if jobs == 1 else f'{jobs} jobs wait'}"


def _figures(rows: Collection[FunctionStats], warning: int | None, critical: int | None) -> str:
    longest = max((row.waiting for row in rows), default=0)
    limits = ";".join("" if limit is None else str(limit) for limit in (warning, critical))
    return (
        f"longest_queue={longest};{limits};0 "
        f"waiting={sum(row.waiting for row in rows)};;;0 "
        f"running={sum(row.running for row in rows)};;;0 "
        f"oldest={max((row.oldest_seconds for row in rows), default=0):.3f}s;;;0 "
        f"failed={sum(row.failed for row in rows)}c "
        f"completed={sum(row.completed for row in rows)}c"
    )
