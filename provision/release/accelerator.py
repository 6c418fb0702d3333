"""The accelerator in releases: which hosts' this machine can build, and what else they are made of.

What a compiler makes differs from machine to machine. So a release says of itself what it is made
of apart from that, and releases of which that is the same count as one: see
:func:`provision.fleet.choice.release_for`.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

from packages.accelerator import NAME, is_turned_off, what_is_missing
from provision.invoke_line import invoke_line
from provision.release.target import Target

BUILT_ANEW = (".dist-info/RECORD", ".dist-info/WHEEL")  # these tell of it too


def find_obstacle(target: Target) -> str:
    """Why this machine builds none for such hosts, and what to do; "" if it does."""
    if is_turned_off():
        return "GEARMAN_PURE is set on this machine"
    if sys.platform != "linux" or os.uname().machine != target.machine or not _has_glibc():
        return (
            f"only Linux on {target.machine} with glibc can build it: upgrade from such a machine"
        )
    if missing := what_is_missing():
        return f"{missing} on this machine, then `{invoke_line('upgrade')}`"
    return ""


def _has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (OSError, ValueError):
        return False


def digest_without_it(wheels: Path, digests: Mapping[str, str], root: Path) -> str:
    """The SHA-256 of what wheels hold but for what a compiler made, and of what it was made from.

    ``digests``: of the wheels, by name. ``root``: of the tree that gearman_py's was built from.
    """
    hashed = hashlib.sha256()
    for wheel, digest in digests.items():
        if not wheel.startswith("gearman_py-"):
            hashed.update(f"\0{wheel}\0{digest}".encode())
            continue
        with ZipFile(wheels / wheel) as archive:
            for name in sorted(archive.namelist()):
                if not name.startswith(NAME) and not name.endswith(BUILT_ANEW):
                    hashed.update(f"\0{name}\0".encode() + archive.read(name))
    for source in sorted(root.glob("gearman_py/*.[ch]")):
        hashed.update(source.read_bytes())
    return hashed.hexdigest()
