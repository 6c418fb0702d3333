"""Builds the accelerator, gearman_py/_speedups*.c, with this machine's C compiler.

One build is for all Pythons from 3.11 on, on machines of this architecture: its source has
nothing but the limited API, https://docs.python.org/3/c-api/stable.html. The same source and
compiler make the same bytes.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

SOURCES = (Path("gearman_py", "_speedups.c"), Path("gearman_py", "_speedups_broker.c"))
NAME = "_gearman_speedups"
INCLUDE = sysconfig.get_path("include")
MODULE = f"{NAME}.abi3.so"
PYTHON_TAG = "cp311-abi3"  # of a wheel that has it
OLDEST_GLIBC = (2, 17)  # that a manylinux tag can name
PROGRAMS = {"gcc": "gcc", f"{INCLUDE}/Python.h": "python3-dev"}
"""What it takes, and the Debian package that brings it."""
FLAGS = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra")


class CannotBuild(Exception):
    """The accelerator was not built; the message says why."""


def build_accelerator(root: Path, folder: Path, *flags: str) -> Path:
    """Build it from the tree at ``root``; return the module in ``folder``.

    Raises :class:`CannotBuild` without a C compiler or Python's headers.
    """
    if missing := what_is_missing():
        raise CannotBuild(missing)
    module = folder / MODULE
    sources = map(str, SOURCES)
    command = [*find_compiler(), *FLAGS, *flags, f"-I{INCLUDE}", *sources, "-o", str(module)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{shlex.join(command)} failed:\n{done.stderr}")
    return module


def is_turned_off() -> bool:
    """Whether $GEARMAN_PURE says that it is not wanted."""
    return os.environ.get("GEARMAN_PURE", "") not in ("", "0")


def what_is_missing() -> str:
    """What it takes and is not here, and what to install; "" if all is."""
    compiler = find_compiler()[0]
    if shutil.which(compiler) is None:
        return f"the C compiler {compiler} is missing: install it (Debian: apt-get install gcc)"
    if not Path(INCLUDE, "Python.h").exists():
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        return (
            f"Python's headers, {INCLUDE}/Python.h, are missing: install them "
            f"(Debian: apt-get install {package})"
        )
    return ""


def find_compiler() -> Sequence[str]:
    """As setuptools: $CC, else the one that this Python was built with."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def wheel_tag(module: Path) -> str:
    """The tag of a wheel that has it, whose platform names the C library that it needs."""
    machine = sysconfig.get_platform().removeprefix("linux-").replace("-", "_")
    named = re.findall(rb"GLIBC_(\d+)\.(\d+)", module.read_bytes())
    major, minor = max([OLDEST_GLIBC, *((int(major), int(minor)) for major, minor in named)])
    platform = f"manylinux_{major}_{minor}" if named else "linux"
    return f"{PYTHON_TAG}-{platform}_{machine}"
