"""What every host should be: a system that can run our units, and the packages its owner wants."""

from collections.abc import Iterator

from provision.build import Artifact
from provision.inventory.host import Host, Inventory
from provision.resources.base import Resource
from provision.resources.packages import Packages
from provision.resources.requirement import Clock, Systemd

SYSTEMD = 247  # the first with ProtectProc= and ProcSubset=
# Seconds; what Kerberos takes. Certificates, jobs for a later time and logs go by the clock.
CLOCK = 300


def base(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    yield Systemd(SYSTEMD)
    yield Clock(CLOCK)
    if names := host.variables["packages"]:
        yield Packages(tuple(names))
