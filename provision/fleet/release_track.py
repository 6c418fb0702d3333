"""What a run moves from release to release: gearman_py itself, or one app beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from provision.app import named_app
from provision.app_source import APPS
from provision.build import ON_HOSTS, Artifact, named_release
from provision.remote.messages import Question


@dataclass(frozen=True)
class ReleaseTrack:
    """gearman_py's releases; those of ``app``, if it is named."""

    app: str = ""

    @property
    def root(self) -> str:
        """The folder on a host that its releases are in."""
        return f"{APPS}/{self.app}" if self.app else ON_HOSTS

    @property
    def question(self) -> Question:
        """By which a host tells its releases."""
        return ("releases", self.root)

    def release_of(self, artifact: Artifact) -> str:
        """The id of what moves, of all that a host should run."""
        return artifact.app(self.app).id if self.app else artifact.id

    def with_release(self, artifact: Artifact, id: str) -> Artifact:
        """The same with another release of what moves."""
        if not self.app:
            return replace(named_release(id), apps=artifact.apps)
        moved = {**dict(artifact.apps), self.app: named_app(self.app, id)}
        return replace(artifact, apps=tuple(moved.items()))

    def is_of(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry of a host's history tells of it."""
        return bool(entry.get("app", "") == self.app)


OWN = ReleaseTrack()
