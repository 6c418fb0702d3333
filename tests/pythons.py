"""Other Pythons that gearman_py is for, and its suites on them: `invoke test --python 3.14`.

Each comes from the distribution that has it, whose packages are unpacked and not installed: a
system of some 40 packages, made in seconds. The suites see it in a chroot of their own, without
network, with this checkout at its place and the libraries that they need for that Python.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from provision.inventory.queue import DRIVERS
from provision.lab.base import CACHE, TREE_LIFETIME, UBUNTU, UBUNTU_KEY
from provision.lab.programs import PATH, execute
from provision.release.build import fetch_wheels, locked_wheels
from provision.release.target import Target

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = ("http://deb.debian.org/debian", "/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHONS = {
    "3.12": ("noble", UBUNTU[0], str(UBUNTU_KEY)),
    "3.13": ("trixie", *DEBIAN),
    "3.14": ("resolute", UBUNTU[0], str(UBUNTU_KEY)),
}
"""Each version -> the suite that has it, its mirror and the key that signs it."""

PACKAGES = (
    *("?essential", "python3", "tzdata", "iproute2", "mount", "procps", "bsdextrautils"),
    *("git", "openssh-client", "openssl", "sqlite3", "strace"),
)

CHOSEN = (
    "tests/protocol",
    "tests/broker/test_rules.py",
    "tests/client/test_clients.py",
    "tests/worker/test_worker.py",
    "tests/server/test_listener.py",
)
"""Of each layer what the others build on: seconds, for CI."""
NEWEST = "3.14"
LAYERS = ("tests/protocol", "tests/broker", "tests/client", "tests/worker", CHOSEN[-1])
"""What CI runs on the newest, besides."""

FOLDERS = (
    *("protocol", "broker", "store", "client", "worker", "admin", "server", "cli", "functions"),
    *("compat", "roles", "provision"),
)
SUITES = tuple(f"tests/{folder}" for folder in FOLDERS)
"""All that needs neither a lab nor a program that an ordinary system lacks."""
ABSENT = (
    *("tests/broker/test_mirrored.py", "tests/client/test_twins.py"),  # about the source alone
    *("tests/server/test_shared.py", "tests/server/test_two_servers.py"),  # need databases
    *("tests/server/test_database_login.py", "tests/store/test_failure_detector.py"),
)
"""What cannot pass in such a system."""
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")
FAST = ("-m", "not slow and not interop", "--hypothesis-profile", "fast")

# $1 is the system's folder. Its packages' own scripts are not run: it is a Python, not a Debian.
UNPACK = """
cd "$1"
mkdir -p etc/apt/apt.conf.d etc/apt/preferences.d etc/apt/trusted.gpg.d var/lib/dpkg \\
    var/lib/apt/lists/partial var/cache/apt/archives/partial
touch var/lib/dpkg/status
echo "deb [signed-by=$4] $3 $2 main" > etc/apt/sources.list
shift 4
get="apt-get -qq -o Dir=$PWD -o Dir::State::status=$PWD/var/lib/dpkg/status
    -o APT::Sandbox::User=root -o APT::Install-Recommends=0 -o Acquire::Languages=none"
$get update
$get install --yes --download-only "$@"
for package in var/cache/apt/archives/base-files*.deb var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar --extract --keep-directory-symlink
done
rm -r var/cache/apt var/lib/apt
"""

# $1 is the system, $2 the libraries, $3 the checkout. What is written is gone when this ends. The
# shell stays: process 1 has to wait for what its children leave behind.
RUN = """
scratch=/run
system=$1 libraries=$2 checkout=$3
shift 3
mount -t tmpfs none $scratch
cd $scratch
mkdir upper work root written worked
mount -t overlay -o "lowerdir=$system,upperdir=upper,workdir=work" none root
mkdir -p "root$checkout" root/srv/libraries root/srv/empty root/proc root/sys root/dev root/tmp \\
    root/root root/usr/local/sbin
