"""The Debian package by itself: what lintian says, and its commands beside C's.

tests/lab/test_packages.py installs, upgrades and purges it on a host.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from packages import debian_package
from provision.lab import programs
from tests.packages.bare_debian import Debian
from tests.packages.versions import our_debian

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a chroot"),
    pytest.mark.skipif(bool(programs.missing(debian_package.PROGRAMS)), reason="needs debhelper"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return our_debian(tmp_path_factory)


def test_lintian_finds_nothing(package: Path) -> None:
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    command = ("lintian", "--allow-root", "--display-info", "--pedantic", str(package))
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_package_of_the_c_server_keeps_its_names_while_it_is_there(
    bare: Debian, package: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "c"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr" / "bin").mkdir(parents=True)
    command = tree / "usr" / "bin" / "gearman"
    command.write_text("#!/bin/sh\necho C\n")
    command.chmod(0o755)
    fields = "Package: gearman-tools\nVersion: 1\nArchitecture: all\nMaintainer: C <c@c.invalid>\n"
    (tree / "DEBIAN" / "control").write_text(f"{fields}Description: C\n")
    deb = tmp_path / "gearman-tools.deb"
    subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, capture_output=True)
    ours, theirs = bare.give(package), bare.give(deb)
    install = "dpkg --force-unsafe-io -i"

    for first, second in ((ours, theirs), (theirs, ours)):
        bare.run(f"{install} {first}")
        bare.run(f"{install} {second}")
        assert bare.run("gearman --version") == "C\n"
        assert bare.run("gearadmin --version").startswith("gearadmin "), "only what both have"
        bare.run("dpkg -r gearman-tools")
        assert bare.run("gearman --version").startswith("gearman "), "ours has the name again"
        bare.run("dpkg -P gearman-py")
        assert bare.run("ls /usr/bin/gearman* /etc/alternatives/gearman* || true") == ""
