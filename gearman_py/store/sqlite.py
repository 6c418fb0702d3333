"""Records in one SQLite file, which one server has to itself.

WAL with synchronous=FULL: a commit has returned only when the disk has said that it is kept
(NORMAL loses the last of them in a power cut). The key is the job's own number, never the
unique, which is data and may be anything.

SQLite gives up the interpreter's lock for each statement, and to have it back from a busy
event loop takes long; so a group is one statement where it can be, not one a row.
"""

import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from zlib import crc32

from gearman_py.store import sqlite_file
from gearman_py.store.base import Adopted, Changes, Record, StoreError, UnknownOutcome
from gearman_py.store.sqlite_file import FAILURES, FEW_USED, explain_error, open_file
from gearman_py.store.sqlite_wal import Mark, file_beside

log = logging.getLogger("gearmand")

# The most rows that one statement inserts: SQLite takes 32,766 values in one, and each number
# of rows is a statement to compile and to keep.
GROUP = 128
KEPT_STATEMENTS = GROUP + 32
# The WAL is written back to the file when it has grown by about this number of bytes.
CHECKPOINT = 8 * 2**20
PAGE = 4096
CHANGED = 1024  # bytes that a change of a record adds to the WAL, about: records share pages
IDLE = 0.5  # seconds without a commit, until the WAL is written back though it is short
LOOK = 0.1  # seconds between two looks whether the files are still there
SMALL = 4096  # bytes of a workload that is as well copied as it is looked at twice

_INSERT = "INSERT INTO job VALUES "
_ROW = "(" + ",".join("?" * (len(Record._fields) + 1)) + ")"
_LISTED = "number IN (SELECT value FROM json_each(?))"
_REMOVE = f"DELETE FROM job WHERE {_LISTED}"  # noqa: S608 - our own words
_SET_ASIDE = f"INSERT INTO rejected SELECT * FROM job WHERE {_LISTED}"  # noqa: S608 - the same
_DELIVER = "UPDATE job SET deliveries = value FROM json_each(?) WHERE number = CAST(key AS INTEGER)"


class SQLiteStore:
    """A store in the file at ``path``, made when it is not there; raises StoreError."""

    series = 0
    lease = inf
    beat = 1.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unwritten = 0  # bytes in the WAL, about
        self._connection, commits = open_file(path, KEPT_STATEMENTS)
        self._mark = Mark(path, commits)
        self._in_use = commits > 0
        self._committed = 0.0
        self._failure: StoreError | None = None  # why the last group was not stored
        self._looked = -inf
        self._files = path, file_beside(path, "-wal")
        self._main_identity = _file_identity(path)
        self._wal_identity: tuple[int, int] | None = None  # known from the first commit on

    def replay(self) -> Iterator[Record]:
        """All records, by number.

        A row that does not add up (a bit of it was flipped, or it was written by hand) is
        moved to the table ``rejected``. Raises StoreError when the file itself is damaged.
        """
        bad = []
        try:
            for *row, digest in self._connection.execute("SELECT * FROM job ORDER BY number"):
                record = Record(*row)
                if _adds_up(record, digest):
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
            with contextlib.suppress(StoreError):  # then the next start finds them again
                self._execute_statements(
                    [(_SET_ASIDE, [json.dumps(bad)]), (_REMOVE, [json.dumps(bad)])]
                )

    def commit(self, changes: Changes) -> None:
        try:
            self._check_files()
            if not any(changes):
                if self._failure:  # to have stored nothing does not show that it is over
                    raise self._failure
                return
            if not self._in_use:
                sqlite_file.mark_used(self._path, self._connection, self._mark.begin)
                self._mark.restart()
                self._in_use = True
            statements = _build_statements(changes)
            if self._mark.begins_again:
                statements.insert(0, (sqlite_file.next_round(self._connection), []))
            self._execute_statements(statements)
            self._failure = None
        except StoreError as error:
            self._failure = error
            raise
        if self._wal_identity is None:
            self._wal_identity = _file_identity(self._files[1])
        self._committed = time.monotonic()
        self._unwritten += 4 * PAGE + sum(len(record.workload) + 128 for record in changes.added)
        self._unwritten += CHANGED * (len(changes.delivered) + len(changes.removed))

    def _check_files(self) -> None:
        """Raise StoreError when others deleted or replaced the files."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        main, wal = self._files
        if _file_identity(main) != self._main_identity:
            raise StoreError(
                f"{main} was deleted or replaced. What is queued is in memory alone: let the "
                "workers do it before gearmand is stopped, or put the file back",
                "the queue's file is gone",
            )
        if self._wal_identity and _file_identity(wal) != self._wal_identity:
            raise StoreError(
                f"{wal} was deleted or replaced. Restart gearmand by SIGTERM: what is queued is "
                f"written to {main} then, and would be lost by a crash",
                "the queue's log is gone",
            )
        self._looked = now

    def _execute_statements(self, statements: list[tuple[str, list[object]]]) -> None:
        if len(statements) > 1:
            statements = [("BEGIN IMMEDIATE", []), *statements, ("COMMIT", [])]
        before = self._connection.total_changes
        try:
            for statement, values in statements:
                self._connection.execute(statement, values)
        except sqlite3.Error as error:
            failure = explain_error(self._path, error)
            if self._connection.in_transaction:  # SQLite ends it by itself after some errors
                self._connection.execute("ROLLBACK")
            raise failure from error
        if self._connection.total_changes != before:  # else nothing is in the WAL
            self._mark.committed()

    def tidy(self) -> None:
        """Write the WAL back when it has grown, or nothing else is to do; make the file small."""
        now = time.monotonic()
        idle = now - self._committed > IDLE
        if not self._unwritten or (self._unwritten < CHECKPOINT and not idle):
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

    def adopt(self) -> list[Adopted]:
        """None: the file is this server's alone."""
        return []

    def close(self) -> None:
        """Write everything back to the file, and let it go."""
        whole = False
        try:
            if (
                _file_identity(self._path) == self._main_identity
            ):  # else the log is all that is there
                sqlite_file.mark_unused(self._connection)
                whole = True
        except sqlite3.Error as error:  # what is in the WAL stays there
            log.warning("%s", explain_error(self._path, error))
        finally:
            self._connection.close()
            self._mark.close(remove=whole and not self._files[1].exists())


def _build_statements(changes: Changes) -> list[tuple[str, list[object]]]:
    """What makes them in the file, as few statements as can be."""
    statements: list[tuple[str, list[object]]] = []
    for start in range(0, len(changes.added), GROUP):
        group = changes.added[start : start + GROUP]
        values: list[object] = []
        for record in group:
            values += record
            values.append(_record_digest(record))
        statements.append((_INSERT + ",".join([_ROW] * len(group)), values))
    if changes.delivered:
        statements.append((_DELIVER, [json.dumps(changes.delivered)]))
    if changes.removed:
        statements.append((_REMOVE, [json.dumps(changes.removed)]))
    return statements


def _file_identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _record_digest(record: Record) -> int:
    if len(record.workload) < SMALL:
        return crc32(b"%d\0%b\0%b\0%d\0%d\0%b\0%b" % record[:7])
    return crc32(record.workload, crc32(b"%d\0%b\0%b\0%d\0%d\0%b\0" % record[:6]))


def _adds_up(record: Record, digest: object) -> bool:
    """Whether it is as it was stored; ``deliveries`` changes, so it is looked at by itself."""
    try:
        return _record_digest(record) == digest and record.deliveries >= 0
    except TypeError:  # a value is not even of its type
        return False
