"""One lab host: a tree over the base, and the systemd that was booted from it.

What is true of a machine is asked of the kernel each time (its mount, its processes); there
are no pid files to go stale. A machine outlives the process that booted it.
"""

import os
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.errors import ToolkitError
from provision.lab import base, foreign, mirror, network, processes
from provision.lab.number import NUMBER, SUFFIX
from provision.lab.programs import execute

STATE = Path(f"/run/gearman_py-lab{SUFFIX}")
"""A tmpfs that holds all there is of a running lab: unmounted, nothing of it is left."""

NAMESPACE = STATE / "net"
PREFIX = "lab" if NUMBER == 1 else f"l{NUMBER}"  # of machine names; 15 letters are a link's most
KEY_TYPES = ("ed25519", "ecdsa")
PORT = 22
MEMORY_GROUP = "/run/memory-group"
GENERATORS = "systemd/system-generators"
GENERATORS_KEPT = {"systemd-sysv-generator"}  # of services; the others are of disks and consoles
GREETING_SECONDS = 0.5
TIDYING_SECONDS = 2.0
SYSTEMD_WITHOUT_V1 = 258
ONLY_GROUPS_V2 = ("env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")

ENVIRONMENT = (
    *("HOME=/root", "LANG=C.UTF-8", "TERM=dumb"),
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


@dataclass(frozen=True)
class Machine:
    """A host of the lab by its inventory name, group and IPv4 address."""

    name: str
    group: str
    address: str

    @property
    def folder(self) -> Path:
        return STATE / self.name

    @property
    def tree(self) -> Path:
        """The host's root, as seen from this machine."""
        return self.folder / "root"

    @property
    def console(self) -> Path:
        """What it wrote while it booted."""
        return self.folder / "console"

    # -- its tree -----------------------------------------------------------------------

    @property
    def source(self) -> Path | None:
        """The base tree that its tree is a copy of; None when its tree is not whole."""
        ready = self.folder / "ready"
        return Path(ready.read_text()) if ready.exists() else None

    @property
    def suite(self) -> str:
        """One of :data:`base.SUITES`; empty when its tree is not whole."""
        return self.source.name.split("-")[0] if self.source else ""

    def is_copy_of(self, source: Path) -> bool:
        return self.source == source and source.exists()

    def prepare(self, source: Path) -> None:
        """Make the tree, a copy of ``source``, and its host keys, unless they are made."""
        upper, work, ready = (self.folder / name for name in ("upper", "work", "ready"))
        for folder in (upper, work, self.tree):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(self.tree):
            options = f"lowerdir={source},upperdir={upper},workdir={work}"
            execute(["mount", "-t", "overlay", "-o", options, network.LINK, str(self.tree)])
        if ready.exists():
            return
        files = {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n",
            "etc/systemd/network/10-host0.network": (
                f"[Match]\nName=host0\n\n[Network]\nAddress={self.address}/24\n"
                "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
            ),
        }
        files["etc/apt/sources.list"] = mirror.SOURCE
        # Each daemon-reload runs all generators, and each login the scripts of its message: that
        # is half of what they cost. An empty file masks a generator.
        generators = {path.name for path in (source / "usr/lib" / GENERATORS).iterdir()}
        for name in generators - GENERATORS_KEPT:
            files[f"etc/{GENERATORS}/{name}"] = ""
        for script in (self.tree / "etc/update-motd.d").glob("*"):
            script.unlink()
        for name, content in files.items():
            base.write(self.tree / name, content)
        for kind in KEY_TYPES:
            key = self.tree / f"etc/ssh/ssh_host_{kind}_key"
            key.unlink(missing_ok=True)
            execute(["ssh-keygen", "-q", "-N", "", "-C", self.name, "-t", kind, "-f", str(key)])
        ready.write_text(str(source))

    def host_keys(self) -> list[str]:
        """Its public keys as ``type base64``, ed25519 first; read from the tree."""
        keys = (self.tree / f"etc/ssh/ssh_host_{kind}_key.pub" for kind in KEY_TYPES)
        return [" ".join(key.read_text().split()[:2]) for key in keys]

    def authorize(self, key: str) -> None:
        """Let the holder of this public key log in as the deploy user."""
        home = self.tree / "home" / base.USER
        file = home / ".ssh" / "authorized_keys"
        known = file.read_text() if file.exists() else ""
        if key not in known:
            base.write(file, f"{known}{key}\n", 0o600)
            file.parent.chmod(0o700)
            for path in (file, file.parent):
                os.chown(path, home.stat().st_uid, home.stat().st_gid)

    # -- its processes ------------------------------------------------------------------

    def boot(self) -> None:
        """Start it; returns before it answers. Its console goes to the file ``console``."""
        binds = [f"--bind-ro={mirror.path(self.suite or base.SUITE)}:{mirror.ON_HOSTS}"]
        if group := self._memory_group():
            group.mkdir(parents=True, exist_ok=True)
            binds.append(f"--bind={group}:{MEMORY_GROUP}")
        nspawn = (
            *(ONLY_GROUPS_V2 if self._knows_only_groups_v2() else ()),
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.tree}"),
            *(f"--machine={PREFIX}-{self.name}", f"--network-bridge={network.BRIDGE}"),
            *("--register=no", "--keep-unit", "--link-journal=no"),
            *("--resolv-conf=off", "--timezone=off"),
            *binds,
        )
        hold = processes.held_command(self.name, self.console)
        execute([*hold, *network.in_network(NAMESPACE, *nspawn)])

    def is_running(self) -> bool:
        """Whether it runs under its supervisor; one without could not be rebooted."""
        if not os.path.ismount(self.tree):
            return False  # what runs was brought up from another mount namespace
        deadline = time.monotonic() + TIDYING_SECONDS
        while self.leader() is None and self.supervisors() and time.monotonic() < deadline:
            time.sleep(0.01)  # it is being started, or its supervisor is about to end
        leader, supervisors = self.leader(), self.supervisors()
        if leader is None:
            return bool(supervisors)
        return processes.status_words(leader, "PPid") in [[str(pid)] for pid in supervisors]

    def supervisors(self) -> list[int]:
        """The systemd-nspawn that runs it, or is about to: none, or one."""
        return processes.with_argument(f"--directory={self.tree}")

    def leader(self) -> int | None:
        """Its process 1, by the number it has on this machine."""
        for pid in processes.rooted_in(self.tree):
            if processes.status_words(pid, "NSpid")[1:] == ["1"]:
                return pid
        return None

    def greets(self) -> bool:
        """Whether it runs and its sshd answers."""
        if not self.supervisors():
            return False
        try:
            with socket.create_connection((self.address, PORT), GREETING_SECONDS) as link:
                link.settimeout(GREETING_SECONDS)
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, as a power cut would, and wait until it is gone."""
        processes.kill_all(processes.rooted_in(self.tree))  # its supervisor sees that and tidies up
        processes.kill_all(
            processes.children_of(self.supervisors())
        )  # from another mount namespace
        processes.kill_all(self.supervisors(), grace=TIDYING_SECONDS)
        processes.let_go(self.name)

    def limit_memory(self) -> None:
        """See that units have their MemoryMax=, which takes doing with control groups v1."""
        if self._memory_group():
            # Once: binds of shared mounts, on each other, double each time.
            script = f"""
                [ {MEMORY_GROUP} -ef /sys/fs/cgroup/memory ] && exit
                mount --bind {MEMORY_GROUP} /sys/fs/cgroup/memory
                exec systemctl daemon-reexec
            """
            done = self.run(["sh", "-ec", script], "")
            if done.returncode:
                raise ToolkitError(f"{self.name}: {done.stderr}")

    def _memory_group(self) -> Path | None:
        """Where its memory is limited, unless its systemd or this machine's kernel does that."""
        return None if self._knows_only_groups_v2() else processes.memory_group(self.name)

    def _knows_only_groups_v2(self) -> bool:
        """Whether its systemd refuses to run with control groups v1, as it does from 258 on."""
        libraries = self.tree.glob("usr/lib/*/systemd/libsystemd-shared-[0-9]*.so")
        versions = (int(re.findall(r"\d+", file.name)[0]) for file in libraries)
        return any(version >= SYSTEMD_WITHOUT_V1 for version in versions)

    def set_address(self) -> None:
        """Give it its address, if nothing in it can. Raises ToolkitError."""
        leader = self.leader()
        if leader and self.suite == foreign.SUITE:
            network.set_address(leader, f"{self.address}/24", "host0")

    def set_link(self, state: str) -> None:
        """Set its end of the cable ``up`` or ``down``."""
        network.set_port(NAMESPACE, f"vb-{PREFIX}-{self.name}", state)

    def run(self, argv: Sequence[str], input: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root, not through SSH. Raises ToolkitError when it is off."""
        leader = self.leader()
        if leader is None:
            raise ToolkitError(f"lab host {self.name} is not running: ./invoke lab.up")
        # --root: while it boots its namespace may still have this machine's root.
        enter = ("nsenter", f"--target={leader}", "--all", "--root", "--wd=/", "env", "-i")
        return subprocess.run(
            [*enter, *ENVIRONMENT, *argv], input=input, capture_output=True, text=True, check=False
        )
