"""The apps that a host's workers run from: each with releases of its own, and one in use."""

from collections.abc import Iterator

from provision.inventory.host import Host
from provision.release.app import apps_of
from provision.release.app_source import APPS
from provision.release.build import Artifact
from provision.resources.base import Resource
from provision.resources.files import Directory
from provision.resources.release import OldReleases, Release


def app_releases(host: Host, artifact: Artifact) -> dict[str, Release]:
    """Of each app that a host needs, the release that it should have."""
    found = apps_of(host)
    return {name: Release(app.root, artifact.app(name)) for name, app in found.items()}


def staged(releases: dict[str, Release]) -> Iterator[Resource]:
    """The releases, beside those in use."""
    for release in releases.values():
        for folder in (APPS, release.root, f"{release.root}/releases"):
            yield Directory(folder)
        yield release


def in_use(releases: dict[str, Release]) -> Iterator[Resource]:
    """The links to them, when what runs from them has begun."""
    for release in releases.values():
        yield release.current
        yield OldReleases(release)
