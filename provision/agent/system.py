"""What system a host runs, and what its own commands tell of it. They only look."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import socket
import subprocess
import sys
import time
from functools import cache
from typing import Any

from provision.agent.link import ENVIRONMENT

SYSTEMD = "/run/systemd/system"  # is there where systemd runs the system
HIDDEN = ("/root", "/home", "/run/user")  # from our units, by ProtectHome=
# What a release imports, and a Python may have been built without.
NEEDED = ("venv", "_ctypes", "_ssl", "zlib")
QUERY_TIMEOUT = 15.0  # seconds for a command; all of them together end before the asker gives up


def describe_system() -> dict[str, Any]:
    return {
        "python": list(sys.version_info[:3]),
        "python_problem": _python_problem(),
        "machine": platform.machine(),
        "libc": _libc_version(),
        "os": _os_release(),
        "systemd": _systemd_version(),
        "hostname": socket.gethostname(),
        "time": time.time(),
    }


def _python_problem() -> str | None:
    """Why releases cannot be run with the Python that runs this, if so."""
    for module in NEEDED:
        if importlib.util.find_spec(module) is None:
            return f"it has no module {module.lstrip('_')}"
    for path in (sys.executable, os.path.realpath(sys.executable), sys.base_prefix):
        parts = path.strip("/").split("/")
        for number in range(1, len(parts) + 1):
            part = "/" + "/".join(parts[:number])
            if part in HIDDEN or not os.stat(part).st_mode & 0o001:
                return f"services, which are not root, cannot run it: {part} is closed to them"
    return None


class QueryFailed(OSError):
    """A command ended with another status than was expected; ``said``: its errors."""

    said = ""


def run_query(argv: list[str], good: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=QUERY_TIMEOUT,
        check=False,
    )
    if done.returncode not in good:
        said = done.stderr.decode(errors="replace").strip()
        failed = QueryFailed(f"`{' '.join(argv[:2])}` ended with {done.returncode}: {said}")
        failed.said = said
        raise failed
    return done.stdout.decode(errors="backslashreplace")


def _libc_version() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # not the GNU one
        return None


def _os_release() -> dict[str, str]:
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as lines:
            pairs = re.findall(
                r"^(ID|ID_LIKE|VERSION_ID|PRETTY_NAME)=(.*)$", lines.read(), re.MULTILINE
            )
    except FileNotFoundError:
        return {}
    return {name: value.strip("\"'") for name, value in pairs}


@cache
def _systemd_version() -> int | None:
    if not os.path.exists(SYSTEMD):
        return None
    found = re.search(r"\d+", run_query(["systemctl", "show", "--property=Version"]))
    return int(found[0]) if found else None
