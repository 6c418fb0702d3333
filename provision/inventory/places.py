"""Where a host's services are reached: metrics of its job server, and the dashboard."""

from ipaddress import ip_address

from provision.errors import InventoryError
from provision.inventory.host import Host

EVERY = ("0.0.0.0", "::")  # noqa: S104  # addresses that cannot be connected to
PAGE_LISTEN = "gearman_dashboard_listen"


def metrics_url(host: Host) -> str:
    """Of its job server; "" where it has none."""
    port = host.variables["gearman_metrics_port"]
    if not port:
        return ""
    scheme = "https" if host.variables["gearman_tls"] else "http"
    return f"{scheme}://{reached_at(host, host.variables['gearman_listen'], port)}/metrics"


def reached_at(host: Host, listening: str, port: int) -> str:
    """ADDRESS:PORT by which others reach what listens there."""
    address = host.address if listening in EVERY else listening
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def page_address(host: Host) -> tuple[str, int]:
    """Where its dashboard listens. Raises :class:`InventoryError` for a name."""
    address = host.variables[PAGE_LISTEN]
    try:
        ip_address(address)
    except ValueError:
        raise InventoryError(
            f"{host.where_is(PAGE_LISTEN)}: {PAGE_LISTEN}: {address!r} is not an address to listen "
            "on: say 127.0.0.1, 10.0.0.247, or 0.0.0.0 for all addresses of the host"
        ) from None
    return address, host.variables["gearman_dashboard_port"]


def is_page_public(host: Host) -> bool:
    """Whether others than those on the host reach its dashboard, which then speaks TLS."""
    return not ip_address(page_address(host)[0]).is_loopback


def page_url(host: Host) -> str:
    """Of its dashboard."""
    scheme = "https" if is_page_public(host) else "http"
    return f"{scheme}://{reached_at(host, *page_address(host))}/"
