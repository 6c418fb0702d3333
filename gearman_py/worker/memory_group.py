"""The memory that this process may use: the limit of its control group, or the machine's memory.

Control groups are those of the kernel's Documentation/admin-guide/cgroup-v2.rst, or cgroup-v1.
"""

from pathlib import Path
from typing import NamedTuple

_GROUPS = Path("/sys/fs/cgroup")
_CACHED = ("inactive_file", "total_inactive_file")  # files that are freed if need be; v2, v1


class MemoryUse(NamedTuple):
    """In bytes."""

    used: int
    limit: int


def read_memory() -> MemoryUse:
    """That of the control group, or of the machine if less is left there."""
    found = [each for each in (_read_group(), _read_machine()) if each]
    return min(found, key=lambda each: each.limit - each.used, default=MemoryUse(0, 2**63))


def _read_group() -> MemoryUse | None:
    """None: it has no limit, or that cannot be read."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        for _, controllers, path in (line.split(":", 2) for line in lines):
            if controllers == "memory":
                group = _GROUPS / "memory" / path.lstrip("/")
                return _read_files(group, "memory.limit_in_bytes", "memory.usage_in_bytes")
            if not controllers and (_GROUPS / "cgroup.controllers").exists():
                return _read_files(_GROUPS / path.lstrip("/"), "memory.max", "memory.current")
    except OSError:
        pass
    return None


def _read_files(group: Path, most: str, used: str) -> MemoryUse | None:
    limit = (group / most).read_text().strip()
    if limit == "max":
        return None
    facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    cached = max((int(facts[name]) for name in _CACHED if name in facts), default=0)
    return MemoryUse(int((group / used).read_text()) - cached, int(limit))


def _read_machine() -> MemoryUse | None:
    """None: a unit may be without /proc/meminfo."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    facts = {name: int(rest.split()[0]) << 10 for name, rest in (one.split(":") for one in lines)}
    return MemoryUse(facts["MemTotal"] - facts["MemAvailable"], facts["MemTotal"])
