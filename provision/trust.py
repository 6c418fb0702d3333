"""`invoke trust`: the hosts' keys are shown once to a person who can compare them, then recorded.

Only the inventory's known_hosts is written, and only after a yes. A key that is not the one on
record is never taken for it: that needs `--replace`, which names the host.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provision import hosts, inventory
from provision.errors import InventoryError, ToolkitError, Unreachable
from provision.events import Failed, Row
from provision.inventory import Host
from provision.known_hosts import KnownHosts, fingerprint
from provision.options import Options
from provision.report import Report
from provision.transport import host_keys

if TYPE_CHECKING:
    import paramiko


@dataclass(frozen=True)
class Found:
    """A key that a host shows, and how it stands: known, new, changed or revoked."""

    host: Host
    key: "paramiko.PKey"
    standing: str


def trust(folder: Path, options: Options, replace: str = "") -> int:
    """Show the hosts' keys, ask, and record those that are new. Returns an exit status."""
    known = inventory.load(folder, options.limit)
    named = {name.strip() for name in replace.split(",") if name.strip()}
    if strangers := sorted(named - {host.name for host in known.hosts}):
        raise InventoryError(f"--replace {strangers[0]}: no host is named so")
    report = Report([host.name for host in known.hosts])
    found: list[Found] = []
    status = 0
    scanned = dict(hosts.each(known.hosts, _scan, options.parallel))
    for host in known.hosts:
        result = scanned[host]
        if isinstance(result, ToolkitError):
            report.show(Failed(host.name, result, 0))
            status = max(status, result.status)
        else:
            found += result
    for line in _table(found):
        report.show(Row({}, line))
    bad = [each for each in found if _is_bad(each, named)]
    for name in dict.fromkeys(each.host.name for each in bad):
        report.say(
            f"{name}: this is not the key on record. If the host was installed anew, say "
            f"--replace {name}; if not, somebody may sit between"
        )
    suspects = {each.host.name for each in bad}
    wanted = [
        each
        for each in found
        if each.host.name not in suspects and (each.standing != "known" or each.host.name in named)
    ]
    if wanted:
        question = f"Trust {len(wanted)} keys?"
        if not options.yes and not report.confirm(question):
            return status or Unreachable.status
        path = folder / "known_hosts"
        _record(path, wanted, named)
        report.say(f"{path}: {len(wanted)} keys recorded")
    elif not bad and not status:
        report.say("every key is known: nothing to do")
    return Unreachable.status if bad else status


def _scan(host: Host) -> list[Found]:
    known = KnownHosts(host)
    return [Found(host, key, known.standing(key)) for key in host_keys(host)]


def _is_bad(found: Found, replaced: set[str]) -> bool:
    changed = found.standing == "changed" and found.host.name not in replaced
    return changed or found.standing == "revoked"


def _table(found: Iterable[Found]) -> Iterator[str]:
    rows = [
        (each.host.name, _place(each.host), _kind(each.key), fingerprint(each.key), each.standing)
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)] if rows else []
    for row in rows:
        *most, standing = (f"{text:{wide}}" for text, wide in zip(row, widths, strict=True))
        told = standing.strip()
        yield "  ".join([*most, told.upper() if told in ("changed", "revoked") else told])


def _kind(key: "paramiko.PKey") -> str:
    return key.get_name().removeprefix("ssh-").removeprefix("ecdsa-sha2-")


def _place(host: Host) -> str:
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


def _record(path: Path, wanted: Iterable[Found], replaced: set[str]) -> None:
    """Add keys; of hosts that are replaced, the old lines go. Whole or not at all."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        lines = []
    wanted = list(wanted)
    gone = {_place(each.host) for each in wanted if each.host.name in replaced}
    lines = [line for line in lines if not gone.intersection(line.partition(" ")[0].split(","))]
    lines += [f"{_place(one.host)} {one.key.get_name()} {one.key.get_base64()}" for one in wanted]
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write("".join(f"{line}\n" for line in lines))
        os.fchmod(file.fileno(), 0o644)
    os.replace(file.name, path)
