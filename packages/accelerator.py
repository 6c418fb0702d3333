"""Builds the accelerator, gearman_py/_speedups*.c, with this Python's C compiler."""

import os
import shlex
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

SOURCES = (Path("gearman_py", "_speedups.c"), Path("gearman_py", "_speedups_broker.c"))
NAME = "_gearman_speedups"
INCLUDE = sysconfig.get_path("include")
PROGRAMS = {"gcc": "gcc", f"{INCLUDE}/Python.h": "python3-dev"}
"""What it takes, and the Debian package that brings it."""
FLAGS = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra")


class CannotBuild(Exception):
    """The accelerator was not built; the message says why."""


def build_accelerator(root: Path, folder: Path, *flags: str) -> Path:
    """Build it from the tree at ``root``; return the module in ``folder``.

    Raises :class:`CannotBuild` without a C compiler or Python's headers.
    """
    if not Path(INCLUDE, "Python.h").exists():
        raise CannotBuild(f"{INCLUDE}/Python.h is missing; on Debian: apt-get install python3-dev")
    module = folder / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = map(str, SOURCES)
    command = [*find_compiler(), *FLAGS, *flags, f"-I{INCLUDE}", *sources, "-o", str(module)]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise CannotBuild(f"{shlex.join(command)} failed:\n{done.stderr}")
    return module


def find_compiler() -> Sequence[str]:
    """As setuptools: $CC, else the one that this Python was built with."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
