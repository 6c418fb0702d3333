"""The RPM: installed, at work, upgraded and removed.

rpm installs it into a bare Debian, for there is no Fedora here: with another Python than the one
it was built with, and without systemd.
"""

import os
import subprocess
from pathlib import Path

import pytest

from packages import rpm_package
from provision.lab import programs
from tests.packages.bare_debian import SERVER, Debian
from tests.packages.versions import NEWER, ROOT, build_redhat

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(programs.missing(rpm_package.PROGRAMS)), reason="needs rpm"),
]

RPM = "rpm --root $PWD/merged --dbpath /var/lib/dpkg/rpm --force-debian --nodeps"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_redhat(tmp_path_factory, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_redhat(tmp_path_factory, tmp_path_factory.mktemp("newer"), NEWER)


def test_rpmlint_finds_nothing(package: Path) -> None:
    if programs.missing({"rpmlint": "rpmlint"}):
        pytest.skip("rpmlint is not installed")
    settings = ROOT / "packages" / "rpm" / "rpmlint.toml"
    command = ("rpmlint", "--strict", "--config", str(settings), str(package))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a chroot")
def test_it_is_installed_works_is_upgraded_and_removed(
    bare: Debian, package: Path, newer: Path
) -> None:
    before = bare.files()
    bare.run_outside(f'{RPM} --install "$1"', str(package))
    bare.run("systemd-analyze verify --man=no gearmand.service gearman-worker@reverse.service")
    said = bare.run(
        f"{SERVER} gearman-worker reverse & gearman -f reverse hello; gearman -b -f kept x"
    )
    assert said.endswith("olleh")

    bare.run("sed -i 's/^drain-timeout.*/drain-timeout = 5/' /etc/gearman-py/gearmand.toml")
    bare.run_outside(f'{RPM} --upgrade "$1"', str(newer))
    assert "= 5" in bare.run("cat /etc/gearman-py/gearmand.toml"), "an operator's own settings stay"
    assert bare.run("gearmand --version") == f"gearmand {NEWER} (pure Python)\n"
    assert "kept\t1\t0\t0" in bare.run(f"{SERVER} gearadmin --status"), "and so do queued jobs"

    bare.run_outside(f"{RPM} --erase gearman-py")
    left = {path for path in bare.files() - before if not path.startswith("/var/lib/gearmand")}
    left.remove("/usr/share/licenses")  # a distribution of RPMs has it
    assert left == {"/etc/gearman-py", "/etc/gearman-py/gearmand.toml.rpmsave"}
