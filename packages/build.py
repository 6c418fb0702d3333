"""What `./invoke package` makes of the last commit, in dist/: sdist, wheel and Debian package.

The wheel is for all machines, so it has no accelerator; installing the sdist builds it.
Files that are not committed have no part in them, and every time in them is the commit's: one
commit makes the same bytes wherever and whenever it is built.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from packages.commands import run_command
from packages.debian_package import build_debian_package

ROOT = Path(__file__).resolve().parent.parent


def build_packages(
    dist: Path, say: Callable[[str], None], root: Path = ROOT, *, debian: bool = True
) -> list[Path]:
    """Build everything into ``dist``; the files made. Raises :class:`ToolkitError`."""
    commit, epoch = run_command("git", "log", "-1", "--format=%h %ct", cwd=root).split()
    if run_command("git", "status", "--porcelain", cwd=root):
        say(f"package: building commit {commit}; what is not committed is left out")
    dist.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        _export(root, tree)
        built = build_distributions(tree, Path(scratch, "built"), epoch)
        if debian:
            built.append(build_debian_package(tree, built[1], commit, epoch))
        made = [Path(shutil.copy(path, dist)) for path in built]
    for path in made:
        say(f"package: {path}")
    return made


def build_distributions(tree: Path, folder: Path, epoch: str) -> list[Path]:
    """The sdist of a tree, and the wheel of that sdist, in ``folder``."""
    sdist = _hatchling(tree, "sdist", folder, epoch)
    shutil.unpack_archive(sdist, folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return [sdist, _hatchling(unpacked, "wheel", folder, epoch)]


def _export(root: Path, tree: Path) -> None:
    tree.mkdir()
    archive = tree.with_suffix(".tar")
    run_command("git", "archive", "--output", str(archive), "HEAD", cwd=root)
    shutil.unpack_archive(archive, tree, filter="data")


def _hatchling(tree: Path, target: str, folder: Path, epoch: str) -> Path:
    command = (sys.executable, "-P", "-m", "hatchling", "build", "-d", str(folder), "-t", target)
    run_command(*command, cwd=tree, SOURCE_DATE_EPOCH=epoch, GEARMAN_PURE="1")
    return next(folder.glob({"sdist": "*.tar.gz", "wheel": "*.whl"}[target]))
