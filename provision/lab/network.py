"""The lab's network: a bridge in a network namespace, and one cable from it to this machine.

The bridge stands in a namespace of its own because there no firewall, container engine or
network manager of this machine sees it. What this machine sees is one link with one address.
The lab has no router: hosts reach this machine and each other, and nothing else.
"""

import ipaddress
import json
from pathlib import Path
from typing import Any

from provision.errors import ToolkitError
from provision.lab.number import NUMBER, SUFFIX
from provision.lab.programs import execute

LINK = f"gearman-lab{SUFFIX}"
MAC = f"02:67:65:61:72:{NUMBER:02x}"  # set as the link is made: by it we know the link as ours
PREFIX = f"198.18.{9 + NUMBER}"
ADDRESS = ipaddress.IPv4Interface(f"{PREFIX}.1/24")
BRIDGE = "lab"  # inside the namespace
WIDEST_ROUTE = 8  # shorter prefixes are ways to everywhere, not to someone's network


def in_network(namespace: Path, *argv: str) -> list[str]:
    """The command line that runs ``argv`` in the lab's network."""
    return ["nsenter", f"--net={namespace}", *argv]


def make_network(namespace: Path) -> None:
    """Make the network; nothing of it may be there. ``namespace`` is the file that holds it.

    Raises :class:`ToolkitError` when the link's name or its addresses are used by something else.
    """
    _refuse_conflict()
    namespace.touch()
    execute(["unshare", f"--net={namespace}", "true"])
    inside = [
        f"link add {BRIDGE} type bridge",
        f"link set uplink master {BRIDGE}",
        "link set lo up",
        "link set uplink up",
        f"link set {BRIDGE} up",
    ]
    cable = ["type", "veth", "peer", "name", "uplink", "netns", str(namespace)]
    execute(["ip", "link", "add", LINK, "address", MAC, *cable])
    execute(in_network(namespace, "ip", "-batch", "-"), input="\n".join(inside))
    execute(["ip", "link", "set", LINK, "up"])
    execute(["ip", "address", "add", str(ADDRESS), "dev", LINK])  # the last step: see is_laid


def is_laid() -> bool:
    """Whether the network was made to its last step."""
    return any(
        link["ifname"] == LINK and "UP" in link["flags"] and _networks_of(link)
        for link in _show_ip("address")
        if link["address"] == MAC
    )


def remove_network() -> None:
    """Take the cable out, if it is there. The rest goes with its namespace."""
    if any(link["ifname"] == LINK and link["address"] == MAC for link in _show_ip("link")):
        execute(["ip", "link", "delete", LINK])


def set_port(namespace: Path, port: str, state: str) -> None:
    """Set a host's port at the bridge ``up`` or ``down``."""
    execute(in_network(namespace, "ip", "link", "set", port, state))


def set_address(pid: int, address: str, link: str) -> None:
    """Give a link of a process's network an address, as a program in there would."""
    inside = [f"address replace {address} dev {link}", f"link set {link} up"]
    command = ["nsenter", f"--target={pid}", "--net", "ip", "-batch", "-"]
    execute(command, input="\n".join(inside))


def _refuse_conflict() -> None:
    for link in _show_ip("address"):
        if link["ifname"] == LINK:
            raise ToolkitError(f"a network link {LINK} is here already and is not the lab's")
        for network in _networks_of(link):
            if network.overlaps(ADDRESS.network):
                raise ToolkitError(
                    f"the lab needs {ADDRESS.network}, and {link['ifname']} has {network}"
                )
    for route in _show_ip("-4", "route"):
        if route["dst"] == "default":
            continue
        network = ipaddress.IPv4Network(route["dst"])
        if network.prefixlen >= WIDEST_ROUTE and network.overlaps(ADDRESS.network):
            raise ToolkitError(
                f"the lab needs {ADDRESS.network}, and {network} is routed to {route.get('dev')}"
            )


def _networks_of(link: dict[str, Any]) -> list[ipaddress.IPv4Network]:
    return [
        ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
        for address in link.get("addr_info", ())
        if address["family"] == "inet"
    ]


def _show_ip(*arguments: str) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = json.loads(execute(["ip", "-json", *arguments, "show"]) or "[]")
    return [item for item in shown if item]
