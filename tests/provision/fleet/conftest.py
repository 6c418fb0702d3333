"""Fleets are deployed to from this tree, which no test changes."""

from collections.abc import Sequence

import pytest

from provision.fleet import desired_state
from provision.release.build import Artifact, built_release
from provision.release.target import Target

_found: dict[tuple[Target, tuple[str, ...], bool], Artifact] = {}


@pytest.fixture(autouse=True)
def _release_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which release this tree makes: to find that, every file of it is read."""
    monkeypatch.setattr(desired_state, "built_release", _find_release)


def _find_release(
    target: Target, extras: Sequence[str] = (), pure: bool = False
) -> Artifact | None:
    key = (target, tuple(extras), pure)
    if key not in _found and (artifact := built_release(target, extras=extras, pure=pure)):
        _found[key] = artifact
    return _found.get(key)
