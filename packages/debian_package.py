"""The Debian package, built by debhelper from packages/debian/ and the wheel."""

import shutil
import textwrap
from email.utils import formatdate
from pathlib import Path

from packages.commands import run_command

MAINTAINER = "The gearman_py authors <gearman-py@localhost.localdomain>"
PROGRAMS = {
    "dpkg-buildpackage": "dpkg-dev",
    "dh": "debhelper",
    "dh_python3": "dh-python",
    "/usr/lib/python3/dist-packages/installer": "python3-installer",
}
"""What it takes, and the Debian package that brings it."""


def build_debian_package(tree: Path, wheel: Path, commit: str, epoch: str) -> Path:
    """The .deb that installs ``wheel``; ``tree`` is the wheel's, and is written to."""
    folder = tree / "debian"
    shutil.copytree(tree / "packages" / "debian", folder)
    (folder / "changelog").write_text(_changelog(wheel.name.split("-")[1], commit, int(epoch)))
    (folder / "copyright").write_text(_copyright((tree / "LICENSE").read_text()))
    (tree / "dist").mkdir()
    shutil.copy(wheel, tree / "dist")
    run_command(
        *("dpkg-buildpackage", "--build=binary", "--no-sign", "-Ppkg.gearman-py.wheel"),
        cwd=tree,
        PATH="/usr/sbin:/usr/bin:/sbin:/bin",  # Debian's own Python, not that of .venv
    )
    return next(tree.parent.glob("gearman-py_*.deb"))


def _changelog(version: str, commit: str, epoch: int) -> str:
    return f"""gearman-py ({version}) unstable; urgency=medium

  * Built from commit {commit}.

 -- {MAINTAINER}  {formatdate(epoch)}
"""


def _copyright(licence: str) -> str:
    """Debian's machine-readable form of LICENSE."""
    text = textwrap.indent(licence.partition("\n\n")[2], " ", lambda line: True)
    text = text.replace(" \n", " .\n")
    return f"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: gearman_py

Files: *
Copyright: the gearman_py authors
License: BSD-3-Clause
{text}"""
