"""A PostgreSQL database that several job servers share (see gearman_py.store.shared).

There are two tables: the jobs, and the shelves that they are on. A group is one transaction in one
round trip, which PostgreSQL has written to disk when it answers (synchronous_commit).

psycopg is an extra (``gearman_py[postgres]``) and imported when it is needed.
"""

import logging
from collections.abc import Sequence
from typing import Any

from gearman_py.config import format_size
from gearman_py.optional_module import import_optional
from gearman_py.store import postgres_queries as queries
from gearman_py.store.base import Record, StoreError
from gearman_py.store.database import BRIEF, NO_KEEPER, READ_BYTES, Beat, Lost, Rows, Shelf
from gearman_py.store.weakness import Weakness

log = logging.getLogger("gearmand")

SCHEMA = "gearman_py queue 1"
PATIENCE = 4.0  # seconds for an answer
# PostgreSQL and this host should notice soon that the other is gone, or stopped in a transaction,
# whose locks would keep others from taking over.
PROGRAM = "gearmand"
LIFE = {
    "connect_timeout": 3,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
    "application_name": PROGRAM,
}
_LOWEST = -(2**63)
ONLY_IN_MEMORY = (
    "jobs that were queued before are only in memory: let the workers do them before gearmand is "
    "stopped"
)


