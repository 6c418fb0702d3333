"""What earlier versions of this toolkit left on a host, and nothing uses any more."""

from collections.abc import Iterator

from provision.build import Artifact
from provision.inventory.host import Host, Inventory
from provision.resources.account import FormerAccount
from provision.resources.base import Resource
from roles.job_server import UNIT
from roles.tls import readers
from roles.worker import units

USER = "gearman"  # the job server and the workers ran as this one account, until 0.1.0
SERVERS = ("/run/gearmand", "/var/lib/gearmand")  # systemd gives them to whom the unit runs as


def former(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    own = [UNIT] if "job_server" in host.groups else []
    if "worker" in host.groups:
        own += (name for name, _ in units(host).values())
    places = () if "job_server" in host.groups else SERVERS
    yield FormerAccount(USER, tuple(own), places, keeps_group=USER in readers(inventory))
