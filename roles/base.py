"""What every host should be: a system that can run our units, with the packages that are wanted."""

from collections.abc import Iterator

from provision.inventory.connection import INTERPRETER
from provision.inventory.host import Host, Inventory
from provision.inventory.workers import workers
from provision.release.build import Artifact
from provision.resources.base import Resource
from provision.resources.packages import Packages
from provision.resources.requirement import Clock, Interpreter, Systemd

SYSTEMD = 247  # the first with ProtectProc= and ProcSubset=
# Seconds; what Kerberos takes. Certificates, jobs for a later time and logs go by the clock.
CLOCK = 300


def base(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    yield Systemd(SYSTEMD)
    if host.is_set(INTERPRETER):
        yield Interpreter(host.python, f"{INTERPRETER} ({host.where_is(INTERPRETER)})")
    yield Clock(CLOCK)
    of_workers = (name for each in workers(host) for name in each.packages)
    if names := dict.fromkeys((*host.variables["gearman_packages"], *of_workers)):
        yield Packages(tuple(names))
