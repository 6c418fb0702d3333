"""A role's resources, worked out once: the role `former` needs those of the other roles too."""

from collections.abc import Callable, Iterable
from functools import wraps

from provision.inventory.host import Host, Inventory, once_per_host
from provision.release.build import Artifact
from provision.resources.base import Resource

RoleOfHost = Callable[[Host, Inventory, Artifact], Iterable[Resource]]


def once(role: RoleOfHost) -> RoleOfHost:
    """Decorator: the same host, inventory and artifact as the last time have the same resources."""

    @wraps(role)
    def resources(host: Host, inventory: Inventory, artifact: Artifact) -> Iterable[Resource]:
        known = _last(host).get(role)
        if known and known[0] is inventory and known[1] == artifact:
            return known[2]
        made = tuple(role(host, inventory, artifact))
        _last(host)[role] = inventory, artifact, made
        return made

    return resources


@once_per_host
def _last(host: Host) -> dict[RoleOfHost, tuple[Inventory, Artifact, tuple[Resource, ...]]]:
    """What each role last made of a host."""
    return {}
