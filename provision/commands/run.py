"""`./invoke run`: a command on many hosts at once, its output as it comes, and how it ended.

The words are run as they are given, by no shell unless one is asked for. It runs as the user who
logs in, or as root. Ctrl-C ends it on every host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from provision.errors import HostFailed, ToolkitError
from provision.fleet import pool
from provision.fleet.ask_all import AskAll
from provision.fleet.run import Connect
from provision.inventory.host import Host
from provision.invoke_line import invoke_line
from provision.options import Options
from provision.report.events import Row
from provision.wording import format_count


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a command is run."""

    root: bool = False
    shell: bool = False
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        """Raises :class:`ToolkitError`."""
        if not self.seconds > 0:
            raise ToolkitError(f"--seconds {self.seconds:g}: say more than 0")


def run(folder: Path, options: Options, words: Sequence[str], how: RunOptions) -> int:
    """Run ``words`` on every host. Returns 0 when it ended with 0 on all."""
    if not words:
        raise ToolkitError(f"say what to run after --, as in: {invoke_line('run')} -- uptime")
    argv = ["/bin/sh", "-c", " ".join(words)] if how.shell else list(words)
    asked = AskAll(folder, options, connect=partial(pool.connect, become=how.root))
    wide = max(len(host.name) for host in asked.hosts)

    def run_on(host: Host, connect: Connect) -> int:
        running = connect(host).stream(argv, how.seconds)
        for line in running:
            asked.report.show(_format_line(host.name, wide, line))
        return running.status

    ended = {host.name: status for host, status in asked.answers(run_on, in_order=False)}
    if not options.json:
        asked.report.say(_format_summary(ended, len(asked.hosts)))
    return max(asked.status, HostFailed.status if any(ended.values()) else 0)


def _format_line(name: str, wide: int, line: str) -> Row:
    return Row({"host": name, "line": line}, [f"{name:{wide}}  {line}"])


def _format_summary(ended: dict[str, int], of: int) -> str:
    well = sum(status == 0 for status in ended.values())
    badly = [f"{name} ended with {status}" for name, status in ended.items() if status]
    return "; ".join([f"{well} of {format_count(of, 'host')} succeeded", *badly])
