"""What runs on a host and who listens there, as the kernel tells it in /proc. It only reads."""

from __future__ import annotations

import os
import pwd
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

LISTENING = "0A"  # in /proc/net/tcp
ACCOUNTS = ("root", "gearmand", "gearman-worker", "gearman-web", "gearman")  # that run releases


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def own_pids() -> list[int]:
    """The processes of root and of Gearman's services.

    Of those of others nothing is believed, nor read: the command line of a process is what its user
    says, and may lie in a file system of theirs that never answers.
    """
    known = {each for each in map(_uid_of, ACCOUNTS) if each is not None}
    # The real user's ID and the others: a program that is setuid has the arguments of who ran it.
    return [pid for pid in all_pids() if (uids := _uids_of(pid)) and uids <= known]


def _uid_of(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _uids_of(pid: int) -> set[int]:
    """The real, effective, saved and file system's user ID of a process; none when it is gone."""
    found = re.search(r"^Uid:\s+(.*)", _read_proc(f"/proc/{pid}/status"), re.MULTILINE)
    return set(map(int, found[1].split())) if found else set()


def program_of(pid: int) -> str:
    """What a process runs, empty when it is gone; of a script that is its interpreter."""
    return _read_proc(f"/proc/{pid}/cmdline").split("\0")[0]


def folder_of(pid: int) -> str:
    """The folder that a process works in, empty when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def is_run_from(pid: int, folder: str) -> bool:
    """Whether a process runs a program of a folder, or works in it."""
    places = (program_of(pid), folder_of(pid))
    return any(f"{each}/".startswith(f"{folder}/") for each in places)


def pids_of_unit(name: str) -> list[int]:
    """The processes of a unit of the system's own systemd, the first first.

    A user's systemd may have a unit of that name too.
    """
    systemd = _read_proc("/proc/1/cgroup")
    groups = {pid: _read_proc(f"/proc/{pid}/cgroup") for pid in all_pids()}
    return sorted(pid for pid, each in groups.items() if is_of_unit(name, each, systemd))


def is_of_unit(name: str, groups: str, systemd: str) -> bool:
    """Whether a process is of a system unit, by what its /proc/PID/cgroup says, and process 1's.

    Below a group that is their own, users, services and containers make what groups they like.
    """
    tops = {key: path.removesuffix("/init.scope") for key, path in _split_groups(systemd)}
    own = re.compile(rf"/system\.slice(/system-[^/]+\.slice)?/{re.escape(name)}")
    return any(
        key in tops and path.startswith(tops[key]) and own.fullmatch(path[len(tops[key]) :])
        for key, path in _split_groups(groups)
    )


def _split_groups(said: str) -> Iterator[tuple[str, str]]:
    """Hierarchy and path of each line of a cgroup file."""
    for line in said.splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path.rstrip("/")


def began_at(pid: int) -> str:
    """When a process began, in the kernel's ticks since it booted."""
    said = _read_proc(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return said[19] if said else ""


def variable_of(pid: int, name: str) -> str | None:
    """A variable of the environment that a process began with."""
    found = re.search(rf"(?:^|\0){name}=([^\0]*)", _read_proc(f"/proc/{pid}/environ"))
    return found[1] if found else None


def has_room_for_two(pid: int, group: str, limit: str) -> bool:
    """Whether a second process of its size fits into its unit's limit of memory.

    Other processes of the unit (relays of TLS connections) count too.
    """
    own = _resident_bytes(pid)
    if not own or not limit.isdigit():  # gone, or without a limit
        return True
    files = (f"{group}/cgroup.procs", f"/systemd{group}/cgroup.procs")  # v2, v1
    found = "".join(_read_proc(f"/sys/fs/cgroup{file}") for file in files).split()
    others = {int(each) for each in found} - {pid}
    return 2 * own + sum(map(_resident_bytes, others)) <= int(limit)


def _resident_bytes(pid: int) -> int:
    """The resident set size of a process; 0 if it is gone."""
    pages = _read_proc(f"/proc/{pid}/statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0


def count_oom_kills(group: str) -> int:
    """How many processes of a control group were killed at its limit of memory."""
    files = (f"{group}/memory.events", f"/memory{group}/memory.oom_control")  # v2, v1
    said = "".join(_read_proc(f"/sys/fs/cgroup{file}") for file in files) if group else ""
    found = re.search(r"^oom_kill (\d+)$", said, re.MULTILINE)
    return int(found[1]) if found else 0


def process_of_user(pid: int, uid: int) -> dict[str, Any] | None:
    """A process of this user, with its unit; None: it is another's, or gone."""
    return _describe_process(pid) if uid in _uids_of(pid) else None


def find_listener(address: str, port: int) -> dict[str, Any] | None:
    """Who listens at a TCP port of an address, or of all."""
    wanted = _kernel_addresses(address)
    for host, number, inode in _listening_sockets():
        if number == port and (host in wanted or host.strip("0") == "" or not wanted):
            return _owner_of(inode)
    return None


def _listening_sockets() -> Iterator[tuple[str, int, str]]:
    """(address as the kernel's hexadecimal, port, inode) of each listening TCP socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read_proc(table).splitlines()[1:]:
            row = line.split()
            host, port = row[1].split(":")
            if row[3] == LISTENING:
                yield host, int(port, 16), row[9]


def _kernel_addresses(name: str) -> set[str]:
    """A host's addresses as /proc/net/tcp writes them; empty when it is to be any."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    packed = {socket.inet_pton(family, str(to[0]).split("%")[0]) for family, *_, to in found}
    hexes = {_kernel_hex(each) for each in packed}
    mapped = {_kernel_hex(b"\0" * 10 + b"\xff\xff" + each) for each in packed if len(each) == 4}
    return set() if any(each.strip("0") == "" for each in hexes) else hexes | mapped


def _kernel_hex(packed: bytes) -> str:
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _owner_of(inode: str) -> dict[str, Any]:
    """Which process has a socket, and which unit that is of."""
    wanted = f"socket:[{inode}]"
    # The newest first: what systemd listens at for a service is the service's, if it runs.
    for pid in sorted(all_pids(), reverse=True):
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if not any(os.readlink(entry.path) == wanted for entry in entries):
                    continue
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
        return _describe_process(pid)
    return {"pid": None, "command": "a process that cannot be seen", "unit": None}


def _describe_process(pid: int) -> dict[str, Any]:
    command = _read_proc(f"/proc/{pid}/comm").strip()
    units = re.findall(
        r"([^/\n]+\.(?:service|socket|scope))$", _read_proc(f"/proc/{pid}/cgroup"), re.M
    )
    return {"pid": pid, "command": command, "unit": units[-1] if units else None}


def _read_proc(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="backslashreplace")
    except OSError:  # gone, or not ours to look at
        return ""
