"""One lab host: a tree over the base, and the systemd that was booted from it.

What is true of a machine is asked of the kernel each time (its mount, its processes); there
are no pid files to go stale. A machine outlives the process that booted it.
"""

import os
import select
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.errors import ToolkitError
from provision.lab import base, network
from provision.local import execute

STATE = Path("/run/gearman_py-lab")
"""A tmpfs that holds all there is of a running lab: unmounted, nothing of it is left."""

NAMESPACE = STATE / "net"
KEY_TYPES = ("ed25519", "ecdsa")
PORT = 22
GREETING_SECONDS = 0.5
TIDYING_SECONDS = 2.0

_ENVIRONMENT = ("env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
    def port(self) -> str:
        """The bridge's end of the host's cable, as systemd-nspawn names it."""
        return f"vb-lab-{self.name}"

    # -- its tree -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the tree and its host keys, unless they were made to the last step."""
        ready = self.folder / "ready"
        if ready.exists():
            return
        upper, work = self.folder / "upper", self.folder / "work"
        for folder in (upper, work, self.tree):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(self.tree):
            options = f"lowerdir={base.path()},upperdir={upper},workdir={work}"
            execute(["mount", "-t", "overlay", "-o", options, "gearman-lab", str(self.tree)])
        files = {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n",
            "etc/systemd/network/10-host0.network": (
                f"[Match]\nName=host0\n\n[Network]\nAddress={self.address}/24\n"
                "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
            ),
        }
        for name, content in files.items():
            base.write(self.tree / name, content)
        for kind in KEY_TYPES:
            key = self.tree / f"etc/ssh/ssh_host_{kind}_key"
            key.unlink(missing_ok=True)
            execute(["ssh-keygen", "-q", "-N", "", "-C", self.name, "-t", kind, "-f", str(key)])
        ready.touch()

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
        options = (
            f"--directory={self.tree} --machine=lab-{self.name} --network-bridge={network.BRIDGE}"
        )
        alone = "--register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off"
        nspawn = ["systemd-nspawn", "--quiet", "--boot", *options.split(), *alone.split()]
        command = network.within(NAMESPACE, *nspawn)
        console = self.folder / "console"
        if Path("/run/systemd/system").exists():
            execute([*_unit(self.name, console), *command])
            return
        with console.open("wb") as output:
            subprocess.run(
                ["setsid", "--fork", *_in_groups(_groups(self.name)), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )

    def supervisors(self) -> list[int]:
        """The systemd-nspawn that runs it (or is about to): none, or one."""
        mark = f"--directory={self.tree}".encode()
        return [pid for pid in _processes() if mark in _read(f"/proc/{pid}/cmdline").split(b"\0")]

    def leader(self) -> int | None:
        """Its process 1, by the number it has here."""
        for pid in self._inhabitants():
            if _status(pid, "NSpid")[1:] == ["1"]:
                return pid
        return None

    def is_running(self) -> bool:
        """Whether it runs under its supervisor; one without could not be rebooted."""
        leader, supervisors = self.leader(), self.supervisors()
        if leader is None:
            return bool(supervisors)  # it is being started
        return int(_status(leader, "PPid")[0]) in supervisors

    def greets(self) -> bool:
        """Whether its sshd answers."""
        try:
            with socket.create_connection((self.address, PORT), GREETING_SECONDS) as link:
                link.settimeout(GREETING_SECONDS)
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, as a power cut would, and wait until it is gone."""
        _kill(self._inhabitants())  # its supervisor sees that, tidies up and ends
        _kill(self.supervisors(), grace=TIDYING_SECONDS)
        for group in _groups(self.name):
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)

    def run(
        self, argv: Sequence[str], input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root, not through SSH. Raises ToolkitError when it is off."""
        leader = self.leader()
        if leader is None:
            raise ToolkitError(f"lab host {self.name} is not running: invoke lab.up")
        enter = ("nsenter", f"--target={leader}", "--all", "--wd=/", *_ENVIRONMENT, _PATH)
        return subprocess.run(
            [*enter, *argv],
            input=input or "",
            capture_output=True,
            text=True,
            check=False,
        )

    def _inhabitants(self) -> Iterator[int]:
        """Every process whose root is this tree."""
        if not os.path.ismount(self.tree):
            return
        root = self.tree.stat()
        for pid in _processes():
            try:
                if os.path.samestat(os.stat(f"/proc/{pid}/root"), root):
                    yield pid
            except OSError:
                pass  # gone, or a thread of the kernel


def _unit(name: str, console: Path) -> list[str]:
    """Run a machine as a unit of this machine's systemd, as systemd-nspawn@.service does."""
    properties = {
        "Delegate": "yes",
        "KillMode": "mixed",
        "StandardOutput": f"append:{console}",
        "StandardError": f"append:{console}",
    }
    options = [f"--property={key}={value}" for key, value in properties.items()]
    unit = ("--quiet", "--collect", "--slice=machine.slice", f"--unit=gearman-lab-{name}")
    return ["systemd-run", *unit, *options]


def _groups(name: str) -> list[Path]:
    """A machine's control groups where no systemd gives it one: a folder per hierarchy.

    Without them all machines would share one group, and stop each other's services.
    """
    if Path("/run/systemd/system").exists():
        return []
    mounts = (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [
        Path(mount.split()[4]) / "gearman-lab" / name
        for mount, kind in mounts
        if kind.startswith("cgroup2 ") or (kind.startswith("cgroup ") and "name=systemd" in kind)
    ]


def _in_groups(groups: list[Path]) -> list[str]:
    """The beginning of a command line: what follows is run in these control groups."""
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    enter = "".join(f"echo $$ >{shlex.quote(str(group))}/cgroup.procs && " for group in groups)
    return ["sh", "-c", f'{enter}exec "$@"', "sh"]


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _status(pid: int, key: str) -> list[str]:
    """The words of a line of /proc/PID/status; none when the process is gone."""
    for line in _read(f"/proc/{pid}/status").decode().splitlines():
        if line.startswith(f"{key}:"):
            return line.split()[1:]
    return []


def _kill(pids: Iterable[int], grace: float = 0) -> None:
    """Wait until each has ended; SIGKILL it when it has not after ``grace`` seconds."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if not select.select([process], [], [], grace)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [])
        os.close(process)
