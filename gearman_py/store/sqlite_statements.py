"""The statements that store a group of changes in SQLite.

SQLite releases the interpreter's lock for each statement, and getting it back from a busy event
loop takes long; so a group is one statement where possible, not one per row.
"""

import json
from collections.abc import Iterator, Sequence
from zlib import crc32

from gearman_py.store.base import Changes, Record

# Rows that one statement inserts at most: SQLite allows 32,766 values, and each number of rows is a
# statement to compile and to keep.
STATEMENT_ROWS = 128
KEPT_STATEMENTS = STATEMENT_ROWS + 32
# Bytes of workloads that one statement inserts, unless it is one row: a statement that is kept also
# keeps its last values.
STATEMENT_BYTES = 64 * 2**10
SMALL = 4096  # bytes of a workload that is cheaper to copy than to read twice

_INSERT = "INSERT INTO job VALUES "
_REWRITE = "INSERT OR REPLACE INTO job VALUES "
_COLUMNS = len(Record._fields) + 1
_ROW = "(" + ",".join("?" * _COLUMNS) + ")"
_INSERT_LARGE = f"INSERT INTO job SELECT {','.join('?' * _COLUMNS)} WHERE ?"
_REWRITE_LARGE = _INSERT_LARGE.replace("INSERT", "INSERT OR REPLACE")
_LISTED = "number IN (SELECT value FROM json_each(?))"
REMOVE = f"DELETE FROM job WHERE {_LISTED}"  # noqa: S608 - our own words
SET_ASIDE = f"INSERT INTO rejected SELECT * FROM job WHERE {_LISTED}"  # noqa: S608 - the same
_DELIVER = "UPDATE job SET deliveries = value FROM json_each(?) WHERE number = CAST(key AS INTEGER)"


def build_statements(changes: Changes) -> list[tuple[str, list[object]]]:
    """The statements that make the changes, as few as possible."""
    statements = list(_build_inserts(_INSERT, _INSERT_LARGE, changes.added))
    if changes.delivered:
        statements.append((_DELIVER, [json.dumps(changes.delivered)]))
    if changes.removed:
        statements.append((REMOVE, [json.dumps(changes.removed)]))
    if changes.rewritten:
        statements += _build_inserts(_REWRITE, _REWRITE_LARGE, changes.rewritten)
    return statements


def _build_inserts(
    insert: str, large: str, records: Sequence[Record]
) -> Iterator[tuple[str, list[object]]]:
    rows: list[Record] = []
    size = 0
    any_large = False
    for record in records:
        length = len(record.workload)
        if rows and (len(rows) == STATEMENT_ROWS or size + length > STATEMENT_BYTES):
            yield _build_insert(insert, rows)
            rows, size = [], 0
        if length > STATEMENT_BYTES:
            any_large = True
            yield large, [*record, _record_digest(record), 1]
        else:
            rows.append(record)
            size += length
    if rows:
        yield _build_insert(insert, rows)
    if any_large:  # it inserts nothing, and frees the workload
        yield large, [0] * (_COLUMNS + 1)


def _build_insert(insert: str, rows: Sequence[Record]) -> tuple[str, list[object]]:
    values: list[object] = []
    for record in rows:
        values += record
        values.append(_record_digest(record))
    return insert + ",".join([_ROW] * len(rows)), values


def _record_digest(record: Record) -> int:
    if len(record.workload) < SMALL:
        return crc32(b"%d\0%b\0%b\0%d\0%d\0%b\0%b" % record[:7])
    return crc32(record.workload, crc32(b"%d\0%b\0%b\0%d\0%d\0%b\0" % record[:6]))


def adds_up(record: Record, digest: object) -> bool:
    """Whether the row is as it was stored; ``deliveries``, which changes, is checked apart."""
    try:
        return _record_digest(record) == digest and record.deliveries >= 0
    except TypeError:  # a value does not even have its type
        return False
