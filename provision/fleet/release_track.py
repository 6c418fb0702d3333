"""What a run moves from release to release: gearman_py itself, or one app beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from provision.invoke_line import invoke_line
from provision.release.app import named_app
from provision.release.app_source import APPS
from provision.release.build import ON_HOSTS, Artifact, named_release
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

    @classmethod
    def of_root(cls, root: str) -> "ReleaseTrack":
        """The one whose releases are in this folder of a host."""
        return cls(root.removeprefix(f"{APPS}/") if root != ON_HOSTS else "")

    @property
    def upgrade_line(self) -> str:
        """The command that moves it."""
        return invoke_line("upgrade", *(("--app", self.app) if self.app else ()))

    @property
    def absence(self) -> str:
        """That a host has none of its releases in use, and what to do."""
        what = f"app {self.app}" if self.app else "gearman_py"
        return f"no release of {what} is in use there: `{invoke_line('deploy')}` first"

    def named(self, id: str) -> Artifact:
        """Its release ``id``, from this machine if it is here."""
        return named_app(self.app, id) if self.app else named_release(id)

    def release_of(self, artifact: Artifact) -> str:
        """The id of what moves, of all that a host should run."""
        return artifact.app(self.app).id if self.app else artifact.id

    def with_release(self, artifact: Artifact, id: str) -> Artifact:
        """The same with another release of what moves."""
        if not self.app:
            return replace(self.named(id), apps=artifact.apps)
        moved = {**dict(artifact.apps), self.app: self.named(id)}
        return replace(artifact, apps=tuple(moved.items()))

    def move_in(self, entry: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """From which release to which it went, as an entry of a host's history tells."""
        told = entry if entry.get("app", "") == self.app else entry.get("apps", {}).get(self.app)
        return (told.get("from"), told.get("release")) if told else (None, None)


OWN = ReleaseTrack()
