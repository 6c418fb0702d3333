"""`./invoke trust`: the hosts' keys are shown once to a person who can compare them, then recorded.

Only the inventory's known_hosts is written, and only after a yes. A key that is not the one on
record is never taken for it: that needs `--replace`, which names the host. A jump host is logged
in to, so its key has to be trusted before those of the hosts behind it can be seen.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from provision.errors import InventoryError, ToolkitError, Unreachable
from provision.fleet import pool as hosts
from provision.inventory import load as inventory
from provision.options import Options
from provision.report.events import Row
from provision.report.text import Report
from provision.ssh.connection import host_keys
from provision.ssh.known_hosts import KnownHosts, SeenKey, fingerprint, record_keys
from provision.ssh.route import Route, find_route
from provision.wording import format_count, format_table

HEADINGS = ("host", "address", "type", "fingerprint", "")


def trust(folder: Path, options: Options, replace: str = "") -> int:
    """Show the hosts' keys, ask, and record those that are new. Returns an exit status."""
    ways = [find_route(host) for host in inventory.load(folder, options.limit).hosts]
    named = {name.strip() for name in replace.split(",") if name.strip()}
    if strangers := sorted(named - {hop.name for way in ways for hop in way}):
        raise InventoryError(f"--replace {strangers[0]}: no host has that name")
    replaced = {hop.known_as for way in ways for hop in way if hop.name in named}
    visit = _Visit(folder, options, replaced)
    for depth in range(max(map(len, ways))):
        # A way to each machine at this depth, the same for all who go through it.
        visit.look_at({way[: depth + 1] for way in ways if len(way) > depth})
        if visit.has_new_jump_host and not visit.settle_found():
            return visit.status
    visit.settle_found()
    return visit.status


class _Visit:
    """What was seen so far, and what was made of it."""

    def __init__(self, folder: Path, options: Options, replaced: set[str]) -> None:
        self.status = 0
        self._file = folder / "known_hosts"
        self._options = options
        self._replaced = replaced
        self._report = Report([])
        self._found: list[SeenKey] = []  # and not settled
        self._quiet = True  # nothing had to be said

    def look_at(self, ways: Iterable[Route]) -> None:
        """Look at the keys of the machines at the ends of these ways."""
        ways = sorted(ways, key=lambda way: way[-1].name)
        seen = dict(hosts.run_on_each(ways, _scan_keys, self._options.parallel))
        for way in ways:
            result = seen[way]
            if isinstance(result, ToolkitError):
                self._say_problem(str(result).splitlines()[0], result.status)
            else:
                self._found += result

    @property
    def has_new_jump_host(self) -> bool:
        """Whether one was seen whose key has to be recorded before it can be gone through."""
        return any(each.hop.jump and self._is_wanted(each) for each in self._found)

    def settle_found(self) -> bool:
        """Show what was found, ask, and record; whether to go on."""
        for line in _format_keys(self._found):
            self._report.show(Row({}, [line]))
        # A machine that is a host and a jump host as well is one machine.
        suspects = {each.hop.known_as: each.hop.name for each in self._found if self._is_bad(each)}
        for name in suspects.values():
            self._say_problem(
                f"{name}: this is not the key on record. If it was reinstalled, say "
                f"--replace {name}; if not, someone may be in between",
                Unreachable.status,
            )
        wanted = [
            each
            for each in self._found
            if self._is_wanted(each) and each.hop.known_as not in suspects
        ]
        self._found = []
        if not wanted:
            if self._quiet:
                self._report.say("every key is known: nothing to do")
            return True
        if not self._options.yes and not self._report.confirm(f"Trust {_count_keys(wanted)}?"):
            self.status = self.status or Unreachable.status
            return False
        record_keys(self._file, wanted, self._replaced)
        self._quiet = False
        self._report.say(f"{self._file}: {_count_keys(wanted)} recorded")
        return True

    def _say_problem(self, line: str, status: int) -> None:
        self._quiet = False
        self.status = max(self.status, status)
        self._report.say(line)

    def _is_wanted(self, found: SeenKey) -> bool:
        return found.standing != "known" or found.hop.known_as in self._replaced

    def _is_bad(self, found: SeenKey) -> bool:
        changed = found.standing == "changed" and found.hop.known_as not in self._replaced
        return changed or found.standing == "revoked"


def _scan_keys(way: Route) -> list[SeenKey]:
    hop = way[-1]
    known = KnownHosts(hop)
    return [SeenKey(hop, key, known.standing(key)) for key in host_keys(way)]


def _count_keys(found: Iterable[SeenKey]) -> str:
    return format_count(len({(each.hop.known_as, each.key) for each in found}), "key")


def _format_keys(found: Iterable[SeenKey]) -> Iterator[str]:
    names: dict[tuple[str, ...], list[str]] = {}  # what is shown of a key -> whose it is
    for each in found:
        kind = each.key.get_name().removeprefix("ssh-").removeprefix("ecdsa-sha2-")
        loud = each.standing in ("changed", "revoked")
        standing = each.standing.upper() if loud else each.standing
        shown = (each.hop.known_as, kind, fingerprint(each.key), standing)
        names.setdefault(shown, []).append(each.hop.name)
    rows = [(", ".join(dict.fromkeys(whose)), *shown) for shown, whose in names.items()]
    return format_table([HEADINGS, *rows]) if rows else iter(())
