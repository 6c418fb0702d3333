"""Other Pythons that gearman_py is for, and its suites on them: `invoke test --python 3.14`.

Each comes from the distribution that has it, whose packages are unpacked and not installed: a
system of some 40 packages, made in seconds. The suites see it in a chroot of their own, without
network, with this checkout at its place and the libraries that they need for that Python.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from provision.lab.base import CACHE, UBUNTU, UBUNTU_KEY
from provision.lab.programs import PATH, execute

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = ("http://deb.debian.org/debian", "/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHONS = {
    "3.12": ("noble", UBUNTU[0], str(UBUNTU_KEY)),
    "3.13": ("trixie", *DEBIAN),
    "3.14": ("resolute", UBUNTU[0], str(UBUNTU_KEY)),
}
"""Each version -> the suite that has it, its mirror and the key that signs it."""

PACKAGES = ("?essential", "python3", "iproute2", "mount", "openssl", "procps", "tzdata")
LIBRARIES = (
    *("pytest", "pytest-timeout", "pytest-xdist", "execnet", "iniconfig", "packaging", "pluggy"),
    *("pygments", "hypothesis", "sortedcontainers", "prometheus-client"),
    *("cryptography", "cffi", "pycparser", "cronsim", "pillow", "uvloop"),
)
"""What tests and what they test import, as requirements.lock has it."""

CHOSEN = (
    "tests/protocol",
    "tests/broker/test_rules.py",
    "tests/client/test_clients.py",
    "tests/worker/test_worker.py",
    "tests/server/test_listener.py",
)
"""Of each layer what the others build on: seconds, for CI."""

FOLDERS = ("protocol", "broker", "client", "worker", "server", "store", "admin", "cli")
SUITES = tuple(f"tests/{folder}" for folder in FOLDERS)
"""All that needs neither a lab, nor other Gearmans, nor a program of this machine."""
ABSENT = (
    *("tests/broker/test_mirrored.py", "tests/client/test_twins.py"),  # about the source alone
    *("tests/server/test_shared.py", "tests/server/test_two_servers.py"),  # databases' drivers
    *("tests/server/test_database_login.py", "tests/store/test_failure_detector.py"),
)
"""What cannot pass in such a system."""
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "gearman_py.pytest_plugin")
FAST = ("-m", "not slow", "--hypothesis-profile", "fast")

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
    dpkg-deb --extract "$package" .
done
rm -r var/cache/apt var/lib/apt
"""

# $1 is the system, $2 the libraries; all mounts are gone when this ends.
RUN = """
scratch=/run
system=$1 libraries=$2 checkout=$3
shift 3
mount -t tmpfs none $scratch
cd $scratch
mkdir upper work root
mount -t overlay -o "lowerdir=$system,upperdir=upper,workdir=work" none root
mkdir -p "root$checkout" root/srv/libraries root/proc root/dev root/tmp root/root
mount --bind "$checkout" "root$checkout"
mount --bind "$libraries" root/srv/libraries
mount -t proc none root/proc
mount --rbind /dev root/dev
cp /etc/passwd /etc/group root/etc/
echo 127.0.0.1 localhost > root/etc/hosts
ip link set lo up
exec env --ignore-environment PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 \\
    PYTHONPATH="/srv/libraries:$checkout" PYTHONPYCACHEPREFIX=/tmp/compiled \\
    HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis \\
    chroot root /bin/sh -euc 'cd "$1" && shift && exec python3 "$@"' sh "$checkout" "$@"
"""


def main(version: str, *arguments: str) -> int:
    """Run pytest on this Python: what is named, or SUITES, or CHOSEN with ``--fast``."""
    if version not in PYTHONS:
        print(f"unknown Python {version!r}; expected {', '.join(PYTHONS)}", file=sys.stderr)
        return 1
    fast = "--fast" in arguments
    named = [word for word in arguments if word != "--fast"] or (CHOSEN if fast else SUITES)
    options = FAST if fast else ("-m", "not lab and not interop", "-n", "2", "--dist", "loadgroup")
    left_out = (f"--ignore={file}" for file in ABSENT)
    return run_python(version, *PYTEST, *options, *left_out, *named)


def run_python(version: str, *arguments: str) -> int:
    """Run this Python with these arguments in the checkout, as root; its exit status."""
    alone = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child")
    words = map(str, (make_system(version), install_libraries(version), ROOT))
    command = [*alone, "sh", "-euc", RUN, "sh", *words, *arguments]
    return subprocess.run(command, env=os.environ | {"PATH": PATH}, check=False).returncode


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
                shutil.rmtree(old)
            partial = folder.with_name(f"{folder.name}.partial")
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
