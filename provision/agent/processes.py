"""What runs on a host and who listens there, as the kernel tells it in /proc. It only reads."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

LISTENING = "0A"  # in /proc/net/tcp


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def program(pid: int) -> str:
    """What a process runs, empty when it is gone; of a script that is its interpreter."""
    return _read(f"/proc/{pid}/cmdline").split("\0")[0]


def began(pid: int) -> str:
    """When a process began, in the kernel's ticks since it booted."""
    said = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return said[19] if said else ""


def variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process began with."""
    found = re.search(rf"(?:^|\0){name}=([^\0]*)", _read(f"/proc/{pid}/environ"))
    return found[1] if found else None


def whose(pid: int, uid: int) -> dict[str, Any] | None:
    """A process of this user, with its unit; None: it is another's, or gone."""
    found = re.search(r"^Uid:\s+(\d+)\s+(\d+)", _read(f"/proc/{pid}/status"), re.MULTILINE)
    return _described(pid) if found and str(uid) in found.groups() else None


def listening(address: str, port: int) -> dict[str, Any] | None:
    """Who listens at a TCP port of an address, or of all."""
    wanted = _addresses(address)
    for host, number, inode in _listeners():
        if number == port and (host in wanted or host.strip("0") == "" or not wanted):
            return _owner_of(inode)
    return None


def _listeners() -> Iterator[tuple[str, int, str]]:
    """(address as the kernel's hexadecimal, port, inode) of each listening TCP socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            row = line.split()
            host, port = row[1].split(":")
            if row[3] == LISTENING:
                yield host, int(port, 16), row[9]


def _addresses(name: str) -> set[str]:
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
    for pid in sorted(pids(), reverse=True):
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if not any(os.readlink(entry.path) == wanted for entry in entries):
                    continue
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
        return _described(pid)
    return {"pid": None, "command": "a process that cannot be seen", "unit": None}


def _described(pid: int) -> dict[str, Any]:
    command = _read(f"/proc/{pid}/comm").strip()
    units = re.findall(r"([^/\n]+\.(?:service|socket|scope))$", _read(f"/proc/{pid}/cgroup"), re.M)
    return {"pid": pid, "command": command, "unit": units[-1] if units else None}


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="backslashreplace")
    except OSError:  # gone, or not ours to look at
        return ""
