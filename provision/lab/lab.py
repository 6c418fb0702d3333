"""The lab: the three-host topology as real systemd machines with real sshd, on this machine.

``up`` makes whatever is missing and heals what a killed run left, ``down`` leaves nothing but
the cached base tree. Both need root. Hosts and addresses are those of ``inventory/lab``, which
is an inventory like any other: the toolkit reaches these hosts as it reaches all hosts, over
SSH. Only tests use the doors below them: ``run`` is root on a host without SSH, ``power_off``
pulls its plug, ``unplug`` its cable.

sshd tells of everything in the host's journal: see ``journal``.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provision.errors import ToolkitError
from provision.lab import base, foreign, mirror, network
from provision.lab.hosts import INVENTORY as INVENTORY  # of its front
from provision.lab.hosts import (
    choose_suites,
    find_machine,
    first_three,
    format_names,
    known_machines,
    more_workers,
    standing_machines,
)
from provision.lab.inventory_files import KEY as KEY
from provision.lab.inventory_files import KNOWN_HOSTS as KNOWN_HOSTS
from provision.lab.inventory_files import forget_more_workers, remove_inventory, write_inventory
from provision.lab.machine import NAMESPACE, STATE, Machine
from provision.lab.programs import Say, ensure, execute, missing

PROGRAMS = {
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "ssh": "openssh-client",
}
"""Program, or file -> its Debian package."""

INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")  # 128 are some 15 hosts
INOTIFY_INSTANCES = 4096

BOOT_SECONDS = 60.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class HostStatus:
    """A line of ``status``."""

    host: str
    address: str
    group: str
    suite: str  # empty when it has no tree
    state: str  # up, starting (no answer from its sshd yet) or down


def obstacle() -> str | None:
    """Why this machine cannot boot the lab's hosts, in a few words; None when nothing is known."""
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}"
    if os.geteuid() != 0:
        return "it boots systemd machines, which needs root"
    if missing(PROGRAMS) and not shutil.which("apt-get"):
        return f"{', '.join(missing(PROGRAMS))} cannot be installed here (no apt-get)"
    namespaces = ["unshare", "--mount", "--net", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        execute(namespaces)
    except ToolkitError:
        return "this container may not make namespaces and mounts"
    return None


def up(
    say: Say,
    workers: int = 1,
    suites: Mapping[str, str] | None = None,
    packages: Sequence[str] = (),
) -> None:
    """Boot the lab with exactly this many workers; hosts that run already are left as they are.

    ``suites`` maps a host, or ``all``, to one of :data:`base.SUITES`; a host of another suite
    is rebuilt. ``packages``: what its apt repository offers too. Returns when every host answers
    SSH. Raises :class:`ToolkitError`.
    """
    began = time.monotonic()
    wanted = first_three() + more_workers(workers)
    chosen = choose_suites(wanted, suites or {})
    trees = {machine: base.path(suite) for machine, suite in chosen.items()}
    with _one_at_a_time(say):
        ensure(PROGRAMS, say)
        _ensure_machine_id()
        _raise_inotify_limit(say)
        if not _is_whole():
            _remove_all()
            _make_state()
        for machine in standing_machines():
            if machine not in trees or not machine.is_copy_of(trees[machine]):
                _remove_machine(machine)
                say(f"{machine.name} is gone")
        if foreign.SUITE in chosen.values():
            foreign.enable(say)
        for suite in dict.fromkeys(chosen.values()):
            base.build(say, suite)
            mirror.fill(say, suite, (*mirror.OFFERED, *packages))
        begun = [machine for machine in wanted if not machine.is_running()]
        for machine in begun:
            machine.kill()
            machine.prepare(trees[machine])
        write_inventory(wanted)
        for machine in begun:
            machine.boot()
        for machine in wanted:
            _await_ssh(machine)
        for machine in wanted:
            machine.limit_memory()
    if begun:
        say(f"{format_names(begun)}: up after {time.monotonic() - began:.1f} s")
    else:
        say(f"{format_names(wanted)}: up already, nothing to do")


def down(say: Say) -> None:
    """Remove every host, and all of the lab but the cached base tree."""
    with _one_at_a_time(say):
        gone = format_names(standing_machines())
        _remove_all()
        remove_inventory()
    say(f"{gone}: gone" if gone else "the lab was down, nothing to do")


def status() -> list[HostStatus]:
    """How each host is. Needs no root."""
    rows = []
    for machine in known_machines():
        off = "starting" if machine.supervisors() else "down"
        state = "up" if machine.greets() else off
        rows.append(HostStatus(machine.name, machine.address, machine.group, machine.suite, state))
    return rows


def shell(host: str) -> int:
    """A shell on a host, as the deploy user over SSH. Returns the status it ended with."""
    if not find_machine(host).greets():
        raise ToolkitError(f"lab host {host} does not answer: ./invoke lab.up")
    return subprocess.run(ssh(host), check=False).returncode


def ssh(host: str, *argv: str, user: str = base.USER) -> list[str]:
    """The ssh command line to a host: its key verified, without any question."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(KNOWN_HOSTS),
    }
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    return [
        "ssh",
        "-F",
        "none",
        "-i",
        str(KEY),
        *flags,
        f"{user}@{find_machine(host).address}",
        *argv,
    ]


# -- for tests: a host from below ---------------------------------------------------------


def run(host: str, argv: Sequence[str], input: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command on a host as root, without SSH. Raises ToolkitError when it is off."""
    return find_machine(host).run(argv, input)


def journal(host: str, *matches: str) -> list[str]:
    """The messages of a host's journal, oldest first; sshd's unless ``matches`` say other.

    ``matches`` are arguments of journalctl. What a deploy costs is counted in sshd's log, where
    ``Connection from`` is a connection and ``server_input_channel_open: ctype`` a channel, and
    in sudo's (``-t sudo``), where ``COMMAND=`` is a sudo.
    """
    run(host, ["journalctl", "--sync"])
    argv = ["journalctl", "--output=cat", "--quiet", *(matches or ("--unit=ssh",))]
    return run(host, argv).stdout.splitlines()


def power_off(host: str) -> None:
    """Pull a host's plug: no service is stopped, its disk stays as it is."""
    find_machine(host).kill()


def boot(host: str) -> None:
    """Switch a host on again and wait until it answers SSH."""
    machine = find_machine(host)
    machine.boot()
    _await_ssh(machine)


def unplug(host: str) -> None:
    """Take a host's network cable out: packets vanish without a word."""
    find_machine(host).set_link("down")


def plug(host: str) -> None:
    """Put the cable back."""
    find_machine(host).set_link("up")


# -- making and unmaking ------------------------------------------------------------------


@contextmanager
def _one_at_a_time(say: Say) -> Iterator[None]:
    """One at a time on this machine, and only root. A killed holder holds nothing."""
    if os.geteuid() != 0:
        raise ToolkitError("the lab boots real machines, which takes root: use sudo")
    base.CACHE.mkdir(parents=True, exist_ok=True)
    with (base.CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab.up or lab.down")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ensure_machine_id() -> None:
    """systemd-nspawn names links after this machine's id, and a container may have none."""
    file = Path("/etc/machine-id")
    if not file.exists() or not file.read_text().strip():
        execute(["systemd-machine-id-setup"])


def _raise_inotify_limit(say: Say) -> None:
    """Each host's systemd and its services watch files, all of them as this machine's root."""
    if int(INOTIFY_LIMIT.read_text()) < INOTIFY_INSTANCES:
        try:
            INOTIFY_LIMIT.write_text(str(INOTIFY_INSTANCES))
        except OSError as error:
            say(f"{INOTIFY_LIMIT} stays as it is ({error.strerror}): some hosts may not boot")


def _is_whole() -> bool:
    """Whether state and network were made to the last step, and from this mount namespace."""
    return network.is_laid() and os.path.ismount(STATE)


def _make_state() -> None:
    STATE.mkdir()
    execute(["mount", "-t", "tmpfs", "-o", "mode=755", network.LINK, str(STATE)])
    network.make_network(NAMESPACE)


def _remove_all() -> None:
    """Remove all there is of a lab, in whatever state it is."""
    for machine in standing_machines():
        machine.kill()
    network.remove_network()
    while os.path.ismount(STATE):
        execute(["umount", "--recursive", "--lazy", str(STATE)])
    execute(["rm", "-rf", "--one-file-system", str(STATE)])
    forget_more_workers()


def _remove_machine(machine: Machine) -> None:
    machine.kill()
    if os.path.ismount(machine.tree):
        execute(["umount", "--lazy", str(machine.tree)])
    execute(["rm", "-rf", "--one-file-system", str(machine.folder)])


def _await_ssh(machine: Machine) -> None:
    """Until its sshd answers, or it is clear that it will not; an unplugged one is plugged in."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not machine.greets():
        if time.monotonic() > deadline or not machine.is_running():
            console = machine.console.read_text(errors="replace").splitlines()
            last = "\n".join(f"  {line}" for line in console[-8:])
            raise ToolkitError(f"lab host {machine.name} does not answer; its console:\n{last}")
        if machine.leader():
            _plug_in(machine)
        time.sleep(POLL_SECONDS)


def _plug_in(machine: Machine) -> None:
    try:
        machine.set_link("up")
        machine.set_address()
    except ToolkitError:
        pass  # it is just booting: its cable is not there yet
