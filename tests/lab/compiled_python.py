"""A Python that an operator compiled on a system whose own is too old: /usr/local/bin/python3.11.

Its source is Debian's package. It takes some minutes, once on a machine.
"""

import hashlib
import shutil
import subprocess
import tempfile

from provision.lab import base
from provision.lab.hosts import find_machine
from provision.lab.programs import ALONE, execute_shown

PATH = "/usr/local/bin/python3.11"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Over the base tree, on a disk that is gone when this ends.
COMPILE = """
set -e
mount -t tmpfs none "$SCRATCH"
cd "$SCRATCH"
mkdir upper work root
mount -t overlay -o "lowerdir=$TREE,upperdir=upper,workdir=work" none root
mount -t proc proc root/proc
cp -L /etc/resolv.conf root/etc/resolv.conf
cp "$KEYRING" root/etc/debian.gpg
apt-config dump Acquire >root/etc/apt/apt.conf.d/this-machine
sed -i "s/ main$/ main universe/" root/etc/apt/sources.list
echo "deb-src [signed-by=/etc/debian.gpg] http://deb.debian.org/debian bookworm main" \
    >>root/etc/apt/sources.list
chroot root apt-get --quiet update
chroot root apt-get --quiet --yes --no-install-recommends install build-essential \
    libbz2-dev libffi-dev liblzma-dev libsqlite3-dev libssl-dev zlib1g-dev
chroot root sh -ec '
    mkdir /src
    cd /src
    apt-get --quiet source --download-only python3.11
    tar -xf *.orig.tar.*
    cd Python-*
    ./configure --without-ensurepip --disable-test-modules
    make -j2
    make altinstall DESTDIR=/built
'
tar -cf "$TARGET" -C root/built .
"""


def install(host: str, suite: str) -> None:
    """Install it on a lab host of a suite of Ubuntu's."""
    recipe = hashlib.sha256(f"{base.path(suite).name}{COMPILE}".encode()).hexdigest()[:12]
    built = base.CACHE / f"compiled-{recipe}.tar"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=base.CACHE) as folder:
            target = f"{folder}/python.tar"
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                environment = {"TREE": str(base.path(suite)), "SCRATCH": scratch}
                environment |= {
                    "TARGET": target,
                    "KEYRING": KEYRING,
                    "DEBIAN_FRONTEND": "noninteractive",
                }
                execute_shown([*ALONE, "sh", "-c", COMPILE], print, env=environment)
            shutil.move(target, built)
    subprocess.run(["tar", "-xf", built, "-C", find_machine(host).tree], check=True)
