"""The lab's apt repository: what inventories ask of its hosts, which reach no other one.

A company that lets no server out has a mirror of its own; this is the lab's. Packages are
downloaded once, with all that they need beyond a suite's base tree, into
/var/cache/gearman_py/lab/packages, which every host sees as /srv/packages.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from provision.errors import ToolkitError
from provision.lab import base
from provision.lab.programs import ALONE, Say, execute, execute_shown

OFFERED = ("gearman-tools", "php-cli", "php-gearman", "php-imagick")  # what examples/lab asks
ON_HOSTS = "/srv/packages"
SOURCE = f"deb [trusted=yes] file:{ON_HOSTS} ./\n"
NOTE = "offered"  # the file that names what was asked for

# Over the base tree, on a disk that is gone when this ends: nothing of it stays but the packages.
DOWNLOAD = """
set -e
mount -t tmpfs none "$SCRATCH"
cd "$SCRATCH"
mkdir upper work root
mount -t overlay -o "lowerdir=$TREE,upperdir=upper,workdir=work" none root
cp -L /etc/resolv.conf root/etc/resolv.conf
apt-config dump Acquire >root/etc/apt/apt.conf.d/this-machine
sed -i "s/ main$/ $COMPONENTS/" root/etc/apt/sources.list
chroot root apt-get --quiet update
chroot root apt-get --quiet --yes --no-install-recommends --download-only install "$@"
cp root/var/cache/apt/archives/*.deb "$TARGET"
"""


def path(suite: str) -> Path:
    """The folder of a suite's packages, which may be empty."""
    return base.CACHE / "packages" / suite


def fill(say: Say, suite: str, names: Sequence[str]) -> None:
    """Have these packages offered to hosts of a suite; one that cannot be had is told."""
    folder = path(suite)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Packages").touch()
    note = folder / NOTE
    offered = note.read_text().split() if note.exists() else []
    missing = [name for name in names if name not in offered]
    if not missing:
        return
    say(f"downloading {', '.join(missing)} for {suite} hosts (once)")
    try:
        _download(say, suite, missing, folder)
    except ToolkitError as error:
        say(f"{suite} hosts have no {', '.join(missing)}: {error}")
        return
    _write_index(folder)
    note.write_text("".join(f"{name}\n" for name in [*offered, *missing]))


def _download(say: Say, suite: str, names: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=base.CACHE) as scratch, _target(folder) as target:
        environment = {
            "TREE": str(base.path(suite)),
            "SCRATCH": scratch,
            "TARGET": target,
            "COMPONENTS": "main universe" if base.SUITES[suite] == base.UBUNTU else "main",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        execute_shown([*ALONE, "sh", "-c", DOWNLOAD, "sh", *names], say, env=environment)
        for package in Path(target).glob("*.deb"):
            digest = hashlib.sha256(package.read_bytes()).hexdigest()
            shutil.move(package, folder / f"{digest[:16]}.deb")


def _target(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """Beside the packages: to move one there is to rename it."""
    return tempfile.TemporaryDirectory(dir=folder.parent)


def _write_index(folder: Path) -> None:
    entries = []
    for package in sorted(folder.glob("*.deb")):
        content = package.read_bytes()
        entries.append(
            execute(["dpkg-deb", "--field", str(package)])
            + f"Filename: ./{package.name}\nSize: {len(content)}\n"
            + f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    written = folder / "Packages.new"
    written.write_text("\n".join(entries))
    written.rename(folder / "Packages")