mount -t overlay -o "lowerdir=$checkout,upperdir=written,workdir=worked" none "root$checkout"
mount --bind "$libraries" root/srv/libraries
mount -t proc none root/proc
mount --rbind /dev root/dev
mount --rbind /sys root/sys
cp /etc/passwd /etc/group root/etc/
echo 127.0.0.1 localhost > root/etc/hosts
ip link set lo up
env --ignore-environment --default-signal HOME=/root LANG=C.UTF-8 \\
    PATH=/usr/local/sbin:/usr/sbin:/usr/bin PIP_INDEX_URL=file:///srv/empty \\
    "PIP_FIND_LINKS=$WHEELS" chroot root /bin/sh -euc "$VENV" sh "$checkout" "$@"
"""
# A checkout's .venv, as ./invoke makes it.
VENV = """
cd "$1"
shift
rm -rf .venv
python3 -m venv --without-pip .venv
echo /srv/libraries > "$(echo .venv/lib/python3.*/site-packages)/libraries.pth"
ln -s /srv/libraries/bin/uv .venv/bin/
.venv/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
exec .venv/bin/python "$@"
"""


def main(version: str, *arguments: str) -> int:
    """Run pytest on this Python: what is named, or SUITES, or with ``--fast`` CHOSEN, LAYERS."""
    if version not in PYTHONS:
        print(f"unknown Python {version!r}; expected {', '.join(PYTHONS)}", file=sys.stderr)
        return 1
    fast = "--fast" in arguments
    chosen = LAYERS if version == NEWEST else CHOSEN
    named = [word for word in arguments if word != "--fast"] or (chosen if fast else SUITES)
    options = FAST if fast else ("-m", "not lab and not interop", "-n", "2", "--dist", "loadgroup")
    left_out = (f"--ignore={file}" for file in ABSENT)
    return run_python(version, *PYTEST, *options, *left_out, *named)


def run_python(version: str, *arguments: str) -> int:
    """Run this Python with these arguments in the checkout, as root; its exit status."""
    alone = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child")
    system = make_system(version)
    words = map(str, (system, install_libraries(version), ROOT))
    command = [*alone, "sh", "-euc", RUN, "sh", *words, *arguments]
    wheels = " ".join(map(str, fetch_release(version, system)))
    environment = {"PATH": PATH, "VENV": VENV, "WHEELS": wheels}
    return subprocess.run(command, env=environment, check=False).returncode


def make_system(version: str) -> Path:
    """The folder of a system with this Python."""
    suite, mirror, key = PYTHONS[version]

    def unpack(folder: Path) -> None:
        execute(["sh", "-euc", UNPACK, "sh", str(folder), suite, mirror, key, *PACKAGES])

    return _made_once(f"python-{version}", repr((suite, UNPACK, PACKAGES)), unpack)


def install_libraries(version: str) -> Path:
    """The folder of the libraries for this Python."""
    wanted = (ROOT / "requirements.lock").read_text()

    def install(folder: Path) -> None:
        options = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
        place = ("--python-version", version, "--target", str(folder), "--requirement", "-")
        uv = (sys.executable, "-m", "uv", "pip", "install", "--no-config")
        execute([*uv, *options, *place], input=wanted)

    return _made_once(f"libraries-{version}", wanted, install)


def fetch_release(version: str, system: Path) -> list[Path]:
    """Folders with the wheels that releases of gearman_py have, for all hosts of the tests."""
    glibc = execute(["chroot", str(system), "ldd", "--version"]).split("\n")[0].split()[-1]
    python, machine = _as_numbers(version), platform.machine()
    lines, all_lines = ("".join(locked_wheels(ROOT, more)) for more in ((), tuple(DRIVERS)))
    own = (Target(python, machine, each) for each in (_as_numbers(glibc), (2, 28)))
    ordinary = Target((3, 11), "x86_64", (2, 36))  # the hosts of most tests
    return [fetch_wheels(ordinary, all_lines), *(fetch_wheels(target, lines) for target in own)]


def _as_numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def locked(names: Collection[str]) -> str:
    """What requirements.lock says of these, with hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    return "\n".join(entry for entry in entries if entry.partition("==")[0] in names)


def _made_once(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled, now or before; those of other recipes are removed."""
    folder = CACHE / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in CACHE.glob(f"{name}-*"):
                if time.time() - old.stat().st_mtime > TREE_LIFETIME:  # other checkouts use others
                    shutil.rmtree(old)
            partial = folder.with_name(f"{folder.name}.partial")
            partial.mkdir()
            make(partial)
            partial.rename(folder)
        os.utime(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
