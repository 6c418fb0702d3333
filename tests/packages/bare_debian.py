"""A bare Debian to install packages in: an overlay over the lab's base tree, without systemd.

What runs in it has namespaces of its own.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

from provision.lab import base

# What dpkg and other programs of Debian keep for themselves.
KEPT = r"/(var/(log|lib/dpkg|cache)|etc/ld.so.cache|run|tmp|proc|sys|dev)(/|$)"
SERVER = """
ip link set lo up
mkdir -p /run/gearmand /var/lib/gearmand
/usr/lib/gearman-py/bin/gearmand --config-file /etc/gearman-py/gearmand.toml &
for attempt in $(seq 100); do /usr/lib/gearman-py/bin/gearadmin --ping && break; sleep 0.1; done
"""


def base_tree(suite: str) -> Path:
    """The lab's base tree of a suite, built now if need be."""
    base.CACHE.mkdir(parents=True, exist_ok=True)
    with (base.CACHE / "lock").open("w") as lock:  # the lab's own, which builds trees too
        fcntl.flock(lock, fcntl.LOCK_EX)
        base.build(print, suite)
    return base.path(suite)


class Debian:
    """A throw-away Debian that keeps what was written to it from one script to the next."""

    def __init__(self, folder: Path, suite: str) -> None:
        self._lower = base_tree(suite)
        self._folder = folder
        for name in ("upper", "work", "merged"):
            (folder / name).mkdir()

    def run(self, script: str) -> str:
        """What the script prints; it runs as root, and what it leaves running ends with it."""
        return self.run_outside('exec chroot merged /bin/sh -euc "$1"', script)

    def run_outside(self, script: str, *words: str) -> str:
        """The same for a script with this machine's programs, to which the Debian is ``merged``."""
        layers = f"lowerdir={self._lower},upperdir=upper,workdir=work"
        mount = f"mount -t overlay overlay -o {layers} merged && mount -t proc proc merged/proc"
        done = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"),
                *("sh", "-euc", f"{mount}; {script}", "sh", *words),
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
