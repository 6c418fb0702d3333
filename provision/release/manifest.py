"""What a release says of itself, in its MANIFEST.json."""

import json
import tarfile
from typing import Any

from provision.errors import HostFailed
from provision.release.build import Artifact
from provision.release.target import Target


def read_manifest(artifact: Artifact) -> str:
    """What a release on this machine says that it has; empty of one that is not here."""
    if artifact.path is None or not artifact.path.is_file():
        return ""
    with tarfile.open(artifact.path) as tar:
        manifest: Any = tar.extractfile("MANIFEST.json")
        return str(manifest.read().decode())


def must_fit(artifact: Artifact, target: Target) -> None:
    """Raises :class:`HostFailed` when a release on this machine is for another kind of host."""
    text = read_manifest(artifact)
    told = json.loads(text).get("target") if text else None
    if told is None:  # an app whose files do not depend on it
        return
    made = Target(tuple(told["python"]), told["machine"], tuple(told["glibc"]))
    if (made.python, made.machine) != (target.python, target.machine) or made.glibc > target.glibc:
        raise HostFailed(
            f"release {artifact.id} is for {made}, and this host has {target}: name none, so that "
            "each host gets its own, or leave this one out (--limit)"
        )
