"""Opening the SQLite file: check whose it is, who uses it, and whether it is sound.

Nothing is written until the file is known to be sound, and either ours or empty.
"""

import contextlib
import ctypes
import fcntl
import os
import sqlite3
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gearman_py.store import sqlite_check, sqlite_wal
from gearman_py.store.base import StoreError, UnknownOutcome
from gearman_py.store.sqlite_wal import APPLICATION, COUNT_JOBS, IN_USE, SCHEMA_VERSION

SYNCHRONOUS = "FULL"
WAIT = 1.0  # seconds for another process to release the file
RESERVE_INTERVAL = 0.05  # seconds between two attempts to reserve it
OLDEST = (3, 37)  # the first SQLite with STRICT tables
# A file is shrunk when it has more free pages than this, and more free than used ones; while it is
# in use, only when the used ones are so few that it takes milliseconds.
MANY_FREE = 4096
FEW_USED = 2048
WAL_KEPT = 16 * 2**20  # bytes of the WAL's file that are kept

MIGRATIONS = (
    """
    CREATE TABLE job (
        number INTEGER PRIMARY KEY,
        function BLOB NOT NULL,
        "unique" BLOB NOT NULL,
        priority INTEGER NOT NULL,
        due INTEGER NOT NULL,
        reducer BLOB NOT NULL,
        workload BLOB NOT NULL,
        deliveries INTEGER NOT NULL,
        digest INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE rejected (
        number, function, "unique", priority, due, reducer, workload, deliveries, digest
    );
    """,
)
"""The steps from each version of the schema to the next. PRAGMA user_version counts them."""

# When the message contains a damaged name, Python cannot decode it.
FAILURES = (sqlite3.Error, UnicodeDecodeError)


def reserve_file(path: Path) -> int:
    """Create the file if missing, and reserve it for this process. Raises StoreError.

    Returns a descriptor, which can be passed to another process with the reservation, while SQLite
    must close the file. To close a descriptor of a file ends SQLite's locks on it, so keep this one
    open for longer than SQLite has the file.
    """
    descriptor = _create_file(path)
    until = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(descriptor)
                raise _in_use(path) from None
            time.sleep(RESERVE_INTERVAL)
        except OSError:  # this file system has no such locks: SQLite's must do
            return descriptor
        else:
            return descriptor


def check_reserved(path: Path, descriptor: int) -> None:
    """Raise StoreError unless this file is the reserved one: a link may lead elsewhere by now."""
    try:
        same = os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        same = False
    if not same:
        raise StoreError(f"{path} is not the file that the running server has: restart it instead")


def open_file(
    path: Path, kept_statements: int, *, passed_on: bool = False
) -> tuple[sqlite3.Connection, int]:
    """Open the file for this process alone, with the current schema. Raises StoreError.

    Also returns how many commits its WAL has already. A file that was ``passed_on`` by the process
    that used it is sound, and is not changed.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreError(
            f"this Python has SQLite {sqlite3.sqlite_version}: a durable queue needs 3.37 or newer"
        )
    commits = 0 if passed_on else sqlite_check.check_log(path)
    connection = sqlite3.connect(
        path,
        timeout=WAIT,
        isolation_level=None,  # we begin and end transactions
        check_same_thread=False,
        cached_statements=kept_statements,
    )
    # An interpreter that exits without close() would close the file, and SQLite would remove the
    # WAL; but after an error only the next start shows what is stored.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    try:
        connection.text_factory = bytes
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = _read_version(path, connection)
        if passed_on and version != len(MIGRATIONS):
            raise StoreError(f"{path} was written by an older gearman_py: restart it instead")
        _prepare_connection(path, connection, check=not passed_on)
        if not passed_on:
            _migrate_schema(connection, version)
            shrink_file(connection)
    except FAILURES as error:
        _leave(path, connection)
        raise explain_error(path, error) from error
    except StoreError:
        _leave(path, connection)
        raise
    return connection, commits


def _create_file(path: Path) -> int:
    """Open the file, or create it, readable only by this user: workloads are private."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise StoreError(
            f"{path}: the folder {path.parent} does not exist; create it, writable for gearmand's "
            "user"
        ) from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened for writing: {error.strerror}") from error


def _leave(path: Path, connection: sqlite3.Connection) -> None:
    """Close the file and leave its WAL, which SQLite would remove."""
    wal, kept = sqlite_wal.file_beside(path, "-wal"), sqlite_wal.file_beside(path, "-kept")
    with contextlib.suppress(OSError):
        os.link(wal, kept)
    connection.close()
    with contextlib.suppress(OSError):
        os.replace(kept, wal)


def mark_used(path: Path, connection: sqlite3.Connection, begin: Callable[[], None]) -> None:
    """Write to disk that the file is in use and its WAL needed. Raises StoreError.

    ``begin`` is called first, unless the file was in use already. Then all of the WAL is written
    back, as the flag may be only there.
    """
    version = _query_value(connection, "PRAGMA user_version")
    try:
        if not version & IN_USE:
            begin()
            connection.execute(f"PRAGMA user_version = {sqlite_wal.first_version(version)}")
        written_back = checkpoint(connection)
    except sqlite3.Error as error:
        raise explain_error(path, error) from error
    if not written_back:
        raise StoreError(f"{path}: its log cannot be written back to it")


def next_round(connection: sqlite3.Connection) -> str:
    """The additional part of the first commit in a WAL."""
    version = _query_value(connection, "PRAGMA user_version")
    return f"PRAGMA user_version = {sqlite_wal.next_version(version)}"


