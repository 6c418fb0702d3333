"""`invoke run`: a command on many hosts at once, its output as it comes, and how it ended.

The words are run as they are given, by no shell unless one is asked for. It runs as the user who
logs in, or as root. Ctrl-C ends it on every host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.errors import HostFailed, ToolkitError
from provision.fleet import pool as hosts
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.options import Options
from provision.report.events import Failed, Row
from provision.report.reporter import reporter


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a command is run."""

    root: bool = False
    shell: bool = False
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        """Raises :class:`ToolkitError`."""
        if not self.seconds > 0:
            raise ToolkitError(f"--seconds {self.seconds:g}: say more than 0")


def run(folder: Path, options: Options, words: Sequence[str], manner: Manner) -> int:
    """Run ``words`` on every host. Returns 0 when it ended with 0 on all."""
    if not words:
        raise ToolkitError("say what to run after --, as in: invoke run --hosts ... -- uptime")
    argv = ["/bin/sh", "-c", " ".join(words)] if manner.shell else list(words)
    known = inventory.load(folder, options.limit).hosts
    names = [host.name for host in known]
    report = reporter(options, names)
    wide = max(map(len, names))

    def on(host: Host) -> int:
        rest, running = "", connect(host).stream(argv, manner.seconds)
        for said in running:
            *lines, rest = (rest + said).split("\n")
            for line in lines:
                report.show(_line(host.name, wide, line))
        if rest:
            report.show(_line(host.name, wide, rest))
        return running.status

    status, ended = 0, {}
    with hosts.sessions(become=manner.root) as connect:
        for host, result in hosts.each(known, on, options.parallel):
            if isinstance(result, ToolkitError):
                report.show(Failed(host.name, result, 0))
                status = max(status, result.status)
            else:
                ended[host.name] = result
                status = max(status, HostFailed.status if result else 0)
    if not options.json:
        report.say(_summary(ended, len(known)))
    return status


def _line(name: str, wide: int, line: str) -> Row:
    return Row({"host": name, "line": line}, f"{name:{wide}}  {line}")


def _summary(ended: dict[str, int], of: int) -> str:
    well = sum(status == 0 for status in ended.values())
    badly = [f"{name} ended with {status}" for name, status in ended.items() if status]
    return "; ".join([f"{well} of {of} hosts ended well", *badly])
