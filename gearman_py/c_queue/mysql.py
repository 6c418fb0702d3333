"""The table of `gearmand -q MySQL`."""

from typing import Any

from gearman_py.c_queue.base import Rows, SourceError, check_row, name_row, refuse_open
from gearman_py.optional_module import import_optional


def read_mysql(
    host: str, port: int, user: str, password: str, db: str, table: str, refuse_others: bool
) -> Rows:
    """Read the table in a transaction that cannot write. ``host`` may be the path of a socket.

    Raises SourceError.
    """
    pymysql = import_optional("pymysql", "reading MySQL needs PyMySQL", "PyMySQL", SourceError)
    where = {"unix_socket": host} if "/" in host else {"host": host, "port": port}
    quoted = ".".join("`" + part.replace("`", "``") + "`" for part in table.split("."))
    try:
        with (
            pymysql.connect(
                **where,
                user=user or None,
                password=password,
                database=db,
                use_unicode=False,  # names are bytes
                cursorclass=pymysql.cursors.SSCursor,
            ) as connection,
            connection.cursor() as rows,
        ):
            if refuse_others:
                _check_sessions(rows, connection.thread_id(), user, db)
            rows.execute("START TRANSACTION READ ONLY")
            rows.execute(
                f"SELECT function_name, unique_key, priority, when_to_run, data FROM {quoted}"  # noqa: S608 - the table is quoted
            )
            while row := rows.fetchone():
                yield check_row(name_row(*row[:2]), *row)
    except (pymysql.Error, OSError) as error:
        raise SourceError(": ".join(map(str, error.args))) from error


def _check_sessions(rows: Any, own: int, user: str, db: str) -> None:
    """Raise SourceError for another session of the user in the database: that of a C gearmand."""
    rows.execute("SHOW PROCESSLIST")
    for number, owner, host, database, *_ in rows.fetchall():
        if (owner, database) == (user.encode(), db.encode()) and number != own:
            where = f"from {host.decode()} as {user!r} in the database {db!r}"
            raise refuse_open(f"session {number} is there {where}")
