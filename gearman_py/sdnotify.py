"""Notifications to systemd: READY=1, STATUS=..., WATCHDOG=1 (man sd_notify), if there is one."""

import contextlib
import os
import socket
from functools import cache


def notify(*lines: str) -> None:
    """Send state lines to the service manager, if there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    with contextlib.suppress(OSError):  # keep serving without a service manager
        _notify_socket().sendto("\n".join(lines).encode(), address)


@cache
def _notify_socket() -> socket.socket:
    """Kept open, so that the watchdog is told at the limit of open files too."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def watchdog_interval() -> float | None:
    """Seconds between WATCHDOG=1 pings, half of what systemd allows; None if it is off."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or watched != str(os.getpid()):
        return None
    return int(microseconds) / 2e6
