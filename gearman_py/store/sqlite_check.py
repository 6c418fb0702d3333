"""Checks that the write-ahead log (WAL) beside the SQLite file is complete.

SQLite takes a WAL to end at the first frame with a wrong checksum. It has to, after a crash in the
middle of a commit; but a flipped bit or a missing file would silently cost acknowledged jobs. Three
things distinguish such damage from a torn end:

- The flag IN_USE in the main file (a bit of user_version) is on disk before the first job is
  acknowledged, and removed when the file is closed: while it is set, there must be a WAL.
- The mark, a small file, tells which WAL it was and how many commits were synced in it. It is
  written after each commit and not synced, so after a power cut it may tell fewer, but never more.
  As each commit is synced before the next begins, a torn end has at most one.
- The round (more bits of user_version) begins at random and is incremented in the first commit of
  each WAL, so the main file has the round of its WAL or the previous one. A file restored from a
  backup does not fit, and neither does the WAL of another queue (except one in 8,000).
"""

import fcntl
import os
from pathlib import Path

from gearman_py.store.base import StoreError
from gearman_py.store.sqlite_mark import read_mark
from gearman_py.store.sqlite_wal import (
    APPLICATION,
    COUNT_JOBS,
    IN_USE,
    SCHEMA_VERSION,
    WAL,
    Generation,
    file_beside,
    next_version,
    read_file,
    read_log,
)

_LOCKS = 0x40000000, 512  # where SQLite locks the main file
_MASK = 0xFFFFFFFF


def check_log(path: Path) -> int:
    """The number of commits in the WAL of a file in use. Raises StoreError if some are missing.

    The rest of a commit that was never acknowledged is cut off. A file that is not ours, or that
    another process uses, is not touched.
    """
    for beside in (file_beside(path, "-wal"), file_beside(path, "-mark")):
        if beside.is_symlink() or (beside.exists() and not beside.is_file()):
            raise StoreError(f"{beside}, which belongs to the queue, is not a file: move it away")
    try:
        return _check_log(path)
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror}") from error


def _check_log(path: Path) -> int:
    with path.open("r+b") as main:
        head = main.read(100)
        wal = file_beside(path, "-wal")
        size = wal.stat().st_size if wal.exists() else 0
        if not head and size:
            raise StoreError(
                f"{path} is missing or empty, but its log {wal} exists: put the file back, or "
                f"move the log away to begin with an empty queue"
            )
        if len(head) < 100 or int.from_bytes(head[68:72], "big") != APPLICATION:
            return 0
        version = int.from_bytes(head[60:64], "big")
        in_use = bool(version & IN_USE)
        if not in_use and not (size and file_beside(path, "-mark").exists()):
            return 0
        try:
            fcntl.lockf(main, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKS[1], _LOCKS[0])
        except OSError:
            return 0  # SQLite will find out who uses it
        if not size:
            raise _incomplete_error(
                path,
                "is missing or empty (if sqlite3, or a gearmand older than this, opened the file "
                "since gearmand ended, all of it was written back, and nothing is missing)",
                version,
            )
        found = read_log(read_file(wal))
        if found is None and not in_use and read_mark(path) is None:
            return 0  # it was about to be used, and no job had been acknowledged
        if found is None:
            raise _incomplete_error(path, "has a damaged header", version)
        if not _fits_main_file(version, found):
            raise _foreign_error(path, version)
        if not in_use:
            return 0  # it was being closed
        synced = _synced_commits(read_mark(path), found)
        if synced is None:
            raise _foreign_error(path, version)
        if found.commits < synced or found.beyond > 1:
            least = max(synced, found.commits + found.beyond)
            raise _incomplete_error(
                path, f"is damaged: {found.commits} of at least {least} commits are whole", version
            )
        if size > found.end:
            os.truncate(wal, found.end)
        return found.commits


def _fits_main_file(version: int, found: WAL) -> bool:
    """Whether the WAL is that of a main file with this user_version."""
    rounds = [told for told in found.versions if told & IN_USE]
    if version & IN_USE:
        return not rounds or version in rounds or next_version(version) == rounds[0]
    return not rounds or found.commits == 1 or not found.versions[-1] & IN_USE


def _repair_command(path: Path, version: int) -> str:
    return f"sqlite3 {path} 'PRAGMA user_version = {version & SCHEMA_VERSION}' '{COUNT_JOBS}'"


def _incomplete_error(path: Path, what: str, version: int) -> StoreError:
    return StoreError(
        f"{path}-wal, the log of the queue, {what}: acknowledged jobs may be lost. Put back the "
        "right one, or save a copy of all files and go on with what can be read; this tells how "
        f"many jobs that is:\n  {_repair_command(path, version)}",
        "the queue's log is damaged",
    )


def _foreign_error(path: Path, version: int) -> StoreError:
    """SQLite would write the log into the file nevertheless, and damage it."""
    return StoreError(
        f"{path}-wal, the log of the queue, does not belong to {path}, or is older or newer: "
        "acknowledged jobs may be lost. Put back the files that belong together, or go on with "
        "what is in the file alone; this tells how many jobs that is:\n"
        f"  mv {path}-wal {path}-other && {_repair_command(path, version)}",
        "the queue's log is damaged",
    )


def _synced_commits(mark: tuple[Generation, int] | None, found: WAL) -> int | None:
    """How many commits there must be, or None if the mark is for another WAL."""
    if mark is None:
        return 0
    known, commits = mark
    if known == found.generation:
        return commits
    if any(told & IN_USE for told in found.versions):
        return 0  # the WAL fits, so the mark belongs to another one
    later = (found.generation.resets - known.resets) & _MASK
    step = (found.generation.salt - known.salt) & _MASK
    return 0 if 0 < later < 2**31 and later == step else None
