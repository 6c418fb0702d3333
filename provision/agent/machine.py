"""What a host is made of, as the kernel tells it. It only reads."""

from __future__ import annotations

import os
import re
import socket
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Its processors, memory and addresses, and since when it is up."""
    memory = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read_text("/proc/meminfo"), re.MULTILINE))
    return {
        "cpus": os.cpu_count(),
        "memory": int(memory.get("MemTotal", 0)) * 1024,
        "available": int(memory.get("MemAvailable", 0)) * 1024,
        "uptime": float((_read_text("/proc/uptime") or "0").split()[0]),
        "load": list(os.getloadavg()),
        "addresses": [*_version_4(), *_version_6()],
    }


def _version_4() -> list[str]:
    """Local IPv4 addresses but loopback's: `/32 host LOCAL` under each in the routing trie."""
    found = re.findall(r"-- ([\d.]+)\n\s+/32 host LOCAL", _read_text("/proc/net/fib_trie"))
    return sorted({each for each in found if not each.startswith("127.")})


def _version_6() -> list[str]:
    """Global IPv6 addresses."""
    lines = (line.split() for line in _read_text("/proc/net/if_inet6").splitlines())
    packed = [bytes.fromhex(line[0]) for line in lines if line[3] == "00"]
    found = [socket.inet_ntop(socket.AF_INET6, each) for each in packed]
    return sorted(each for each in found if each != "::1")


def _read_text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
