"""Workers: one process for each function the host should serve."""

from collections.abc import Iterator

from provision.inventory import Host, Inventory
from provision.release import Artifact
from provision.resources.base import Resource
from provision.resources.health import WorkerHealth
from provision.resources.release import Release
from provision.resources.unit import Unit, unit_file
from roles.job_server import servers
from roles.runtime import ROOT, USER, account
from roles.tls import fingerprint, flags, tls

FUNCTIONS = ("reverse", "resize", "wc")


def worker(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    release = Release(ROOT, artifact)
    known = servers(inventory)
    file = unit_file(
        "gearman-worker@.service",
        release,
        address=host.name,
        servers=",".join(known),
        ca=fingerprint(inventory),
        memory=host.variables.get("gearman_worker_memory", "1G"),
    )
    wanted = host.variables.get("gearman_functions", FUNCTIONS)
    yield from account()
    yield from tls(host, inventory)
    yield file
    for function in dict.fromkeys((*wanted, *FUNCTIONS)):
        name = f"gearman-worker@{function}.service"
        yield Unit(name, file, release.current, wanted=function in wanted, reloads=True)
        if function in wanted:
            yield WorkerHealth(name, release, flags(inventory), function, host.name, known, USER)
