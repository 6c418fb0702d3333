"""The trees that lab hosts are copies of: bare servers, each built once, one for a suite.

They live in /var/cache/gearman_py/lab, in folders named after their suite and a digest of the
recipe below: a changed recipe is another tree, and the older ones are removed. Each is built
under a temporary name and renamed when whole. Hosts are overlays over them; nothing writes to
them later.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from provision.errors import ToolkitError
from provision.lab import foreign
from provision.lab.programs import ALONE, Say, execute, execute_shown

CACHE = Path("/var/cache/gearman_py/lab")
USER = "deploy"

SUITE = "bookworm"
UBUNTU = (
    "http://archive.ubuntu.com/ubuntu",
    "/usr/share/debootstrap/scripts/gutsy",  # the one for all since, also those it never heard of
)
TESTING = ("http://deb.debian.org/debian", "/usr/share/debootstrap/scripts/sid")
SUITES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("bullseye", "bookworm", "trixie"), ()),
    "forky": TESTING,
    **dict.fromkeys(("focal", "jammy", "noble", "resolute"), UBUNTU),
    foreign.SUITE: (),
}
"""What a lab host may be -> the mirror and the script, where debootstrap does not know them."""

UBUNTU_KEY = Path(__file__).with_name("ubuntu-archive.gpg")
"""Ubuntu Archive Automatic Signing Key (2018): Debian 12 has no package that brings it."""

# -- the recipe: all that decides what is in a tree ----------------------------------------

PACKAGES = "systemd systemd-sysv dbus openssh-server sudo python3 iproute2 nftables ca-certificates"

TREE_LIFETIME = 24 * 3600  # seconds after which an unused tree gives way to another

# What would be the same on every host and must not be, and what nothing will read again.
REMOVED = (
    *("etc/ssh/ssh_host_*", "var/lib/dbus/machine-id"),
    *("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"),
)

# What minbase lacks, or took from the machine it was built on.
FILES = {
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/hostname": "",
    "etc/resolv.conf": "",
    "etc/machine-id": "",  # empty: each host gets its own as it boots
    f"etc/sudoers.d/{USER}": f"{USER} ALL=(ALL:ALL) NOPASSWD: ALL\n",
    # DEBUG1 is the first level that tells of every channel, not only of every command.
    "etc/ssh/sshd_config.d/lab.conf": (
        "PermitRootLogin no\n"
        "LogLevel DEBUG1\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\n"
        "HostKey /etc/ssh/ssh_host_ecdsa_key\n"
    ),
    # Until user sessions are permitted a login is refused; so, an sshd that answers is ready.
    "etc/systemd/system/ssh.service.d/after-boot.conf": (
        "[Unit]\nAfter=systemd-user-sessions.service\n"
    ),
}

COMMANDS = (
    f"useradd --create-home --shell=/bin/bash {USER}",
    f"chmod 0440 /etc/sudoers.d/{USER}",
    "systemctl enable systemd-networkd",
    # Jobs that would fail with no way out, and a prompt on a console that is never seen.
    "systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer",
    "systemctl mask console-getty.service",
)


def check(suite: str) -> None:
    """Raises :class:`ToolkitError` for an unknown suite."""
    if suite not in SUITES:
        raise ToolkitError(f"the lab has no suite {suite!r}; it has {', '.join(SUITES)}")


def path(suite: str) -> Path:
    """Where the tree of a suite by this recipe is, or will be."""
    recipe = repr((suite, PACKAGES, REMOVED, _files(suite), _commands(suite)))
    return CACHE / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _files(suite: str) -> dict[str, str]:
    return FILES | foreign.FILES if suite == foreign.SUITE else FILES


def _commands(suite: str) -> tuple[str, ...]:
    return (*COMMANDS, *foreign.COMMANDS) if suite == foreign.SUITE else COMMANDS


def build(say: Say, suite: str) -> None:
    """Build a tree unless it is there. Raises :class:`ToolkitError` when it cannot be built."""
    tree = path(suite)
    if tree.exists():
        os.utime(tree)
        return
    partial = tree.with_suffix(".partial")
    for old in CACHE.glob(f"{suite}-*"):
        # Another checkout may use the others.
        if old == partial or time.time() - old.stat().st_mtime > TREE_LIFETIME:
            execute(["rm", "-rf", "--one-file-system", str(old)])
    say(f"building the base system of all {suite} hosts (once; about a minute)")
    options = ["--variant=minbase", f"--include={PACKAGES.replace(' ', ',')}", "--force-check-gpg"]
    if SUITES[suite] == UBUNTU:
        options += [f"--keyring={UBUNTU_KEY}", "--components=main,universe"]
    release = suite
    if suite == foreign.SUITE:
        release = foreign.RELEASE
        options.append(f"--arch={suite}")
        foreign.place_emulator(partial)
    debootstrap = ("debootstrap", *options, release, str(partial), *SUITES[suite])
    execute_shown([*ALONE, *debootstrap], say)
    for pattern in REMOVED:
        for file in partial.glob(pattern):
            file.unlink()
    for name, content in _files(suite).items():
        write(partial / name, content)
    for command in _commands(suite):
        execute(["chroot", str(partial), *command.split()])
    partial.rename(tree)


def write(file: Path, content: str, mode: int = 0o644) -> None:
    """Write a file, in folders that may not be there; never through a link."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.touch()
    file.chmod(mode)
    file.write_text(content)
