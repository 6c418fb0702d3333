"""Where the job servers of an inventory are reached."""

from ipaddress import ip_address

from provision.errors import InventoryError
from provision.inventory.drained import DRAINED
from provision.inventory.host import Host, Inventory, once_per_host
from provision.inventory.places import reached_at
from provision.inventory.schedules import ADMIN_SOCKET
from roles.runtime import ROOT
from roles.tls import flags, speaks_tls

QUEUE_FOLDER = "/var/lib/gearmand"


def listens(host: Host) -> tuple[str, int]:
    """Where its job server listens: on the address we know it by, unless told otherwise.

    Raises :class:`InventoryError` for a name: systemd opens the port, and only at an address.
    """
    address = host.variables["gearman_listen"]
    try:
        ip_address(address)
    except ValueError:
        named = "gearman_listen" if host.is_set("gearman_listen") else "ansible_host"
        raise InventoryError(
            f"{host.where_is(named)}: {host.name} is a job server, and {address!r} is not an "
            "address to listen on: say gearman_listen: 10.0.0.247, or 0.0.0.0 for all of its "
            "addresses"
        ) from None
    return address, host.variables["gearman_port"]


@once_per_host
def reached(host: Host) -> str:
    """Where others reach its job server, as HOST:PORT or gearmans://HOST:PORT."""
    place = reached_at(host, *listens(host))
    return f"gearmans://{place}" if speaks_tls(host) else place


def serving(inventory: Inventory) -> tuple[str, ...]:
    """Those that are not drained; all, if none is left."""
    drained = {reached(host) for host in inventory.group(DRAINED)}
    known = servers(inventory)
    return tuple(each for each in known if each not in drained) or known


def servers(inventory: Inventory) -> tuple[str, ...]:
    """Every job server, as :func:`reached`."""
    places = tuple(map(reached, inventory.group("job_server")))
    if not places:
        raise InventoryError("no host is in group job_server: workers and clients need one")
    return places


def move_command(servers: tuple[str, ...], inventory: Inventory) -> tuple[str, ...]:
    """What moves the jobs of a job server to these, and then stops it; nothing without any."""
    if not servers:
        return ()
    words = ("-h", f"unix:{ADMIN_SOCKET}", "--retire", ",".join(servers), *flags(inventory))
    return (f"{ROOT}/current/venv/bin/gearadmin", *words)
