"""The file of `gearmand -q libsqlite3`."""

import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from gearman_py.c_queue.base import Rows, SourceError, Unreadable, check_row, name_row

JOURNALS = "-journal", "-wal"


def read_sqlite(file: str, table: str) -> Rows:
    """Read the table of the file, in the order in which the jobs came. Raises SourceError."""
    path = Path(file)
    if not path.is_file():
        raise SourceError(f"{file}: {'not a file' if path.exists() else 'no such file'}")
    with _open_unchanged(path) as connection:
        try:
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({_quote(table)})")}
            if not columns >= {b"unique_key", b"function_name", b"priority", b"data"}:
                raise SourceError(f"{file}: it has no table {table!r} of a C gearmand")
            due = "when_to_run" if b"when_to_run" in columns else "0"  # before version 1.1
            rows = connection.execute(
                f"SELECT function_name, unique_key, priority, {due}, data FROM {_quote(table)} "  # noqa: S608 - the table is quoted
                "ORDER BY rowid"
            )
        except sqlite3.Error as error:
            raise SourceError(f"{file}: {_advise(error, file)}") from error
        while True:
            try:
                row = next(rows, None)
            except sqlite3.Error as error:
                yield Unreadable(f"what follows in {file}", _advise(error, file), is_rest=True)
                return
            if row is None:
                return
            yield check_row(name_row(*row[:2]), *row)


def _advise(error: sqlite3.Error, file: str) -> str:
    """The error, and how to save what SQLite can still find in a damaged file."""
    if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_CORRUPT:
        return str(error)
    return f"{error}; run `sqlite3 {shlex.quote(file)} .recover | sqlite3 NEW`, and import NEW too"


@contextmanager
def _open_unchanged(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file without writing to it or beside it.

    After a crash SQLite must first undo or redo what a journal tells: in a copy.
    """
    with TemporaryDirectory(prefix="gearmand-import-") as folder:
        try:
            journals = [each for suffix in JOURNALS if (each := Path(f"{path}{suffix}")).exists()]
            opened, immutable = path, "&immutable=1"
            if any(each.stat().st_size for each in journals):
                for each in (path, *journals):
                    shutil.copy(each, folder)
                opened, immutable = Path(folder, path.name), ""
            mode = "ro" if immutable else "rw"
            where = f"file:{quote(str(opened.absolute()))}?mode={mode}{immutable}"
            connection = sqlite3.connect(where, uri=True)
        except (OSError, sqlite3.Error) as error:
            raise SourceError(f"{path}: {error}") from error
        connection.text_factory = bytes
        with closing(connection):
            yield connection


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
