"""The Debian package in a bare Debian: installed, at work, upgraded, beside C's, and purged.

The Debian is an overlay over the lab's base tree, in namespaces of its own and without systemd.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gearman_py import __version__
from packages import debian_package
from packages.build import build_distributions
from packages.debian_package import build_debian_package
from provision.lab import base, programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a chroot"),
    pytest.mark.skipif(bool(programs.missing(debian_package.PROGRAMS)), reason="needs debhelper"),
]

ROOT = Path(__file__).resolve().parents[2]
EPOCH = "1795949335"
# What dpkg and other programs of Debian keep for themselves.
KEPT = r"/(var/(log|lib/dpkg|cache)|etc/ld.so.cache|run|tmp|proc|sys|dev)(/|$)"
SERVER = """
ip link set lo up
mkdir -p /run/gearmand /var/lib/gearmand
/usr/lib/gearman-py/bin/gearmand --config-file /etc/gearman-py/gearmand.toml &
for attempt in $(seq 100); do /usr/lib/gearman-py/bin/gearadmin --ping && break; sleep 0.1; done
"""


class Debian:
    """A throw-away Debian that keeps what was written to it from one script to the next."""

    def __init__(self, folder: Path, suite: str) -> None:
        base.CACHE.mkdir(parents=True, exist_ok=True)
        with (base.CACHE / "lock").open("w") as lock:  # the lab's own, which builds trees too
            fcntl.flock(lock, fcntl.LOCK_EX)
            base.build(print, suite)
        self._lower = base.path(suite)
        self._folder = folder
        for name in ("upper", "work", "merged"):
            (folder / name).mkdir()

    def run(self, script: str) -> str:
        """What the script prints; it runs as root, and what it leaves running ends with it."""
        layers = f"lowerdir={self._lower},upperdir=upper,workdir=work"
        mount = f"mount -t overlay overlay -o {layers} merged && mount -t proc proc merged/proc"
        done = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"),
                *("sh", "-euc", f'{mount} && exec chroot merged /bin/sh -euc "$1"', "sh", script),
            ],
            cwd=self._folder,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def give(self, package: Path) -> str:
        """Its path within."""
        home = self._folder / "upper" / "root"
        home.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(package, home)
        return f"/root/{package.name}"

    def files(self) -> set[str]:
        return set(self.run(f"find / -xdev | grep -vE '^{KEPT}'").splitlines())


@pytest.fixture(params=["bookworm", "trixie"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Debian:
    folder = tmp_path / "debian"
    folder.mkdir()
    return Debian(folder, request.param)


def build(folder: Path, version: str = "") -> Path:
    """The package of this tree, or of the same with another version."""
    tree = folder / "tree"
    sdist, _ = build_distributions(ROOT, folder / "built", EPOCH)
    shutil.unpack_archive(sdist, folder, filter="data")
    (folder / sdist.name.removesuffix(".tar.gz")).rename(tree)
    if version:
        front = tree / "gearman_py" / "__init__.py"
        front.write_text(front.read_text().replace(f'"{__version__}"', f'"{version}"'))
    wheel = build_distributions(tree, folder / "wheel", EPOCH)[1]
    return build_debian_package(tree, wheel, "0123abc", EPOCH)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("newer"), "99.1")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("package"))


def test_the_same_tree_makes_the_same_package(package: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    first, second = (hashlib.sha256(path.read_bytes()).digest() for path in (package, again))
    assert first == second


def test_lintian_finds_nothing(package: Path) -> None:
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    command = ("lintian", "--allow-root", "--display-info", "--pedantic", str(package))
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_is_installed_works_is_upgraded_and_leaves_nothing(
    bare: Debian, package: Path, newer: Path
) -> None:
    first, second = bare.give(package), bare.give(newer)
    before = bare.files()
    bare.run(f"dpkg --force-unsafe-io -i {first}")
    bare.run("systemd-analyze verify --man=no gearmand.service gearman-worker@reverse.service")
    assert bare.run("systemctl is-enabled gearmand") == "enabled\n"
    said = bare.run(
        f"{SERVER} gearman-worker reverse & gearman -f reverse hello; gearman -b -f kept x"
    )
    assert said.endswith("olleh")

    bare.run("sed -i 's/^drain-timeout.*/drain-timeout = 5/' /etc/gearman-py/gearmand.toml")
    bare.run(f"dpkg --force-unsafe-io -i {second}")
    assert "= 5" in bare.run("cat /etc/gearman-py/gearmand.toml"), "an operator's own settings stay"
    assert bare.run("gearmand --version") == "gearmand 99.1 (pure Python)\n"
    assert "kept\t1\t0\t0" in bare.run(f"{SERVER} gearadmin --status"), "and so do queued jobs"

    bare.run("dpkg -P gearman-py")
    assert bare.files() == before


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
