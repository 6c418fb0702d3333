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
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provision.errors import ToolkitError
from provision.lab import base, network
from provision.lab.machine import NAMESPACE, STATE, Machine
from provision.local import Say, ensure, execute

INVENTORY = Path(__file__).resolve().parents[2] / "inventory" / "lab"
KEY = INVENTORY / "id_ed25519"
KNOWN_HOSTS = INVENTORY / "known_hosts"
MORE_WORKERS = INVENTORY / "more-workers.yml"

NEEDS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "ssh": "openssh-client",
}
"""Command -> the Debian package that brings it. The rest is on every Debian system."""

FREE = (*range(249, 255), *range(101, 200))
"""Last octets for worker2 and up."""

BOOT_SECONDS = 60.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Row:
    """A line of ``status``."""

    host: str
    address: str
    group: str
    state: str  # up, starting (no answer from its sshd yet) or down


def up(say: Say, workers: int = 1) -> None:
    """Boot the lab with this many workers; hosts that run already are left as they are.

    Returns when every host answers SSH. Raises :class:`ToolkitError`.
    """
    began = time.monotonic()
    wanted = _three() + _more(workers)
    with _alone(say):
        ensure(NEEDS, say)
        _machine_id()
        if _is_stale():
            _clear()
        base.build(say)
        _lay()
        for machine in _machines():
            if machine not in wanted:
                say(f"{machine.name} is one worker too many: removing it")
                _remove(machine)
        begun = [machine for machine in wanted if not machine.is_running()]
        for machine in begun:
            machine.kill()
            machine.prepare()
        _describe(wanted)
        for machine in begun:
            machine.boot()
        for machine in wanted:
            _await(machine)
    seconds = time.monotonic() - began
    if begun:
        say(f"{_names(begun)}: up after {seconds:.1f} s")
    else:
        say(f"{_names(wanted)}: up already, nothing to do")


def down(say: Say) -> None:
    """Remove every host and all that ``up`` made, but for the cached base tree and the key."""
    with _alone(say):
        running = STATE.exists()
        _clear()
    say("the lab is down" if running else "the lab was down, nothing to do")


def status() -> list[Row]:
    """What runs. Needs no root."""
    rows = []
    for machine in [*_three(), *_extra()]:
        off = "starting" if machine.supervisors() else "down"
        state = "up" if machine.greets() else off
        rows.append(Row(machine.name, machine.address, machine.group, state))
    return rows


def shell(host: str) -> int:
    """A shell on a host, as the deploy user over SSH. Returns the status it ended with."""
    return subprocess.run(ssh(host), check=False).returncode


def ssh(host: str, *argv: str) -> list[str]:
    """The ssh command line to a host: its key verified, nobody asked for anything."""
    machine = _find(host)
    options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={KNOWN_HOSTS}")
    flags = [part for option in options for part in ("-o", option)]
    target = f"{base.USER}@{machine.address}"
    return ["ssh", "-F", "none", "-i", str(KEY), "-o", "IdentitiesOnly=yes", *flags, target, *argv]


# -- for tests: a host from below ---------------------------------------------------------


