"""What is compiled on a base tree of the lab, from Debian's sources: kept on this machine."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from provision.lab import base
from provision.lab.programs import ALONE, execute_shown
from tests.packages.bare_debian import base_tree

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
sed -i "/ubuntu/s/ main$/ main universe/" root/etc/apt/sources.list
echo "deb-src [signed-by=/etc/debian.gpg] http://deb.debian.org/debian bookworm main" \
    >>root/etc/apt/sources.list
chroot root apt-get --quiet update
chroot root apt-get --quiet --yes --no-install-recommends install $PACKAGES
chroot root env -i "PATH=$PATH" sh -ec "
    mkdir /built /src
    cd /src
    apt-get --quiet source --only-source --download-only $SOURCES
    for archive in *.orig.tar.?z*; do tar -xf \\$archive; done
    $COMMANDS
"
tar -cf "$TARGET" -C root/built .
"""


def compile_on(suite: str, packages: str, sources: str, commands: str) -> Path:
    """A tar of what ``commands``, in the folder of the ``sources``, put into /built.

    ``packages``: to be installed for that. ``sources``: Debian 12's.
    """
    recipe = repr((base.path(suite).name, COMPILE, packages, sources, commands))
    built = base.CACHE / f"compiled-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"
    if built.exists():
        return built
    environment = {
        "TREE": str(base_tree(suite)),
        "PACKAGES": packages,
        "SOURCES": sources,
        "COMMANDS": commands,
        "KEYRING": KEYRING,
        "DEBIAN_FRONTEND": "noninteractive",
    }
    with tempfile.TemporaryDirectory(dir=base.CACHE) as folder:
        made = {"SCRATCH": f"{folder}/scratch", "TARGET": f"{folder}/built.tar"}
        Path(made["SCRATCH"]).mkdir()
        execute_shown([*ALONE, "sh", "-c", COMPILE], print, env=environment | made)
        shutil.move(made["TARGET"], built)
    return built
