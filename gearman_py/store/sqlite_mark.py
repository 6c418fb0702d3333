"""The mark: a small file beside the SQLite file that tells how much of its log was synced."""

import contextlib
import os
import struct
from pathlib import Path
from zlib import crc32

from gearman_py.store.base import StoreError, UnknownOutcome
from gearman_py.store.sqlite_wal import (
    Generation,
    file_beside,
    read_file,
    read_generation,
    read_log,
)

_MARK = struct.Struct(">4I")


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
        if self._file >= 0 and not self._is_there():  # deleted or replaced: written again
            self.close(remove=False)
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.lstat(self._path))
        except OSError:
            return False


def read_mark(path: Path) -> tuple[Generation, int] | None:
    """The mark for the main file at ``path``; None if it says that nothing is known.

    Raises StoreError if it is missing or damaged, and OSError.
    """
    mark = file_beside(path, "-mark")
    said = read_file(mark) if mark.exists() else b""
    if len(said) != _MARK.size + 4 or crc32(said[:-4]).to_bytes(4, "big") != said[-4:]:
        if len(said) == _MARK.size + 4 and not any(said):
            return None  # a power cut may leave what begin() wrote
        what = "is damaged" if said else "is missing or empty"
        raise StoreError(
            f"{mark}, which tells how much of the queue's log was synced, {what}: put it back. To "
            "go on without it, if you know that the log is whole:\n"
            f"  head -c {_MARK.size + 4} /dev/zero > {mark}",
            "the queue's log cannot be checked",
        )
    *numbers, commits = _MARK.unpack(said[:-4])
    return Generation(*numbers), commits
