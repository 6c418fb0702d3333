"""What every host should be: the resources of its roles, with the release that is meant for it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any, Protocol

from provision.errors import HostFailed, ToolkitError
from provision.fleet import tags
from provision.fleet.app_share import share_of_app, without_app
from provision.fleet.choice import release_for
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.inventory.host import Host, Inventory
from provision.inventory.queue import release_extras
from provision.options import Options
from provision.release.app import build_app, built_app
from provision.release.app_source import App, uncommitted_files
from provision.release.build import Artifact, build_release, built_release, named_release
from provision.release.manifest import must_fit
from provision.release.target import target_of
from provision.report.events import Building
from provision.report.reporter import Reporter
from provision.resources.base import Answers, Resource
from provision.resources.release import OldReleases, Release


class Role(Protocol):
    """A generator of resources: what a host of a kind should be."""

    @property
    def __name__(self) -> str: ...

    def __call__(
        self, host: Host, inventory: Inventory, artifact: Artifact, /
    ) -> Iterable[Resource]: ...


Roles = Mapping[str, Sequence[Role]]
"""Inventory group -> its roles, in the order in which groups are deployed."""


class DesiredState:
    """What the roles say of an inventory's hosts, as far as the tags that were asked for go."""

    def __init__(
        self,
        inventory: Inventory,
        roles: Roles,
        options: Options,
        report: Reporter,
        track: ReleaseTrack | None = None,
    ) -> None:
        self._inventory = inventory
        self._extras = release_extras(inventory)
        self._app = track.app if track else ""  # that alone is changed, if it is named
        self._leaves_apps = track == OWN  # gearman_py moves, and they stay as they are
        self._roles = roles
        self._again = options.again
        self.bad: Mapping[str, str] = {}  # releases that the fleet gave up, and why
        self._report = report
        names = [role.__name__ for group in roles.values() for role in group]
        self._tags = tags.parse(options.tags, names)
        self._building = Lock()
        self._built: dict[object, Artifact | ToolkitError] = {}
        self._found: dict[object, Artifact | None] = {}
        self._told: set[App] = set()  # that their files differ from what was committed

    def know(self, inventory: Inventory) -> None:
        """More is known of the hosts now, as which are drained."""
        self._inventory = inventory

    def host_groups(self) -> list[list[str]]:
        """Names of hosts by the first group that says what they are for, in the roles' order."""
        left, found = list(self._inventory.hosts), []
        for name in self._roles:
            found.append([host.name for host in left if name in host.groups])
            left = [host for host in left if name not in host.groups]
        return [group for group in found if group]

    def resources_of(self, host: Host, artifact: Artifact) -> list[Resource]:
        """What ``host`` should be, as far as the run changes it."""
        found = self._all_of(host, artifact)
        if self._app:
            without = self._all_of(without_app(host, self._app), artifact)
            found = list(share_of_app(host, self._app, found, without))
        if self._leaves_apps:
            found = [one for one in found if not (isinstance(one, OldReleases) and one.is_of_app)]
        return [self._as_known(one) if isinstance(one, Release) else one for one in found]

    def _all_of(self, host: Host, artifact: Artifact) -> list[Resource]:
        named = [
            (role.__name__, resource)
            for group, roles in self._roles.items()
            if group in host.groups
            for role in roles
            for resource in role(host, self._inventory, artifact)
        ]
        return tags.select(self._tags, named)

    def _as_known(self, release: Release) -> Release:
        bad = self.bad.get(release.artifact.id, "")
        return replace(release, again=self._again, bad=bad)

    def all_resources(self) -> Iterator[tuple[str, list[Resource]]]:
        """Every host of the inventory, in this run or not, and what it should be."""
        for host in self._inventory.everyone:
            yield host.name, self._all_of(host, named_release("any"))

    def tree_artifact(self, answers: Answers) -> Artifact:
        """This tree's release for a host that gave these answers; it is built once."""
        target = target_of(answers["host",])

        def build() -> Artifact:
            if artifact := built_release(target, extras=self._extras):
                return artifact
            self._report.show(Building(target))
            return build_release(target, extras=self._extras)

        return release_for(self._build_once(target, build), answers)

    def known_tree(self, answers: Answers) -> str | None:
        """The id of this tree's release for such a host, if it was built."""
        try:
            target = target_of(answers["host",])
        except HostFailed:
            return None
        find = partial(built_release, target, extras=self._extras)
        found = self._find_once((target, *self._extras), find)
        return release_for(found, answers).id if found else None

    def known_app(self, app: App, facts: Mapping[str, Any]) -> str | None:
        """The id of the release of an app's files as they are here, if it was built."""
        try:
            target = target_of(facts) if app.python else None
        except HostFailed:
            return None

        ours = None
        if target:
            find = partial(built_release, target, pure=True)
            ours = self._find_once((target, "pure"), find)
            if not ours:  # with which it is built
                return None
        found = self._find_once((app, target), partial(built_app, app, target=target, ours=ours))
        return found.id if found else None

    def _find_once(self, wanted: object, find: Callable[[], Artifact | None]) -> Artifact | None:
        """What ``find`` finds, which reads every file of a source."""
        with self._building:
            if wanted not in self._found:
                try:
                    self._found[wanted] = find()
                except ToolkitError:
                    self._found[wanted] = None
            return self._found[wanted]

    def app_artifact(self, app: App, facts: Mapping[str, Any]) -> Artifact:
        """The release of an app's files as they are here, for such a host; it is built once."""
        target = target_of(facts) if app.python else None

        def build() -> Artifact:
            different = uncommitted_files(app)
            if different and app not in self._told:
                self._report.say(f"app {app.name}: {different}")
            self._told.add(app)
            if artifact := built_app(app, target=target):
                return artifact
            self._report.say(f"building app {app.name}{f' for {target}' * bool(target)}")
            return build_app(app, target=target)

        return self._build_once((app, target), build)

    def _build_once(self, wanted: object, build: Callable[[], Artifact]) -> Artifact:
        """What ``build`` made of what is wanted; a build that failed is not tried again."""
        with self._building:
            if wanted not in self._built:
                try:
                    self._built[wanted] = build()
                except ToolkitError as error:
                    self._built[wanted] = error
            made = self._built[wanted]
        if isinstance(made, ToolkitError):
            raise made
        return made


def kept_artifact(
    id: str, facts: Mapping[str, Any], kept: Iterable[str], track: ReleaseTrack = OWN
) -> Artifact:
    """Release ``id`` for a host that keeps these. Raises :class:`HostFailed`."""
    artifact = track.named(id)
    if artifact.path is None and id not in kept:
        known = ", ".join(kept) or "none"
        raise HostFailed(f"it keeps no release {id}, nor does this machine; it keeps {known}")
    must_fit(artifact, target_of(facts))
    return artifact
