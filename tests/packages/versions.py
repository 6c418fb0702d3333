"""Packages of this tree, and of the same with another version: what an upgrade is tried with.

What no test changes is built once for all processes of a run.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gearman_py import __version__
from packages.build import build_distributions, build_sdist
from packages.debian_package import build_debian_package
from packages.rpm_package import build_rpm
from provision.file_lock import file_lock

ROOT = Path(__file__).resolve().parents[2]
EPOCH, COMMIT = "1795949335", "0123abc"
NEWER = "99.1"


def our_distributions(factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel of this tree; beside them the sdist, unpacked."""
    folder = _build_once(
        factory, "our-distributions", lambda empty: build_distributions(ROOT, empty, EPOCH)
    )
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def our_debian(factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this tree."""

    def build(folder: Path) -> None:
        sdist, wheel = our_distributions(factory)
        build_debian_package(_tree(sdist, folder, __version__), wheel, COMMIT, EPOCH)

    return next(_build_once(factory, "our-debian", build).glob("*.deb"))


def newer_debian(factory: pytest.TempPathFactory, folder: Path) -> Path:
    """The Debian package of NEWER, made in a folder."""
    tree = _tree(our_distributions(factory)[0], folder, NEWER)
    wheel = build_distributions(tree, folder / "built", EPOCH)[1]
    return build_debian_package(tree, wheel, COMMIT, EPOCH)


def build_redhat(factory: pytest.TempPathFactory, folder: Path, version: str = __version__) -> Path:
    """The RPM, made in a folder."""
    tree = _tree(our_distributions(factory)[0], folder, version)
    return build_rpm(build_sdist(tree, folder, EPOCH), COMMIT, EPOCH)


def _build_once(
    factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]
) -> Path:
    """The folder that the first process of this run to need it has filled."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the run's own
    folder = base / name
    with file_lock(base / f"{name}.lock"):
        if not folder.exists():
            scratch = factory.mktemp(name)
            build(scratch)
            scratch.rename(folder)
    return folder


def _tree(sdist: Path, folder: Path, version: str) -> Path:
    """A copy of this tree, of what its sdist holds."""
    shutil.unpack_archive(sdist, folder, filter="data")
    tree = (folder / sdist.name.removesuffix(".tar.gz")).rename(folder / "tree")
    (tree / "PKG-INFO").unlink()  # hatchling believes it
    front = tree / "gearman_py" / "__init__.py"
    front.write_text(front.read_text().replace(f'"{__version__}"', f'"{version}"'))
    return tree
