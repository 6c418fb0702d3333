"""Workers: one process for each function the host should serve."""

from collections.abc import Iterator

from provision.build import Artifact
from provision.inventory.host import Host, Inventory
from provision.inventory.schema import default_of
from provision.resources.base import Resource
from provision.resources.health import WorkerHealth
from provision.resources.release import Release
from provision.resources.unit import Unit, unit_file
from roles.job_server import servers
from roles.runtime import ROOT, WORKER_USER, account
from roles.tls import fingerprint, flags, readers, tls

TEMPLATE = "gearman-worker@.service"


def worker(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    release = Release(ROOT, artifact)
    known = servers(inventory)
    file = unit_file(
        TEMPLATE,
        release,
        address=host.name,
        servers=",".join(known),
        ca=fingerprint(inventory),
        memory=host.variables["gearman_worker_memory"],
        user=WORKER_USER,
    )
    yield from account(WORKER_USER, readers(inventory))
    yield from tls(host, inventory)
    yield file
    for function, (name, wanted) in units(host).items():
        yield Unit(name, file, release.current, wanted=wanted, reloads=True)
        if wanted:
            trusted = flags(inventory)
            yield WorkerHealth(name, release, trusted, function, host.name, known, WORKER_USER)


def units(host: Host) -> dict[str, tuple[str, bool]]:
    """Function -> its unit, and whether this host should run it."""
    wanted = host.variables["gearman_functions"]
    known = dict.fromkeys((*wanted, *default_of("gearman_functions")))
    return {each: (TEMPLATE.replace("@", f"@{each}"), each in wanted) for each in known}
