"""A host whose users send jobs: the commands on their PATH, which know the job servers."""

from collections.abc import Iterator

from provision.inventory.host import Host, Inventory
from provision.release.build import Artifact
from provision.resources.base import Resource
from provision.resources.files import template_file
from roles.environment import environment
from roles.once import once
from roles.runtime import on_path
from roles.tls import tls

PROFILE = "/etc/profile.d/gearman.sh"


@once
def client(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    yield from on_path("gearman", "gearadmin")
    yield from tls(host, inventory)
    yield from environment(host, inventory)
    yield template_file(PROFILE, "gearman.sh.j2")
