"""What `./invoke package` makes of the last commit: sdist, wheel, Debian package and RPM.

The wheel is for all machines, so it has no accelerator; installing the sdist builds it.
Files that are not committed have no part in them, and every time in them is the commit's: one
commit makes the same bytes wherever and whenever it is built.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from packages import debian_package, rpm_package
from packages.commands import run_command

ROOT = Path(__file__).resolve().parent.parent
PACKAGERS = {"deb": debian_package.PROGRAMS, "rpm": rpm_package.PROGRAMS}
"""The formats -> what building them takes, and the Debian packages that bring that."""


def build_packages(
    dist: Path, say: Callable[[str], None], root: Path = ROOT, *, formats: Collection[str]
) -> list[Path]:
    """Build sdist, wheel and packages of these formats, deb and rpm, into ``dist``.

    Returns the files made. Raises :class:`ToolkitError`.
    """
    commit, epoch = run_command("git", "log", "-1", "--format=%h %ct", cwd=root).split()
    if run_command("git", "status", "--porcelain", cwd=root):
        say(f"package: building commit {commit}; what is not committed is left out")
    dist.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        _export(root, tree)
        built = build_distributions(tree, Path(scratch, "built"), epoch)
        sdist, wheel = built
        if "rpm" in formats:
            built.append(rpm_package.build_rpm(sdist, commit, epoch))
        if "deb" in formats:
            built.append(debian_package.build_debian_package(tree, wheel, commit, epoch))
        made = [Path(shutil.copy(path, dist)) for path in built]
    for path in made:
        say(f"package: {path}")
    return made


def build_distributions(tree: Path, folder: Path, epoch: str) -> list[Path]:
    """The sdist of a tree, and the wheel of that sdist, in ``folder``."""
    sdist = build_sdist(tree, folder, epoch)
    shutil.unpack_archive(sdist, folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return [sdist, _hatchling(unpacked, "wheel", folder, epoch)]


def build_sdist(tree: Path, folder: Path, epoch: str) -> Path:
    """The sdist of a tree, in ``folder``."""
    return _hatchling(tree, "sdist", folder, epoch)


def _export(root: Path, tree: Path) -> None:
    tree.mkdir()
    archive = tree.with_suffix(".tar")
    run_command("git", "archive", "--output", str(archive), "HEAD", cwd=root)
    shutil.unpack_archive(archive, tree, filter="data")


def _hatchling(tree: Path, target: str, folder: Path, epoch: str) -> Path:
    command = (sys.executable, "-P", "-m", "hatchling", "build", "-d", str(folder), "-t", target)
    run_command(*command, cwd=tree, SOURCE_DATE_EPOCH=epoch, GEARMAN_PURE="1")
    return next(folder.glob({"sdist": "*.tar.gz", "wheel": "*.whl"}[target]))
