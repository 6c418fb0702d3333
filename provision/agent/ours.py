"""What a deploy put on a host, told by its mark from what others put there. It only reads."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Sequence

SECRETS = "/etc/gearman/secrets/"  # what is there is ours, and root's alone
INSTALLED = "/opt/gearman/"  # where links of ours lead
KEY = b"# of the key "  # how a certificate of ours begins: of which key it is
MARKS = (b"# Made by the deploy", KEY)
MARK_LENGTH = 128  # bytes of a file that are read for its mark


def is_ours(path: str) -> bool:
    """Whether a file begins with our mark, or a link leads to what we installed."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return os.readlink(path).startswith(INSTALLED)
        if not stat.S_ISREG(mode):
            return False
        if path.startswith(SECRETS):
            return True
        if path.endswith(".key"):
            return _is_own_key(path)
        return _read_start(path).startswith(MARKS)
    except FileNotFoundError:
        return False


def find_marked(places: Sequence[str]) -> dict[str, str]:
    """What is ours at these places, each a path or a pattern, and of which kind it is.

    A folder is ours when it is root's and all that is in it is ours.
    """
    found: dict[str, str] = {}
    paths = {path for place in places for path in glob.glob(place)}
    for path in sorted(paths, reverse=True):  # what is in a folder comes before it
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            inside = (f"{path}/{name}" for name in os.listdir(path))
            if status.st_uid == 0 and all(each in found for each in inside):
                found[path] = "directory"
        elif is_ours(path):
            found[path] = "link" if stat.S_ISLNK(status.st_mode) else "file"
    return found


def _is_own_key(path: str) -> bool:
    """Whether the certificate beside a private key is ours, and of this key."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest().encode()
    return _read_start(f"{path[: -len('.key')]}.pem").startswith(KEY + digest)


def _read_start(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read(MARK_LENGTH)