class Postgres:
    """The database at ``conninfo``, a connection string of libpq (PGHOST, PGSERVICE, PGPASSFILE ...
    supply what it leaves out, and ``password``). ``table`` is that of the jobs, created if missing.

    Raises StoreError if psycopg is not installed.
    """

    def __init__(self, conninfo: str, table: str, password: str = "") -> None:
        self._psycopg: Any = import_optional(
            "psycopg", "-q postgres needs psycopg", "'gearman_py[postgres]'", StoreError
        )
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # what it ignores is said by us
        sql = self._psycopg.sql
        self._conninfo = conninfo
        self.password = password
        self._jobs = sql.Identifier(table)
        self._shelves = sql.Identifier(f"{table}_shelf")
        self._name = table
        self._patient = _patient(self._psycopg)
        self._connection: Any = None
        self._file = 0  # in which PostgreSQL has the table

    def connect(self) -> None:
        try:
            login = {"password": self.password} if self.password else {}
            self._connection = self._patient.connect(
                self._conninfo, autocommit=True, **login, **LIFE
            )
            self._connection.execute(queries.SETTINGS)
            self._make_tables()
        except self._psycopg.Error as error:
            raise self._explain_error(error) from error

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def find_weaknesses(self) -> list[Weakness]:
        """The settings with which it loses jobs."""
        [found] = self._execute_query(queries.KEEPS, [self._jobs.as_string(None)])
        fsync, full_pages, persistence, file, tuples = found
        texts = []
        for name, value in (("fsync", fsync), ("full_page_writes", full_pages)):
            if value != "on":
                texts.append(
                    f"this PostgreSQL has {name} = {value} and would forget jobs: put "
                    f"{name} = on into its postgresql.conf"
                )
        if persistence is None:
            text = (
                f"PostgreSQL: the table {self._name} does not exist: another program dropped it; "
                f"{ONLY_IN_MEMORY}; the next start makes a new table"
            )
            return [Weakness(text, bearable=False)]
        self._note_file(file, tuples)
        if persistence not in ("p", b"p"):
            texts.append(
                f"PostgreSQL would forget the table {self._name}: ALTER TABLE {self._name} "
                "SET LOGGED"
            )
        return [Weakness(text, bearable=True) for text in texts]

    def _note_file(self, file: int, tuples: float) -> None:
        """Notice TRUNCATE, which gives the table a new file, without statistics at first."""
        known, self._file = self._file, file
        if known not in (0, file) and tuples <= 0:
            log.error(
                "PostgreSQL: another program emptied the table %s (TRUNCATE), or rewrote it "
                "(VACUUM FULL, ALTER TABLE). If it was emptied: %s",
                *(self._name, ONLY_IN_MEMORY),
            )

    def describe_login(self) -> str:
        info = self._connection.info
        version = info.parameter_status("server_version").partition(" ")[0]
        tls = "TLS" if self._connection.pgconn.ssl_in_use else "without TLS"
        return (
            f"PostgreSQL {version} at {info.host}:{info.port}, database {info.dbname}, "
            f"user {info.user}, {tls}"
        )

    def describe_durability(self) -> str:
        names = ("synchronous_commit", "fsync", "full_page_writes", "synchronous_standby_names")
        question = f"SELECT {', '.join(['current_setting(%s)'] * len(names))}"
        [values] = self._execute_query(question, names)
        pairs = zip(names, values, strict=True)
        return ", ".join(f"{name} {value or '(none)'}" for name, value in pairs)

    def describe_room(self) -> tuple[str, bool]:
        question = """
            SELECT pg_total_relation_size(%s::text::regclass), (SELECT count(*) FROM {shelves}),
                   (SELECT count(*) FROM pg_stat_activity), current_setting('max_connections')::int
        """
        [[size, runs, used, most]] = self._execute_query(question, [self._jobs.as_string(None)])
        room = f"{used} of {most} connections in use"
        text = f"table {self._name}: {format_size(size)}, {runs} job servers' entries; {room}"
        return text, used > 0.9 * most

    def enrol_run(self, prefix: bytes) -> int:
        number: int
        with self._connection.transaction():  # other runs must not see a shelf without a keeper
            add = "INSERT INTO {shelves} (prefix, keeper, beats, ended) VALUES (%s, 0, 0, false)"
            [(number,)] = self._execute_query(add + " RETURNING number", [prefix])
            self._execute_query("UPDATE {shelves} SET keeper = number WHERE number = %s", [number])
        return number

    def write_rows(self, beat: Beat, rows: Rows) -> bool:
        mine = beat.shelf
        try:
            connection = self._connection
            with connection.pipeline():  # in autocommit mode, this is one transaction
                connection.execute(self._compose_query(queries.BEAT), beat._asdict())
                if rows.doubtful:
                    places = [[mine] * len(rows.doubtful), list(rows.doubtful)]
                    connection.execute(self._compose_query(queries.REMOVE), places)
                if rows.added:
                    columns = [list(column) for column in zip(*rows.added, strict=True)]
                    connection.execute(self._compose_query(queries.INSERT), [mine, *columns])
                if rows.delivered:
                    counts = [(*place, count) for place, count in rows.delivered]
                    columns = [list(column) for column in zip(*counts, strict=True)]
                    connection.execute(self._compose_query(queries.DELIVER), columns)
                if rows.removed:
                    columns = [list(column) for column in zip(*rows.removed, strict=True)]
                    connection.execute(self._compose_query(queries.REMOVE), columns)
                if rows.rewritten:
                    placed = [(*place, *record[1:]) for place, record in rows.rewritten]
                    columns = [list(column) for column in zip(*placed, strict=True)]
                    connection.execute(self._compose_query(queries.REWRITE), columns)
        except self._psycopg.errors.DivisionByZero:
            return False
        except self._psycopg.errors.LockNotAvailable as error:
            self._end_stuck_sessions()
            raise self._explain_error(error) from error
        except self._psycopg.Error as error:
            raise self._explain_error(error) from error
        return True

    def list_shelves(self, numbers: Sequence[int] | None = None) -> list[Shelf]:
        if numbers is None:
            rows = self._execute_query(queries.LIST)
        else:
            rows = self._execute_query(queries.FIND, [list(numbers)])
        return [Shelf(*row) for row in rows]

    def take_shelves(self, beat: Beat, other: Shelf) -> bool:
        try:
            with self._connection.pipeline():
                self._connection.execute(self._compose_query(queries.BEAT), beat._asdict())
                taken = self._connection.execute(
                    self._compose_query(queries.TAKE), other._asdict() | {"mine": beat.shelf}
                )
        except self._psycopg.errors.DivisionByZero:
            return False
        except self._psycopg.Error as error:
            raise self._explain_error(error) from error
        if not taken.rowcount:  # another run was faster, or a session of the dead one has the lock
            self._end_stuck_sessions()
        return True

    def read_records(self, shelf: int, after: int | None, limit: int) -> list[Record]:
        values = [shelf, _LOWEST if after is None else after, limit, READ_BYTES]
        return [Record(*row) for row in self._execute_query(queries.READ, values)]

    def set_aside(self, shelf: int, numbers: Sequence[int]) -> str:
        self._execute_query(queries.SET_ASIDE, [shelf, list(numbers)])
        return f"table {self._name}, shelf {-shelf}"

    def clear_shelf(self, shelf: int) -> None:
        self._execute_query(queries.CLEAR, {"shelf": shelf})

    def find_missing_entries(self) -> list[int]:
        return [number for (number,) in self._execute_query(queries.MISSING)]

    def restore_entry(self, shelf: int, prefix: bytes) -> None:
        self._execute_query(queries.RESTORE, [shelf, prefix, NO_KEEPER])

    def leave_shelf(self, mine: int) -> None:
        self._execute_query("UPDATE {shelves} SET ended = true WHERE number = %s", [mine])

    def _end_stuck_sessions(self) -> None:
        """End the sessions of job servers that hold locks and do not go on."""
        if ended := self._execute_query(queries.END_STUCK, [PROGRAM]):
            log.warning("ended %d sessions of PostgreSQL that had stopped in a group", len(ended))

    def _make_tables(self) -> None:
        """Create the tables if missing. Raises StoreError if they are not ours."""
        name = self._jobs.as_string(None)
        with self._connection.transaction():
            self._connection.execute(queries.LOCK, [f"gearman_py {self._name}"])
            [(there, comment)] = self._execute_query(queries.THERE, [name, name])
            if not there:
                self._connection.execute(self._compose_query(queries.CREATE))
            elif comment != SCHEMA:
                raise StoreError(
                    f"the table {self._name} belongs to another program or another version of "
                    "gearman_py: name another one (--libpq-table)"
                )

    def _execute_query(self, question: str, values: Any = None) -> Any:
        try:
            cursor = self._connection.execute(self._compose_query(question), values, binary=True)
            return cursor.fetchall() if cursor.description else []
        except self._psycopg.Error as error:
            raise self._explain_error(error) from error

    def _compose_query(self, words: str) -> Any:
        sql = self._psycopg.sql
        names = {"jobs": self._jobs, "shelves": self._shelves, "schema": sql.Literal(SCHEMA)}
        return sql.SQL(words).format(**names)

    def _explain_error(self, error: Exception) -> StoreError:
        """The error as ours: StoreError if PostgreSQL refused, otherwise Lost."""
        message = f"PostgreSQL: {' '.join(str(error).split())}"
        if self._connection is not None and not self._connection.closed:
            return StoreError(message, "the queue's database refused")
        return Lost(message, BRIEF)


def _patient(psycopg: Any) -> Any:
    """psycopg's connection with a timeout: it would wait forever for a database that hangs."""

    class Patient(psycopg.Connection):  # type: ignore[misc]  # of a module imported at run time
        def wait(self, *arguments: Any, timeout: float | None = None, **options: Any) -> Any:
            try:
                return super().wait(*arguments, timeout=timeout or PATIENCE, **options)
            except psycopg.OperationalError as error:
                if error.sqlstate is None:  # not an answer of the database
                    self.pgconn.finish()  # a late answer would be taken for that of the next query
                    raise psycopg.OperationalError(str(error) or "no answer") from error
                raise

    return Patient
