"""Packages of this tree, and of the same with another version: what an upgrade is tried with."""

import shutil
from pathlib import Path

from gearman_py import __version__
from packages.build import build_distributions, build_sdist
from packages.debian_package import build_debian_package
from packages.rpm_package import build_rpm

ROOT = Path(__file__).resolve().parents[2]
EPOCH, COMMIT = "1795949335", "0123abc"
NEWER = "99.1"


def build_debian(folder: Path, version: str = __version__) -> Path:
    """The Debian package, made in a folder."""
    tree = _tree(folder, version)
    wheel = build_distributions(tree, folder / "built", EPOCH)[1]
    return build_debian_package(tree, wheel, COMMIT, EPOCH)


def build_redhat(folder: Path, version: str = __version__) -> Path:
    """The RPM, made in a folder."""
    sdist = build_sdist(_tree(folder, version), folder, EPOCH)
    return build_rpm(sdist, COMMIT, EPOCH)


def _tree(folder: Path, version: str) -> Path:
    """A copy of this tree: what an sdist holds of it."""
    sdist = build_sdist(ROOT, folder / "ours", EPOCH)
    shutil.unpack_archive(sdist, folder, filter="data")
    tree = (folder / sdist.name.removesuffix(".tar.gz")).rename(folder / "tree")
    (tree / "PKG-INFO").unlink()  # hatchling believes it
    front = tree / "gearman_py" / "__init__.py"
    front.write_text(front.read_text().replace(f'"{__version__}"', f'"{version}"'))
    return tree
