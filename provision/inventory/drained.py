"""Job servers that an operator has drained: their hosts have a file that says so."""

from collections.abc import Collection
from dataclasses import replace

from provision.inventory.host import Host, Inventory

DRAINED = "drained"  # the group of such hosts, which no inventory names
DRAINED_FILE = "/etc/gearman/drained"
DRAINED_QUESTION = ("path", DRAINED_FILE, "", "")


def serving_hosts(known: Inventory) -> tuple[Host, ...]:
    """The hosts of job servers that are not drained."""
    return tuple(host for host in known.group("job_server") if DRAINED not in host.groups)


def mark_drained(known: Inventory, names: Collection[str]) -> Inventory:
    """The same inventory, with the job servers of these names in group DRAINED."""

    def mark(host: Host) -> Host:
        if host.name not in names or "job_server" not in host.groups:
            return host
        return replace(host, groups=host.groups | {DRAINED})

    return replace(
        known,
        hosts=tuple(map(mark, known.hosts)),
        everyone=tuple(map(mark, known.everyone)),
    )
