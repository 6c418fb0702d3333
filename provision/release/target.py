"""A kind of host, as far as wheels can tell hosts apart, and which kinds are served."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision.errors import HostFailed

OLDEST_PYTHON = (3, 11)
OLDEST_GLIBC = (2, 17)  # manylinux2014: no wheel we lock asks for less
# That wheels are made for, as manylinux names them: a host's word for another starts no build.
MACHINES = (
    *("x86_64", "aarch64", "armv7l", "i686", "ppc64", "ppc64le"),
    *("s390x", "riscv64", "loongarch64"),
)


@dataclass(frozen=True)
class Target:
    """What of a host its wheels depend on."""

    python: tuple[int, int]
    machine: str
    glibc: tuple[int, int]

    def __str__(self) -> str:
        python, glibc = dotted_version(self.python), dotted_version(self.glibc)
        return f"Python {python} on {self.machine} with glibc {glibc}"

    @property
    def platforms(self) -> list[str]:
        """The platform tags of wheels that run there, best first."""
        major, minor = self.glibc
        tags = [f"manylinux_{major}_{each}" for each in range(minor, OLDEST_GLIBC[1] - 1, -1)]
        return [f"{tag}_{self.machine}" for tag in (*tags, "manylinux2014")]


def target_of(facts: Mapping[str, Any]) -> Target:
    """What kind of host answers ``("host",)`` so. Raises :class:`HostFailed` if none we serve."""
    system = facts["os"].get("PRETTY_NAME", "its system")
    python = tuple(facts["python"])
    if python < OLDEST_PYTHON:
        raise HostFailed(
            f"Python {dotted_version(python)} ({system}) is too old: "
            f"{dotted_version(OLDEST_PYTHON)} or newer is needed; "
            "upgrade the host (Debian 12 and Ubuntu 24.04 have one)"
        )
    found = re.fullmatch(r"glibc (\d+)\.(\d+)\S*", facts["libc"] or "")
    glibc = (int(found[1]), int(found[2])) if found else (0, 0)
    if glibc < OLDEST_GLIBC:
        raise HostFailed(
            f"its C library is {facts['libc'] or 'not glibc'} ({system}): wheels need glibc "
            f"{dotted_version(OLDEST_GLIBC)} or newer; use a host that has it"
        )
    if facts["machine"] not in MACHINES:
        raise HostFailed(
            f"its machine is {facts['machine']} ({system}): wheels are made for "
            f"{', '.join(MACHINES)}"
        )
    return Target((python[0], python[1]), facts["machine"], glibc)


def dotted_version(version: tuple[int, ...]) -> str:
    """As in `3.11`."""
    return ".".join(map(str, version))
