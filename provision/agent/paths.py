"""What is at a path: of which kind, whose, with which mode and content. It only reads."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
import subprocess
from typing import Any

from provision.agent.link import CHUNK_SIZE, ENVIRONMENT
from provision.agent.system import QUERY_TIMEOUT

UNKNOWN_ID = 2**31 - 2  # a user and group that no system has
DIFF_LIMIT = 256 * 1024  # bytes of a file that a diff may need


def describe_path(path: str, digest: str, show: str) -> dict[str, Any] | None:
    """None: nothing is there. With ``show`` "text", also a content that has another digest."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = _kind_of(found.st_mode)
    answer: dict[str, Any] = {
        "kind": kind,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "owner": _user_name(found.st_uid),
        "group": group_name(found.st_gid),
        "acl": _has_access_list(path),
        "size": found.st_size,
        "target": _printable_name(os.readlink(path)) if kind == "link" else None,
        "digest": None,
        "content": None,
    }
    if kind == "file" and digest:
        wanted = show == "text" and found.st_size < DIFF_LIMIT
        answer["digest"], content = _digest_file(path, wanted)
        if answer["digest"] != digest:
            answer["content"] = _decode_utf8(content) if wanted else None
    return answer


def can_write(path: str, user: str) -> bool | None:
    """Whether a user may make files in a folder; None: it is not there.

    The kernel says it, who knows access lists and the folders above. A user that does not exist
    yet may do what all may.
    """
    if not os.path.isdir(path):
        return None
    try:
        found = pwd.getpwnam(user)
        uid, gid = found.pw_uid, found.pw_gid
        groups = os.getgrouplist(user, gid)
    except KeyError:
        uid, gid, groups = UNKNOWN_ID, UNKNOWN_ID, []
    done = subprocess.run(
        ["test", "-w", path, "-a", "-x", path],
        user=uid,
        group=gid,
        extra_groups=groups,
        cwd="/",
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        timeout=QUERY_TIMEOUT,
        check=False,
    )
    return done.returncode == 0


def _kind_of(mode: int) -> str:
    tests = {"file": stat.S_ISREG, "directory": stat.S_ISDIR, "link": stat.S_ISLNK}
    return next((kind for kind, test in tests.items() if test(mode)), "other")


def _has_access_list(path: str) -> bool:
    """Whether someone may do with it what its mode does not tell, acl(5)."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # its file system has no such thing
        return False
    return any(name.startswith("system.posix_acl_") for name in names)


def _digest_file(path: str, keep: bool) -> tuple[str, bytes]:
    """The file's digest, and its content if it is to be kept."""
    digest, content = hashlib.sha256(), b""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        for piece in iter(lambda: file.read(CHUNK_SIZE), b""):
            digest.update(piece)
            content += piece if keep else b""
    return digest.hexdigest(), content


def _decode_utf8(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _printable_name(name: str) -> str:
    """A name that may be no UTF-8, as something that can be printed."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
