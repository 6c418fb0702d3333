"""What earlier versions of this toolkit left on a host, and nothing uses any more."""

from collections.abc import Iterator

from provision.app import APPS, apps_of
from provision.build import Artifact
from provision.inventory.host import Host, Inventory
from provision.resources.account import FormerAccount
from provision.resources.base import Resource
from provision.resources.former_apps import FormerApps
from roles.job_server import UNIT
from roles.tls import readers
from roles.worker import former_secrets, former_units, worker

USER = "gearman"  # the job server and the workers ran as this one account, until 0.1.0
SERVERS = ("/run/gearmand", "/var/lib/gearmand")  # systemd gives them to whom the unit runs as


def former(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    wanted = list(worker(host, inventory, artifact)) if "worker" in host.groups else []
    former = former_units(wanted)
    units = former.wanted
    yield former
    yield FormerApps(APPS, tuple(apps_of(host)))
    yield former_secrets(wanted)
    own = [UNIT, *units] if "job_server" in host.groups else units
    places = () if "job_server" in host.groups else SERVERS
    yield FormerAccount(USER, tuple(own), places, keeps_group=USER in readers(inventory))
