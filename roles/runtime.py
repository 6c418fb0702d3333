"""The release on a host, and the link that says which one is in use."""

from collections.abc import Iterator

from provision.inventory.host import Host, Inventory
from provision.release.build import ON_HOSTS, Artifact
from provision.resources.account import Group, User
from provision.resources.base import Resource
from provision.resources.files import Directory, Link
from provision.resources.release import OldReleases, Release
from provision.resources.release_signers import ReleaseSigners

ROOT = ON_HOSTS
SERVER_USER = "gearmand"
WORKER_USER = "gearman-worker"


def runtime(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    release = Release(ROOT, artifact)
    yield Directory(ROOT)
    yield Directory(f"{ROOT}/releases")
    if keys := host.variables["gearman_release_keys"]:
        yield ReleaseSigners.of(ROOT, keys)
    yield release
    yield release.current
    yield OldReleases(release)


def account(name: str, groups: tuple[str, ...] = ()) -> Iterator[Resource]:
    """The account that a service runs as: it cannot log in, and is a member of ``groups`` too."""
    yield from map(Group, (*groups, name))
    yield User(name, group=name, groups=groups)


def on_path(*commands: str) -> Iterator[Resource]:
    """Commands of the release in use, for every user of the host."""
    for command in commands:
        yield Link(f"/usr/local/bin/{command}", f"{ROOT}/current/venv/bin/{command}")
