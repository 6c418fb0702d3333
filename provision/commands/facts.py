"""`./invoke facts`: what the hosts are, in one table; and as data, all that was asked."""

import time
from pathlib import Path
from typing import Any

from gearman_py.config import format_size
from provision.fleet import pool
from provision.fleet.ask_all import AskAll
from provision.fleet.run import Connect
from provision.inventory.host import Host
from provision.options import Options
from provision.release.build import ON_HOSTS
from provision.remote.messages import Question, Unknown
from provision.report.events import Row
from provision.wording import format_count

ASKED: tuple[Question, ...] = (
    ("host",),
    ("machine",),
    ("disk", ON_HOSTS),
    ("releases", ON_HOSTS),
)


def facts(folder: Path, options: Options, *, connect: Connect = pool.connect) -> int:
    """Show what every host is. Returns 0 when all could be asked."""
    asked = AskAll(folder, options, connect=connect)
    for _, answers in asked.answers(_ask_host):
        asked.report.show(Row(answers, _format_facts(answers), wraps=True))
    return asked.status


def _ask_host(host: Host, connect: Connect) -> dict[str, Any]:
    """All that is known of a host, by name; what could not be had is its reason."""
    with connect(host) as session:
        session.ask([("disk", "/")])  # the next answer's way is then all there is between clocks
        began = time.time()
        answers = session.ask(ASKED)
        middle = (began + time.time()) / 2
    named = {question[0]: answer for question, answer in answers.items()}
    known = {
        name: answer.reason if isinstance(answer, Unknown) else answer
        for name, answer in named.items()
    }
    clock = known["host"]["time"] - middle if isinstance(known["host"], dict) else None
    groups = sorted(host.groups)
    return {"name": host.name, "address": host.address, "groups": groups, "clock": clock, **known}


def _format_facts(known: dict[str, Any]) -> list[str]:
    lines = [f"{known['name']}  {known['address']}  {', '.join(known['groups'])}"]
    for name, show in _SHOWN.items():
        try:
            lines.append(f"    {name:8} {show(known)}")
        except (KeyError, TypeError):  # it could not be had
            lines.append(f"    {name:8} ?")
    return lines


def _format_system(known: dict[str, Any]) -> str:
    host = known["host"]
    python = ".".join(map(str, host["python"]))
    name = host["os"].get("PRETTY_NAME", "unknown")
    return f"{name}, {host['machine']}, systemd {host['systemd']}, Python {python}, {host['libc']}"


def _format_size(known: dict[str, Any]) -> str:
    machine, disk = known["machine"], known["disk"]
    memory = f"{format_size(machine['available'])} of {format_size(machine['memory'])} memory free"
    return f"{machine['cpus']} CPUs, {memory}, {format_size(disk['free'])} disk free"


def _format_clock(known: dict[str, Any]) -> str:
    days, seconds = divmod(known["machine"]["uptime"], 86400)
    since = f"up {days:.0f} d {seconds / 3600:.0f} h"
    return f"{known['clock']:+.2f} s from this machine's; {since}"


def _format_release(known: dict[str, Any]) -> str:
    releases = known["releases"]
    others = len(releases["kept"].keys() - {releases["current"]})
    return f"{releases['current'] or 'none'}, {format_count(others, 'other')} kept"


_SHOWN = {
    "system": _format_system,
    "machine": _format_size,
    "clock": _format_clock,
    "network": lambda known: ", ".join(known["machine"]["addresses"]),
    "release": _format_release,
}
