"""Reads the write-ahead log (WAL) that SQLite keeps beside its file.

The format: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

import secrets
import struct
from pathlib import Path
from typing import NamedTuple

from gearman_py.store.base import StoreError

APPLICATION = int.from_bytes(b"GmPy", "big")  # in the main file's header (PRAGMA application_id)
IN_USE = 0x10000
_ROUND = 0x20000  # the lowest bit of the round; the highest bit is the sign
_ROUNDS = 0x4000
SCHEMA_VERSION = 0xFFFF
COUNT_JOBS = "SELECT count(*) FROM job"

_MAGIC = 0x377F0682  # its last bit: checksums are of big-endian words
_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
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


def file_beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def read_file(path: Path) -> bytes:
    """A file of the queue. Raises StoreError."""
    try:
        return path.read_bytes()
    except OSError as error:
        why = f"{path}, which belongs to the queue, cannot be read: {error.strerror}"
        raise StoreError(why) from error


def read_generation(path: Path) -> Generation | None:
    """The identity of the WAL of the main file at ``path``, or None if it cannot be read."""
    try:
        with file_beside(path, "-wal").open("rb") as file:
            return _read_header(file.read(_HEADER.size))
    except OSError:
        return None


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
