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

The format: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

import contextlib
import fcntl
import os
import secrets
import struct
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from gearman_py.store.base import StoreError, UnknownOutcome

APPLICATION = int.from_bytes(b"GmPy", "big")  # in the main file's header (PRAGMA application_id)
IN_USE = 0x10000
_ROUND = 0x20000  # the lowest bit of the round; the highest bit is the sign
_ROUNDS = 0x4000
SCHEMA_VERSION = 0xFFFF
COUNT_JOBS = "SELECT count(*) FROM job"

_MAGIC = 0x377F0682  # its last bit: checksums are of big-endian words
_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_MARK = struct.Struct(">4I")
_LOCKS = 0x40000000, 512  # where SQLite locks the main file
_MASK = 0xFFFFFFFF


class Generation(NamedTuple):
    """Identifies a WAL: ``resets`` and the first salt are incremented each time it restarts."""

    resets: int
    salt: int
    random: int


class WAL(NamedTuple):
    """The content of a WAL: ``commits`` readable ones up to ``end``, and ``beyond`` others.

    ``versions`` are the values of user_version that they set.
    """

    generation: Generation
    commits: int
    end: int
    beyond: int
    versions: list[int]


def first_version(version: int) -> int:
    """The user_version of a file from when it is in use."""
    return version & SCHEMA_VERSION | IN_USE | secrets.randbelow(_ROUNDS) * _ROUND


def next_version(version: int) -> int:
    """The user_version with its next WAL."""
    turn = (version // _ROUND + 1) % _ROUNDS
    return version & (_ROUND - 1) | turn * _ROUND


class Mark:
    """The mark for the WAL of the main file at ``path``, which has ``commits`` now."""

    def __init__(self, path: Path, commits: int) -> None:
        self._main = path
        self._path = file_beside(path, "-mark")
        self._file = -1
        self._generation = read_generation(path) if commits else None
        self._commits = commits
        self.begins_again = not commits  # the WAL, with the next commit

    def begin(self) -> None:
        """Write to disk that nothing is known. Raises StoreError."""
        try:
            self._open_file()
            os.pwrite(self._file, bytes(_MARK.size + 4), 0)
        except OSError as error:
            raise StoreError(
                f"{self._path}: {error.strerror}", "the queue's file cannot be written"
            ) from error
        try:
            os.fsync(self._file)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise UnknownOutcome(
                f"{self._path}: the disk failed to keep what was written (fsync)"
            ) from error

    def restart(self) -> None:
        """All of the WAL was written back: the next commit restarts it."""
        self.begins_again = True

    def committed(self) -> None:
        """Another commit is synced. If this cannot be written, the previous mark still holds."""
        if self.begins_again:
            known, self._generation = self._generation, read_generation(self._main)
            self._commits *= known == self._generation
            self.begins_again = False
        self._commits += 1
        if self._generation is None:
            return
        said = _MARK.pack(*self._generation, self._commits)
        with contextlib.suppress(OSError):
            self._open_file()
            os.pwrite(self._file, said + crc32(said).to_bytes(4, "big"), 0)

    def has_its_log(self) -> bool:
        """Whether all commits can be read in the WAL; True if unknown."""
        if self.begins_again or self._generation is None:
            return True
        try:
            found = read_log(file_beside(self._main, "-wal").read_bytes())
        except OSError:
            return True
        return (
            found is not None
            and found.generation == self._generation
            and found.commits >= self._commits
            and found.beyond <= 1
        )

    def close(self, *, remove: bool) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if remove:
            self._path.unlink(missing_ok=True)

    def _open_file(self) -> None:
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def read_mark(path: Path) -> tuple[Generation, int] | None:
    """The mark for the main file at ``path``, or None if there is none. Raises StoreError."""
    mark = file_beside(path, "-mark")
    said = _read_file(mark) if mark.exists() else b""
    if len(said) != _MARK.size + 4 or not any(said):
        return None
    if crc32(said[:-4]).to_bytes(4, "big") != said[-4:]:
        return None
    *numbers, commits = _MARK.unpack(said[:-4])
    return Generation(*numbers), commits


def file_beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def read_generation(path: Path) -> Generation | None:
    """The identity of the WAL of the main file at ``path``, or None if it cannot be read."""
    try:
        with file_beside(path, "-wal").open("rb") as file:
            return _read_header(file.read(_HEADER.size))
    except OSError:
        return None


def check_log(path: Path) -> int:
    """The number of commits in the WAL of a file in use. Raises StoreError if some are missing.

    The rest of a commit that was never acknowledged is cut off. A file that is not ours, or that
    another process uses, is not touched.
    """
    for beside in (file_beside(path, "-wal"), file_beside(path, "-mark")):
        if beside.exists() and not beside.is_file():
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
        known = read_mark(path)
        if not version & IN_USE and not (known and size):
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
        found = read_log(_read_file(wal))
        if found is None:
            raise _incomplete_error(path, "has a damaged header", version)
        if not _fits_main_file(version, found):
            raise _foreign_error(path, version)
        if not version & IN_USE:
            return 0  # it was being closed
        synced = _synced_commits(known, found)
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


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        why = f"{path}, which belongs to the queue, cannot be read: {error.strerror}"
        raise StoreError(why) from error


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


def read_log(data: bytes) -> WAL | None:
    """The content, or None if not even the header can be read."""
    found = _read_header(data)
    if found is None:
        return None
    pairs = _word_pairs(data)
    size = _FRAME.size + int.from_bytes(data[8:12], "big")
    sums = _add_checksum(pairs, data[:24], (0, 0))
    commits = beyond = 0
    versions: list[int] = []
    pending: list[int] = []  # of the commit being read
    end = _HEADER.size
    sound = True
    for start in range(_HEADER.size, len(data) - size + 1, size):
        number, committed, *salts, first, second = _FRAME.unpack_from(data, start)
        if salts != [found.salt, found.random]:
            sound = False
            continue
        if sound:
            sums = _add_checksum(pairs, data[start : start + 8], sums)
            sums = _add_checksum(pairs, data[start + _FRAME.size : start + size], sums)
            sound = number > 0 and sums == (first, second)
        if sound and number == 1:
            at = start + _FRAME.size + 60
            pending = [int.from_bytes(data[at : at + 4], "big")]
        if committed and sound:
            commits += 1
            end = start + size
            versions += pending
            pending = []
        elif committed:
            beyond += 1
    return WAL(found, commits, end, beyond, versions)


def _read_header(data: bytes) -> Generation | None:
    if len(data) < _HEADER.size:
        return None
    magic, _, page, resets, salt, chance, first, second = _HEADER.unpack_from(data)
    if magic & ~1 != _MAGIC or page < 512:
        return None
    if _add_checksum(_word_pairs(data), data[:24], (0, 0)) != (first, second):
        return None
    return Generation(resets, salt, chance)


def _word_pairs(header: bytes) -> struct.Struct:
    """The words for the checksum, in the byte order of the machine that wrote them."""
    return struct.Struct(">II" if header[3] & 1 else "<II")


def _add_checksum(pairs: struct.Struct, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    for one, other in pairs.iter_unpack(data):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second
