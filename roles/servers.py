"""Where the job servers of an inventory are reached."""

from ipaddress import ip_address

from provision.errors import InventoryError
from provision.inventory.host import Host, Inventory
from provision.inventory.places import reached_at
from roles.tls import speaks_tls

ADMIN = "/run/gearmand/admin.sock"


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


def reached(host: Host) -> str:
    """Where others reach its job server, as HOST:PORT or gearmans://HOST:PORT."""
    place = reached_at(host, *listens(host))
    return f"gearmans://{place}" if speaks_tls(host) else place


def servers(inventory: Inventory) -> tuple[str, ...]:
    """Every job server, as :func:`reached`."""
    places = tuple(map(reached, inventory.group("job_server")))
    if not places:
        raise InventoryError("no host is in group job_server: workers and clients need one")
    return places