def mark_unused(connection: sqlite3.Connection) -> None:
    """The opposite of mark_used, after all else has been written back."""
    if checkpoint(connection):
        version = _query_value(connection, "PRAGMA user_version")
        connection.execute(f"PRAGMA user_version = {version & SCHEMA_VERSION}")


def checkpoint(connection: sqlite3.Connection) -> bool:
    """Write the WAL back to the file; return whether all of it was. Raises sqlite3.Error."""
    _, logged, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(logged == done)


def _read_version(path: Path, connection: sqlite3.Connection) -> int:
    """The version of the schema, 0 for a new file. Raises StoreError if the file is not ours."""
    application = _query_value(connection, "PRAGMA application_id")
    version: int = _query_value(connection, "PRAGMA user_version") & SCHEMA_VERSION
    if application == APPLICATION:
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} was written by a newer gearman_py (schema {version}, this one knows "
                f"{len(MIGRATIONS)}): start the newer one, or name another file"
            )
        return version
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if b"gearman_queue" in tables:
        raise StoreError(
            f"{path} is a queue of the C gearmand: name another file, and take its jobs along "
            f"with --import libsqlite3:{path}"
        )
    if application or version or tables:
        raise StoreError(f"{path} is a database of some other program: name another file")
    return 0


def _prepare_connection(path: Path, connection: sqlite3.Connection, *, check: bool) -> None:
    """Make sure that the file is sound, with ``check``, and that commits are durable."""
    if check and (found := _query_value(connection, "PRAGMA quick_check(1)")) != b"ok":
        raise sqlite3.DatabaseError(found.decode(errors="backslashreplace"))
    # Its commit comes after its row: only when all is fetched an error is reported.
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    if _query_value(connection, "PRAGMA journal_mode") != b"wal":
        raise StoreError(f"{path}: the file system cannot keep a write-ahead log (WAL)")
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
    # Debian's SQLite overwrites what is deleted: a drain would write as much as the queue was long.
    connection.execute("PRAGMA secure_delete = FAST")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # SQLite would not report when it fails


def _migrate_schema(connection: sqlite3.Connection, version: int) -> None:
    if version == len(MIGRATIONS):
        return
    steps = "".join(MIGRATIONS[version:])
    in_use = _query_value(connection, "PRAGMA user_version") & ~SCHEMA_VERSION
    connection.executescript(
        f"BEGIN; {steps} PRAGMA application_id = {APPLICATION};"
        f"PRAGMA user_version = {len(MIGRATIONS) | in_use}; COMMIT;"
    )


def shrink_file(connection: sqlite3.Connection, few: int | None = None) -> bool:
    """Free the disk space of a queue that was longer once.

    ``few``: only if at most this many pages are used. Returns whether it was done.
    """
    free = _query_value(connection, "PRAGMA freelist_count")
    used = _query_value(connection, "PRAGMA page_count") - free
    if free <= MANY_FREE or free <= used or (few is not None and used > few):
        return False
    with contextlib.suppress(sqlite3.OperationalError):  # no space to do it; it can wait
        connection.execute("VACUUM")
        return True
    return False


def explain_error(path: Path, error: Exception) -> StoreError:
    """The error of SQLite as ours: what is wrong with the file, and what to do."""
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    if name in ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC"):
        return UnknownOutcome(f"{path}: the disk failed to keep what was written (fsync)")
    if name.startswith("SQLITE_BUSY"):
        return _in_use(path)
    if name == "SQLITE_NOTADB":
        return StoreError(f"{path} is not an SQLite database: name another file, or move it away")
    if name == "SQLITE_FULL":
        return StoreError(f"{path}: no space left on the disk", "no space left")
    if name.startswith("SQLITE_CORRUPT"):
        pragmas = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {len(MIGRATIONS)}"
        # Not .recover: Debian's sqlite3 is built without it, and fails.
        return StoreError(
            f"{path} is damaged ({error}). Save what can be read while gearmand is stopped; the "
            "second line says how many jobs that is:\n"
            f"  sqlite3 {path} .dump | sed 's/^ROLLBACK.*/COMMIT;/' | "
            f"(umask 077; sqlite3 {path}.saved)\n"
            f"  sqlite3 {path}.saved '{pragmas}' '{COUNT_JOBS}'\n"
            f"  mv {path} {path}.damaged && rm -f {path}-wal && mv {path}.saved {path} && "
            f"chown --reference={path}.damaged {path}",
            "the queue's file is damaged",
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return StoreError(
            f"{path}: {error}: this user must be able to write the file and its folder",
            "the queue's file cannot be written",
        )
    return StoreError(f"{path}: {error}", "the queue's file cannot be written")


def _in_use(path: Path) -> StoreError:
    return StoreError(
        f"{path} is in use by {_find_holder(path)}: each gearmand needs a file of its own"
    )


def _find_holder(path: Path) -> str:
    """The process that has locked the file (man fcntl, F_GETLK)."""
    shape = "hhqqi0q"
    ask = struct.pack(shape, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with path.open("rb") as file:
        kind, *_, pid = struct.unpack(shape, fcntl.fcntl(file, fcntl.F_GETLK, ask))
    return f"process {pid}" if kind != fcntl.F_UNLCK and pid > 0 else "another process"


def _query_value(connection: sqlite3.Connection, question: str) -> Any:
    return connection.execute(question).fetchone()[0]
