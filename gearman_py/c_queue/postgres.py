"""The table of `gearmand -q Postgres`."""

import re
from typing import Any

from gearman_py.c_queue.base import Rows, SourceError, check_row, name_row, refuse_open
from gearman_py.optional_module import import_optional

SESSIONS = """SELECT pid, COALESCE(host(client_addr), 'this machine') FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND query ~* ('(from|into) ("?\\w+"?\\.)?"?' || %s || '"?\\M')"""
"""Whose last statement was about the table; it is kept while they are idle."""


def read_postgres(conninfo: str, table: str, refuse_others: bool) -> Rows:
    """Read the table, in the order in which the jobs came. Raises SourceError.

    The transaction cannot write. The table has no column of that order, and rows take the place of
    others that were vacuumed. But each job was stored by a transaction of its own, whose number
    the row has as long as the table is not restored from a dump.
    """
    psycopg = import_optional(
        "psycopg", "reading PostgreSQL needs psycopg", "'gearman_py[postgres]'", SourceError
    )
    try:
        # With SQL_ASCII psycopg returns the bytes of texts.
        with psycopg.connect(conninfo, client_encoding="SQL_ASCII") as connection:
            connection.read_only = True
            if refuse_others:
                _check_sessions(connection, table)
            name = psycopg.sql.Identifier(*table.split("."))
            query = (
                "SELECT function_name, unique_key, priority, when_to_run, data FROM {} "
                "ORDER BY age(xmin) DESC, ctid"
            )
            with connection.cursor("gearmand_import", binary=True) as rows:
                rows.execute(psycopg.sql.SQL(query).format(name))
                for row in rows:
                    yield check_row(name_row(*row[:2]), *row)
    except psycopg.Error as error:
        raise SourceError(str(error).strip()) from error


def _check_sessions(connection: Any, table: str) -> None:
    """Raise SourceError if another session uses the table, as a C gearmand's does."""
    name = re.escape(table.rpartition(".")[2])
    for pid, host in connection.execute(SESSIONS, [name]):
        raise refuse_open(
            f"a session from {host.decode()} (process {pid}) uses the table {table!r}"
        )
