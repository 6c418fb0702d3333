"""The file by which programs of a host find the job servers (gearman_py.net.environment)."""

from collections.abc import Iterator

from provision.inventory.host import Host, Inventory
from provision.resources.base import Resource
from provision.resources.files import Directory, template_file
from roles.servers import reached, servers
from roles.tls import fingerprint

FILE = "/etc/gearman/environment"


def environment(host: Host, inventory: Inventory) -> Iterator[Resource]:
    yield Directory("/etc/gearman")
    known = servers(inventory)
    own = (reached(host),) if "job_server" in host.groups else ()
    first = dict.fromkeys((*own, *known))  # clients of one server ask the first
    yield template_file(FILE, "environment.j2", servers=",".join(first), ca=fingerprint(inventory))
