"""Abstract Unix sockets whose name another user of the machine may have taken first, unix(7).

Any user may bind any abstract name, and connect to any. So a name that is taken is made longer, and
who looks for it tries all that begin with it. Whom a socket belongs to the kernel says
(``SO_PEERCRED``), and that cannot be forged.
"""

import contextlib
import errno
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct

_UCRED = Struct("3i")  # unix(7)
_RETRY_INTERVAL = 0.02  # seconds


def read_owner(connected: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end, as they were when it listened or connected."""
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    process, user, _ = _UCRED.unpack(found)
    return process, user


def listen(name: str) -> socket.socket:
    """A socket that listens at ``name``, or, if that is taken, at a name that begins with it."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listening.bind(f"\0{name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            listening.bind(f"\0{name}-{secrets.token_hex(8)}")
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def connect(
    name: str, is_meant: Callable[[int, int], bool], seconds: float
) -> socket.socket | None:
    """Connect to the socket at ``name`` whose process and user are those that are meant.

    None: there is none. One that takes no connection now is tried again for ``seconds``.
    """
    until = time.monotonic() + seconds
    while True:
        busy = False
        for each in _bound_names(name) or [name]:  # without /proc only that is known
            connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.ExitStack() as unless_meant:
                unless_meant.enter_context(connecting)
                connecting.setblocking(False)  # its owner may never accept
                try:
                    connecting.connect(f"\0{each}")
                except BlockingIOError:
                    busy = True
                except OSError:
                    pass
                else:
                    if is_meant(*read_owner(connecting)):
                        unless_meant.pop_all()
                        connecting.setblocking(True)
                        return connecting
        if not busy or time.monotonic() > until:
            return None
        time.sleep(_RETRY_INTERVAL)


def is_bound(name: str) -> bool:
    """Whether a socket has ``name``, or one that begins with it."""
    return bool(_bound_names(name))


def _bound_names(name: str) -> list[str]:
    try:
        # /proc/net is hidden from a unit with ProcSubset=pid.
        rows = Path(f"/proc/{os.getpid()}/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = {row.rpartition(" @")[2] for row in rows}
    return sorted(each for each in found if each == name or each.startswith(f"{name}-"))
