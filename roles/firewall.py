"""The firewall of job server and dashboard: their ports answer only the inventory's hosts."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from provision.errors import InventoryError
from provision.inventory.host import Host, Inventory
from provision.inventory.places import is_page_public
from provision.resources.base import Resource
from provision.resources.files import Directory
from provision.resources.firewall import Firewall, firewall_unit, rules_file
from provision.resources.packages import Packages

Network = IPv4Network | IPv6Network


def firewall(host: Host, inventory: Inventory) -> Iterator[Resource]:
    """One for all that listens on the host, whichever role asks for it."""
    ports = _guarded_ports(host)
    if not ports or not host.variables["gearman_firewall"]:
        return
    known = {network for each in inventory.everyone for network in _addresses(each)}
    known |= {_network(text, host) for text in host.variables["gearman_firewall_allow"]}
    v4 = sorted(each for each in known if isinstance(each, IPv4Network))
    v6 = sorted(each for each in known if isinstance(each, IPv6Network))
    if "nftables" not in host.variables["gearman_packages"]:
        yield Packages(("nftables",))
    yield Directory("/etc/gearman")
    file = rules_file(ports, [_written(each) for each in v4], [_written(each) for each in v6])
    yield file
    yield firewall_unit()
    yield Firewall(file, firewall_unit())


def _guarded_ports(host: Host) -> list[int]:
    known = host.variables
    ports = []
    if "job_server" in host.groups:
        ports += [known["gearman_port"], known["gearman_metrics_port"]]
    if "dashboard" in host.groups and is_page_public(host):
        ports.append(known["gearman_dashboard_port"])
    return [port for port in ports if port]


def _addresses(host: Host) -> set[Network]:
    """A host's, as it is seen from here."""
    try:
        found = socket.getaddrinfo(host.address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InventoryError(
            f"{host.where_is('ansible_host')}: gearman_firewall needs the address of {host.name}: "
            f"{host.address!r} cannot be resolved here ({error}); write it as ansible_host"
        ) from None
    return {ip_network(str(place[4][0]).partition("%")[0]) for place in found}


def _network(text: str, host: Host) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        where = host.where_is("gearman_firewall_allow")
        raise InventoryError(
            f"{where}: {text!r} is neither an address nor a network such as 10.1.0.0/16"
        ) from None


def _written(network: Network) -> str:
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address if single else network)
