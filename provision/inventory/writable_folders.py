"""What `writes:` may name, as far as a path tells: neither the system's folders nor the toolkit's.

Whose an existing folder is shows on the host: provision/resources/writable_folder.py.
"""

import re
from pathlib import PurePosixPath

SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run"),
    *("/sbin", "/sys", "/usr", "/var/lock", "/var/run"),
)
TOOLKIT = ("/opt/gearman", "/var/lib/gearman-deploy", "/var/lib/gearmand")
HIDDEN = ("/home", "/root")  # by ProtectHome= of every unit
PRIVATE = ("/tmp", "/var/tmp")  # noqa: S108  # by PrivateTmp=; only named here
WHY = {
    **dict.fromkeys(SYSTEM, "the system's"),
    **dict.fromkeys(TOOLKIT, "the toolkit's own"),
    **dict.fromkeys(HIDDEN, "hidden from services"),
    **dict.fromkeys(PRIVATE, "private to each service, which may write there anyway"),
}


def clean_path(text: str) -> str:
    """The same path without slashes that say nothing."""
    return re.sub("/+", "/", text).rstrip("/") or "/"


def why_refused(text: str) -> str:
    """What is wrong with a folder that a worker is to write to; empty if nothing is."""
    if not text.startswith("/"):
        return "is not an absolute path"
    if {".", ".."} & set(text.split("/")):
        return "has . or .. in it: say the folder itself"
    if found := re.search(r"[\s\0\"%\\:]", text):
        return f"has {found[0]!r} in it, which a unit file cannot name"
    folder = PurePosixPath(clean_path(text))
    for place, why in WHY.items():
        if folder.is_relative_to(place):
            return f"is {why}" if folder == PurePosixPath(place) else f"is in {place}: {why}"
        if PurePosixPath(place).is_relative_to(folder):
            return f"holds {place}, which is {why}"
    return ""
