"""A bare Debian for tests of packages."""

from pathlib import Path

import pytest

from tests.packages.bare_debian import Debian


@pytest.fixture
def bare(tmp_path: Path) -> Debian:
    folder = tmp_path / "debian"
    folder.mkdir()
    return Debian(folder, "trixie")
