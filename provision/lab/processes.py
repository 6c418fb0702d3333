"""A machine's processes as the kernel has them: found in /proc, held in control groups, ended.

Where systemd runs this machine, a lab machine is a unit of it, with a delegated control group.
Elsewhere the lab makes the groups: without groups of their own all machines would share one, and
each machine's systemd would meddle with the others' services.
"""

import os
import select
import shlex
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from provision.lab.number import SUFFIX

SYSTEMD = Path("/run/systemd/system")  # is there when systemd is this machine's process 1
SLICE = f"gearman-lab{SUFFIX}"


def with_argument(argument: str) -> list[int]:
    """Processes that have this word on their command line."""
    word = argument.encode()
    return [pid for pid in _all_pids() if word in _read_proc(f"/proc/{pid}/cmdline").split(b"\0")]


def rooted_in(tree: Path) -> Iterator[int]:
    """Processes whose root is this mount, whatever it is called in their own namespace."""
    if not os.path.ismount(tree):
        return
    root = tree.stat()
    for pid in _all_pids():
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/root"), root):
                yield pid
        except OSError:
            pass  # gone, or a thread of the kernel


def children_of(parents: Iterable[int]) -> list[int]:
    """Processes that these started."""
    known = {str(pid) for pid in parents}
    return [pid for pid in _all_pids() if known.intersection(status_words(pid, "PPid"))]


def status_words(pid: int, key: str) -> list[str]:
    """The words of a line of /proc/PID/status; none when the process is gone."""
    for line in _read_proc(f"/proc/{pid}/status").decode(errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return line.split()[1:]
    return []


def kill_all(pids: Iterable[int], grace: float = 0) -> None:
    """Wait until each has ended; SIGKILL it when it has not after ``grace`` seconds."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([process], [], [], grace)[0]:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                select.select([process], [], [])
        except ProcessLookupError:
            pass  # ended meanwhile
        finally:
            os.close(process)


def held_command(name: str, output: Path) -> list[str]:
    """The command that runs what is appended to it in control groups of its own.

    It returns at once, and what it runs outlives this process; its output goes to a file.
    """
    if SYSTEMD.exists():  # as systemd-nspawn@.service does
        unit = [f"--unit={SLICE}-{name}", "--slice=machine.slice", "--quiet", "--collect"]
        unit += [f"--property={each}" for each in ("Type=exec", "Delegate=yes", "KillMode=mixed")]
        unit += [f"--property=Standard{stream}=append:{output}" for stream in ("Output", "Error")]
        return ["systemd-run", *unit]
    groups = _control_groups(name)
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    enter = " ".join(f"echo $$ >{shlex.quote(str(group))}/cgroup.procs &&" for group in groups)
    script = f'exec </dev/null >{shlex.quote(str(output))} 2>&1; {enter} exec "$@"'
    return ["setsid", "--fork", "sh", "-c", script, "sh"]


def let_go(name: str) -> None:
    """Remove what held its processes, when they have ended."""
    if SYSTEMD.exists():
        unit = f"{SLICE}-{name}.service"  # waits until the unit is gone; it may be already
        subprocess.run(["systemctl", "--quiet", "stop", unit], capture_output=True, check=False)
        return
    for group in (*_control_groups(name), *filter(None, [memory_group(name)])):
        for folder, _, _ in os.walk(group, topdown=False):
            os.rmdir(folder)
        try:
            group.parent.rmdir()
        except OSError:
            pass  # not the last one


def _control_groups(name: str) -> list[Path]:
    """One folder in each hierarchy that a machine's systemd uses."""
    mounts = (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [
        Path(mount.split()[4]) / SLICE / name
        for mount, kind in mounts
        if kind.startswith("cgroup2 ") or (kind.startswith("cgroup ") and "name=systemd" in kind)
    ]


def memory_group(name: str) -> Path | None:
    """What limits the memory of its units; None where its control groups do that already."""
    hierarchy = Path("/sys/fs/cgroup/memory")  # of version 1, which no container is given
    return hierarchy / SLICE / name if hierarchy.is_dir() and not SYSTEMD.exists() else None


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read_proc(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
