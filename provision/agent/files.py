"""Files, directories and links, changed so that a half-done one is never seen.

What is new is made beside its final name, owned and moded before it has content, synced, and
renamed. A link in its place is replaced, never followed. Nothing here checks the lock: change.py
has it.
"""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from provision.agent.link import CHUNK_SIZE, FrameLink

PREFIX = ".gp-"  # of what is not finished; swept when found under the lock

swept: set[str] = set()  # directories whose leftovers are gone


class Failure(Exception):
    """An operation failed: why, and the last that a command said.

    ``late``: it was not done in time.
    """

    def __init__(self, why: str, output: str = "", *, late: bool = False) -> None:
        super().__init__(why)
        self.output = output
        self.late = late


class Content:
    """What comes with an operation. A large one is only sent when it is asked for."""

    def __init__(self, link: FrameLink, index: int, step: dict[str, Any], data: bytes) -> None:
        self._link = link
        self._index = index
        self._data = memoryview(data)
        self._later: bool = step["later"]  # not asked for yet
        self._left = 0  # of what was asked for
        self._digest = step["digest"]
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, none at the end: a file, as far as tarfile needs one."""
        if self._later:
            self._later = False
            self._link.send({"send": self._index})
            _, self._left = self._link.receive()
        if self._left:
            piece = self._link.read(min(size, self._left, CHUNK_SIZE))
            self._left -= len(piece)
        else:
            piece = bytes(self._data[:size])
            self._data = self._data[size:]
        self._hash.update(piece)
        return piece

    def verify_digest(self, digest: str | None = None) -> None:
        """Read what is left. Raises :class:`Failure` unless all is what was sent, or wanted."""
        digest = digest or self._digest
        for _ in iter(lambda: self.read(CHUNK_SIZE), b""):
            pass
        if self._hash.hexdigest() != digest:
            raise Failure(
                f"its content arrived as sha256 {self._hash.hexdigest()[:12]}..., and should be "
                f"{digest[:12]}...: nothing was changed; try again"
            )

    def drain_rest(self) -> None:
        """Read what is left of what was asked for, or the next frame would not be one."""
        while self._left:
            self.read(self._left)


@contextmanager
def opened_parent(path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that a path is in, and its name there.

    Raises :class:`Failure` if a link leads to the folder that another user may have made.
    """
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.readlink(f"/proc/self/fd/{descriptor}") != os.path.normpath(folder):
            _refuse_links_of_others(folder)
        yield descriptor, name
    except OSError as error:
        if error.filename == name:
            error.filename = path
        raise
    finally:
        os.close(descriptor)


def _refuse_links_of_others(path: str) -> None:
    trusted = 0, os.geteuid()
    while path != os.path.dirname(path):
        entry, path = path, os.path.dirname(path)
        found = os.stat(path)
        # As in /tmp: what is ours there, others cannot replace.
        kept = found.st_mode & stat.S_ISVTX and os.lstat(entry).st_uid in trusted
        if found.st_uid not in trusted or (found.st_mode & stat.S_IWOTH and not kept):
            raise Failure(f"the path goes through a link, and others may write in {path}")


@contextmanager
def _temporary_beside(path: str) -> Iterator[tuple[int, str, str]]:
    """The descriptor of a path's directory, a free name in it, and the path's own name.

    What is left at the free name afterwards is removed; the directory is synced.
    """
    folder, temporary = os.path.dirname(path), f"{PREFIX}{secrets.token_hex(8)}"
    with opened_parent(path) as (directory, name):
        try:
            mode = os.fstat(directory).st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise Failure(f"everybody may write in {folder}: nothing of ours is safe there")
            _sweep_leftovers(directory, folder)
            yield directory, temporary, name
            os.fsync(directory)
        finally:
            try:
                os.unlink(temporary, dir_fd=directory)
            except FileNotFoundError:
                pass


def _sweep_leftovers(directory: int, folder: str) -> None:
    """Remove what a killed deploy left: we hold the lock, so no other deploy is running."""
    if folder in swept:
        return
    swept.add(folder)
    for name in os.listdir(directory):
        if re.fullmatch(re.escape(PREFIX) + r"[0-9a-f]{16}", name):
            os.unlink(name, dir_fd=directory)


def _apply_attributes(descriptor: int, owner: str, group: str, mode: str) -> None:
    for kind in ("access", "default"):
        try:
            os.removexattr(descriptor, f"system.posix_acl_{kind}")
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
    # In this order: a change of owner takes the set-id bits away.
    try:
        os.fchown(descriptor, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise Failure(f"unknown user {owner} or group {group}") from None
    os.fchmod(descriptor, int(mode, 8))


def write_file(link: FrameLink, content: Content, path: str, **attributes: str) -> None:
    with _temporary_beside(path) as (directory, temporary, name):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        with open(descriptor, "wb", buffering=0) as target:
            _apply_attributes(descriptor, **attributes)
            copy_content(content, target)
            content.verify_digest()
            os.fsync(descriptor)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def copy_content(content: Any, target: Any) -> None:
    for piece in iter(lambda: content.read(CHUNK_SIZE), b""):
        left = memoryview(piece)
        while left:
            left = left[target.write(left) :]


def make_directory(link: FrameLink, content: Content, path: str, **attributes: str) -> None:
    with opened_parent(path) as (parent, name):
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        _open_and_apply(parent, name, os.O_DIRECTORY, attributes)
        os.fsync(parent)


def set_attributes(link: FrameLink, content: Content, path: str, **wanted: str) -> None:
    with opened_parent(path) as (parent, name):
        _open_and_apply(parent, name, os.O_NONBLOCK, wanted)


def _open_and_apply(parent: int, name: str, flag: int, wanted: dict[str, str]) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flag
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        _apply_attributes(descriptor, **wanted)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_link(link: FrameLink, content: Content, path: str, target: str) -> None:
    with _temporary_beside(path) as (directory, temporary, name):
        os.symlink(target, temporary, dir_fd=directory)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def remove_path(link: FrameLink, content: Content, path: str) -> None:
    try:
        with opened_parent(path) as (parent, name):
            try:
                os.unlink(name, dir_fd=parent)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=parent)
            os.fsync(parent)
    except FileNotFoundError:
        pass


def sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
