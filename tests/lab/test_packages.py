"""The Debian package on a host with systemd: installed, at work, upgraded, beside C's, purged."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from packages import debian_package
from provision.lab import programs
from tests.lab.hosts import root
from tests.packages.bare_debian import KEPT
from tests.packages.versions import NEWER, newer_debian, our_debian

pytestmark = pytest.mark.skipif(
    bool(programs.missing(debian_package.PROGRAMS)), reason="needs debhelper"
)

HOST = "worker2"  # no other test has deployed anything to it
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes"
UNITS = "gearmand gearman-worker@reverse"

Run = Callable[[str], str]


@pytest.fixture
def run(lab: ModuleType) -> Iterator[Run]:
    """Runs a script as root on a bare host."""
    lab.up(print, workers=2)
    yield lambda script: root(lab, HOST, script)
    lab.up(print)


def give(lab: ModuleType, package: Path) -> str:
    """Put a package on the host; its path there."""
    place = f"/tmp/{package.name}"
    content = base64.b64encode(package.read_bytes()).decode()
    done = lab.run(HOST, ["sh", "-c", f"base64 --decode > {place}"], content)
    assert done.returncode == 0, done.stderr
    return place


def test_the_package_works_is_upgraded_and_leaves_nothing(
    lab: ModuleType, run: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    packages = our_debian(tmp_path_factory), newer_debian(tmp_path_factory, tmp_path)
    ours, newer = (give(lab, package) for package in packages)
    everything = f"find / -xdev | grep --invert-match --extended-regexp '^{KEPT}' | sort"
    run(f"apt-get update --quiet=2; {INSTALL} gearman-tools")
    before = run(everything)

    run(f"{INSTALL} {ours}")
    assert run("readlink --canonicalize /usr/bin/gearman") == "/usr/bin/gearman\n", "C's stays"
    assert run(f"systemctl is-enabled {UNITS.split()[0]}") == "enabled\n"
    run("systemctl enable --now gearman-worker@reverse")
    assert run("gearman -t 20000 -f reverse hello; gearman -b -f kept x") == "olleh"
    assert run("journalctl --no-pager | grep 'ignoring line' || true") == "", "of a unit"
    workers = run(f"systemctl show --property MainPID {UNITS}")

    run("sed -i 's/^drain-timeout.*/drain-timeout = 5/' /etc/gearman-py/gearmand.toml")
    run(f"{INSTALL} {newer}")
    assert "= 5" in run("cat /etc/gearman-py/gearmand.toml"), "an operator's own settings stay"
    assert run(f"systemctl is-active {UNITS}") == "active\nactive\n"
    after = run(f"systemctl show --property MainPID {UNITS}")
    assert set(workers.split()) & set(after.split()) == set(), "the old code does not run on"
    assert NEWER in run("gearadmin --server-version")
    assert "kept\t1\t0\t0" in run("gearadmin --status"), "jobs outlive an upgrade"
    assert run("gearman -t 20000 -f reverse hello") == "olleh"

    run("DEBIAN_FRONTEND=noninteractive apt-get purge --quiet=2 --yes gearman-py")
    assert set(run(everything).split("\n")) - set(before.split("\n")) == set()
    assert run("systemctl list-units --all --plain --no-legend 'gearman*.service'") == ""
    assert run("systemctl is-system-running") == "running\n"
