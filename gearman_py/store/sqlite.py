"""Records in an SQLite file that one server uses alone.

WAL with synchronous=FULL: a commit returns only when the disk has confirmed it (NORMAL loses the
latest commits in a power cut). The key is the number of the job, never the unique, which is data
and may be anything.
"""

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from gearman_py.store import sqlite_file
from gearman_py.store.base import Adopted, Changes, Record, StoreError, UnknownOutcome
from gearman_py.store.sqlite_file import (
    FAILURES,
    FEW_USED,
    check_reserved,
    explain_error,
    open_file,
    reserve_file,
)
from gearman_py.store.sqlite_mark import Mark
from gearman_py.store.sqlite_statements import (
    KEPT_STATEMENTS,
    REMOVE,
    SET_ASIDE,
    adds_up,
    build_statements,
)
from gearman_py.store.sqlite_wal import file_beside

log = logging.getLogger("gearmand")

# The WAL is written back to the file when it has grown by about this many bytes.
CHECKPOINT = 8 * 2**20
PAGE = 4096
CHANGED = 1024  # bytes that a change of a record adds to the WAL, roughly: records share pages
IDLE = 0.5  # seconds without a commit after which even a short WAL is written back


class SQLiteStore:
    """A store in the file at ``path``, created if missing. Raises StoreError.

    ``reservation``: the descriptor by which another process passes the file on.
    """

    series = 0
    lease = inf
    reading = False
    beat = 1.0

    def __init__(self, path: Path, reservation: int | None = None) -> None:
        # SQLite keeps its log beside the file itself, and not beside a link to it.
        self._path = path = Path(os.path.realpath(path))
        self._reservation = reserve_file(path) if reservation is None else reservation
        try:
            if reservation is not None:
                check_reserved(path, reservation)
            self._open(passed_on=reservation is not None)
        except StoreError:
            os.close(self._reservation)
            raise

    def _open(self, *, passed_on: bool) -> None:
        path = self._path
        self._unwritten = 0  # bytes in the WAL, roughly
        self._connection, commits = open_file(path, KEPT_STATEMENTS, passed_on=passed_on)
        self._mark = Mark(path, commits)
        self._in_use = commits > 0
        self._committed = 0.0
        self._failure: StoreError | None = None  # why the last group was not stored
        self._files = path, file_beside(path, "-wal")
        self._main_state = _file_state(path)
        self._wal_state: FileState | None = None  # known after the first commit
        # The last state in which another program left the WAL, and whether all commits were in it.
        self._read_state: FileState | None = None
        self._read_whole = True

    def replay(self) -> Iterator[Record]:
        """All records, by number.

        A damaged row (a bit has flipped, or it was written by hand) is moved to the table
        ``rejected``. Raises StoreError if the file itself is damaged.
        """
        bad = []
        try:
            for *row, digest in self._connection.execute("SELECT * FROM job ORDER BY number"):
                record = Record(*row)
                if adds_up(record, digest):
                    yield record
                else:
                    bad.append(record.number)
        except FAILURES as error:
            raise explain_error(self._path, error) from error
        if bad:
            log.error(
                "%s: %d jobs are damaged and will not run; look at them: "
                "sqlite3 %s 'SELECT * FROM rejected' (while gearmand is stopped)",
                *(self._path, len(bad), self._path),
            )
            with contextlib.suppress(StoreError):  # the next start finds them again
                self._execute_statements(
                    [(SET_ASIDE, [json.dumps(bad)]), (REMOVE, [json.dumps(bad)])]
                )

    def commit(self, changes: Changes) -> None:
        try:
            self._check_files()
            if not any(changes):
                if self._failure:  # storing nothing does not show that the failure is over
                    raise self._failure
                return
            if not self._in_use:
                sqlite_file.mark_used(self._path, self._connection, self._mark.begin)
                self._mark.restart()
                self._in_use = True
                self._note_sizes()
            statements = build_statements(changes)
            if self._mark.begins_again:
                statements.insert(0, (sqlite_file.next_round(self._connection), []))
            self._execute_statements(statements)
            self._failure = None
        except StoreError as error:
            self._failure = error
            raise
        self._wal_state = _file_state(self._files[1])
        self._committed = time.monotonic()
        written = (*changes.added, *changes.rewritten)
        self._unwritten += 4 * PAGE + sum(len(record.workload) + 128 for record in written)
        self._unwritten += CHANGED * (len(changes.delivered) + len(changes.removed))

    def _check_files(self) -> None:
        """Raise StoreError if the files were deleted, replaced, cut or overwritten."""
        main, wal = self._files
        if not _is_same(main, self._main_state):
            raise StoreError(
                f"{main} was deleted or replaced. Queued jobs are only in memory: let the "
                "workers do them before gearmand is stopped, or put the file back",
                "the queue's file is gone",
            )
        if self._wal_state and not _is_same(wal, self._wal_state):
            raise StoreError(
                f"{wal} was deleted or replaced. Restart gearmand by SIGTERM: queued jobs are "
                f"written to {main} then, but would be lost in a crash",
                "the queue's log is gone",
            )
        self._check_content()

    def _check_content(self) -> None:
        """Raise StoreError if a file was cut, or the WAL overwritten."""
        main, wal = self._files
        damaged = main if _is_cut(main, self._main_state) else None
        if not self._mark.begins_again and (
            _is_cut(wal, self._wal_state) or self._is_overwritten()
        ):
            damaged = wal
        if damaged:
            raise StoreError(
                f"{damaged} was cut or overwritten by another program. Queued jobs are only in "
                f"memory: let the workers do them before gearmand is stopped; then move {main}, "
                f"{wal} and {main}-mark away",
                "the queue's file is damaged",
            )

    def _is_overwritten(self) -> bool:
        """Whether the WAL is not whole, having been written to since we did so last."""
        now = _file_state(self._files[1])
        if now is None or self._wal_state is None or now.written == self._wal_state.written:
            return False
        if now != self._read_state:
            self._read_state, self._read_whole = now, self._mark.has_its_log()
        return not self._read_whole

    def _execute_statements(self, statements: list[tuple[str, list[object]]]) -> None:
        if len(statements) > 1:
            statements = [("BEGIN IMMEDIATE", []), *statements, ("COMMIT", [])]
        before = self._connection.total_changes
        try:
            for statement, values in statements:
                self._connection.execute(statement, values)
        except sqlite3.Error as error:
            failure = explain_error(self._path, error)
            if self._connection.in_transaction:  # SQLite ends it itself after some errors
                self._connection.execute("ROLLBACK")
            raise failure from error
        if self._connection.total_changes != before:  # otherwise the WAL is empty
            self._mark.committed()

    def tidy(self) -> None:
        """Write the WAL back if it has grown, or when idle; shrink the file."""
        now = time.monotonic()
        idle = now - self._committed > IDLE
        if not self._unwritten or (self._unwritten < CHECKPOINT and not idle):
            return
        try:
            self._check_content()
        except StoreError:  # the next commit reports it
            return
        try:
            self._write_back()
            if sqlite_file.shrink_file(self._connection, FEW_USED):
                self._write_back()
        except sqlite3.Error as error:
            failure = explain_error(self._path, error)
            if isinstance(failure, UnknownOutcome):
                raise failure from error

    def _write_back(self) -> None:
        if sqlite_file.checkpoint(self._connection):
            self._mark.restart()
        self._unwritten = 0
        self._note_sizes()

    def _note_sizes(self) -> None:
        """Remember how large the files are: writing the WAL back may have made them smaller."""
        main, wal = self._files
        if _is_same(main, self._main_state):
            self._main_state = _file_state(main)
        if _is_same(wal, self._wal_state):
            self._wal_state = _file_state(wal)

    def all_records(self) -> Iterator[Record]:
        return self.replay()

    def adopt(self) -> list[Adopted]:
        """None: only this server uses the file."""
        return []

    def pass_on(self) -> tuple[dict[str, Any], list[int]]:
        """Close the file, which stays reserved: no other process can open it meanwhile."""
        self._check_files()
        if not self._close():
            self.take_back()
            raise StoreError(f"{self._path}: its log could not be written back to it")
        return {}, [self._reservation]

    def take_back(self) -> None:
        self._open(passed_on=True)

    def close(self) -> None:
        """Write everything back to the file and close it."""
        self._close()
        if self._reservation >= 0:
            os.close(self._reservation)
            self._reservation = -1

    def _close(self) -> bool:
        """Close the file; return whether everything is in it."""
        whole = False
        try:
            self._check_content()
        except StoreError as error:  # writing back would spread the damage, and so would SQLite
            log.error("%s", error)
            self._mark.close(remove=False)
            return False
        try:
            if _is_same(self._path, self._main_state):  # otherwise only the log has the jobs
                sqlite_file.mark_unused(self._connection)
                whole = True
        except sqlite3.Error as error:  # the content of the WAL stays there
            log.warning("%s", explain_error(self._path, error))
        finally:
            self._connection.close()
            whole = whole and not self._files[1].exists()
            self._mark.close(remove=whole)
        return whole


class FileState(NamedTuple):
    """Which file it is, its size in bytes, and when it was written to."""

    device: int
    inode: int
    size: int
    written: int  # nanoseconds since 1970


def _file_state(path: Path) -> FileState | None:
    """The state of the file, or None if it does not exist; a link put in its place is another."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _is_same(path: Path, known: FileState | None) -> bool:
    now = _file_state(path)
    return now is not None and known is not None and now[:2] == known[:2]


def _is_cut(path: Path, known: FileState | None) -> bool:
    """Whether this is the file, and it is smaller than it was."""
    now = _file_state(path)
    return now is not None and known is not None and now[:2] == known[:2] and now[2] < known[2]