def run(
    host: str, argv: Sequence[str], input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command on a host as root, without SSH. Raises ToolkitError when it is off."""
    return _find(host).run(argv, input)


def journal(host: str, *matches: str) -> list[str]:
    """The messages of a host's journal, oldest first; sshd's unless ``matches`` say other.

    ``matches`` are arguments of journalctl. In sshd's log ``Connection from`` is a connection,
    ``server_input_channel_open`` a channel; in sudo's (``-t sudo``) ``COMMAND=`` is a sudo.
    """
    argv = ["journalctl", "--sync"], ["journalctl", "-o", "cat", *(matches or ("-u", "ssh"))]
    done = [run(host, each) for each in argv]
    return done[-1].stdout.splitlines()


def power_off(host: str) -> None:
    """Pull a host's plug: no service is stopped, its disk stays as it is."""
    _find(host).kill()


def boot(host: str) -> None:
    """Switch a host on again and wait until it answers SSH."""
    machine = _find(host)
    machine.boot()
    _await(machine)


def unplug(host: str) -> None:
    """Take a host's network cable out: packets vanish, nobody is told."""
    network.set_port(NAMESPACE, _find(host).port, "down")


def plug(host: str) -> None:
    """Put the cable back."""
    network.set_port(NAMESPACE, _find(host).port, "up")


# -- which hosts --------------------------------------------------------------------------


def _three() -> list[Machine]:
    return _read(INVENTORY / "hosts.yml")


def _more(workers: int) -> list[Machine]:
    most = 1 + len(FREE)
    if not 1 <= workers <= most:
        raise ToolkitError(f"the lab has 1 to {most} workers, not {workers}")
    numbers = enumerate(FREE[: workers - 1], start=2)
    return [Machine(f"worker{n}", "worker", f"198.18.10.{octet}") for n, octet in numbers]


def _extra() -> list[Machine]:
    """The workers beyond the first that ``up`` was last asked for."""
    return _read(MORE_WORKERS) if MORE_WORKERS.exists() else []


def _read(file: Path) -> list[Machine]:
    groups: Mapping[str, Any] = yaml.safe_load(file.read_text())["all"]["children"]
    return [
        Machine(name, group, host["ansible_host"])
        for group, content in groups.items()
        for name, host in content["hosts"].items()
    ]


def _machines() -> list[Machine]:
    """Every host there is a tree of, whoever made it."""
    known = {machine.name: machine for machine in _three() + _more(1 + len(FREE))}
    return [known[folder.name] for folder in STATE.iterdir() if folder.name in known]


def _find(host: str) -> Machine:
    for machine in [*_three(), *_extra()]:
        if machine.name == host:
            return machine
    raise ToolkitError(f"no lab host {host}: there are {_names([*_three(), *_extra()])}")


def _names(machines: Sequence[Machine]) -> str:
    return ", ".join(machine.name for machine in machines)


# -- making and unmaking ------------------------------------------------------------------


@contextmanager
def _alone(say: Say) -> Iterator[None]:
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


def _machine_id() -> None:
    """systemd-nspawn names its links after this machine's id, which an image may lack."""
    file = Path("/etc/machine-id")
    if not file.exists() or not file.read_text().strip():
        execute(["systemd-machine-id-setup"])


def _is_stale() -> bool:
    """Whether what there is cannot be built on: half-made, or over an older base."""
    made_from = STATE / "base"
    return not (
        network.is_laid() and made_from.exists() and made_from.read_text() == str(base.path())
    )


def _lay() -> None:
    """Make the state and the network, unless they are there."""
    if os.path.ismount(STATE):
        return
    STATE.mkdir(exist_ok=True)
    execute(["mount", "-t", "tmpfs", "-o", "mode=755", "gearman-lab", str(STATE)])
    network.lay(NAMESPACE)
    (STATE / "base").write_text(str(base.path()))


def _clear() -> None:
    """Remove whatever there is of a lab, in any state."""
    if STATE.exists():
        for machine in _machines():
            machine.kill()
    network.remove()
    while os.path.ismount(STATE):
        execute(["umount", "--recursive", str(STATE)])
    if STATE.exists():
        execute(["rm", "-rf", "--one-file-system", str(STATE)])
    MORE_WORKERS.unlink(missing_ok=True)
    KNOWN_HOSTS.unlink(missing_ok=True)


def _remove(machine: Machine) -> None:
    machine.kill()
    if os.path.ismount(machine.tree):
        execute(["umount", "--recursive", str(machine.tree)])
    execute(["rm", "-rf", "--one-file-system", str(machine.folder)])


def _describe(machines: Sequence[Machine]) -> None:
    """Give this checkout a key to the hosts, and their keys and addresses."""
    if not KEY.exists():
        execute(["ssh-keygen", "-q", "-N", "", "-C", "lab", "-t", "ed25519", "-f", str(KEY)])
    key = KEY.with_suffix(".pub").read_text().strip()
    for machine in machines:
        machine.authorize(key)
    lines = [
        f"{machine.name},{machine.address} {key}\n"
        for machine in machines
        for key in machine.host_keys()
    ]
    KNOWN_HOSTS.write_text("".join(lines))
    if more := [machine for machine in machines if machine not in _three()]:
        hosts = {machine.name: {"ansible_host": machine.address} for machine in more}
        MORE_WORKERS.write_text(yaml.safe_dump({"all": {"children": {"worker": {"hosts": hosts}}}}))
    else:
        MORE_WORKERS.unlink(missing_ok=True)
    owner = INVENTORY.stat()  # with sudo, a checkout is still its owner's
    for file in (KEY, KEY.with_suffix(".pub"), KNOWN_HOSTS, MORE_WORKERS):
        if file.exists():
            os.chown(file, owner.st_uid, owner.st_gid)


def _await(machine: Machine) -> None:
    """Until its sshd answers, or it is clear that it will not."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not machine.greets():
        if time.monotonic() > deadline or not machine.is_running():
            console = (machine.folder / "console").read_text(errors="replace").splitlines()
            last = "\n".join(f"  {line}" for line in console[-8:])
            raise ToolkitError(f"lab host {machine.name} did not boot; its console:\n{last}")
        time.sleep(POLL_SECONDS)
