"""The options of gearmand about where background jobs are kept: see gearman_py.server.settings."""

from dataclasses import dataclass, fields
from typing import Any

from gearman_py.server.kept_settings import KeptSettings
from gearman_py.server.option_fields import option, queue_option

QUEUES = {
    "builtin": "builtin",
    "sqlite": "sqlite",
    "libsqlite3": "sqlite",
    "postgres": "postgres",
    "libpq": "postgres",
    "redis": "redis",
}
"""The queue types, by our names and the C gearmand's."""


@dataclass(frozen=True)
class QueueSettings(KeptSettings):
    """The queue, and the options of each kind."""

    queue_type: str = option(
        "builtin",
        "-q --queue-type",
        "where background jobs are kept: builtin, in memory only; sqlite, in a file too; postgres "
        "or redis, in a database too. All but builtin survive a power cut (builtin). libsqlite3 is "
        "sqlite, libpq is postgres",
        metavar="TYPE",
    )
    queue_file: str = queue_option(
        "sqlite",
        "",
        "--libsqlite3-db --queue-file",
        "the file; it is created if missing, its folder is not",
        metavar="FILE",
        place=True,
        required=True,
    )
    postgres: str = queue_option(
        "postgres",
        "",
        "--libpq-conninfo --postgres",
        "the database, as a connection string of libpq, without a password (which PGPASSFILE or a "
        "service file holds); PGHOST, PGSERVICE ... supply what it leaves out",
        metavar="CONNINFO",
        place=True,
    )
    postgres_passfile: str = queue_option(
        "postgres",
        "",
        "--postgres-passfile",
        "a file with the password alone that others cannot read",
        metavar="FILE",
    )
    postgres_table: str = queue_option(
        "postgres",
        "gearman_queue",
        "--libpq-table --postgres-table",
        "the table, created if missing; job servers that share one take over from each other "
        "(gearman_queue)",
        metavar="TABLE",
        place=True,
    )
    redis_server: str = queue_option(
        "redis",
        "127.0.0.1",
        "--redis-server",
        "its host, or the path of its Unix socket (127.0.0.1)",
        metavar="HOST",
        place=True,
    )
    redis_port: int = queue_option(
        "redis", 6379, "--redis-port", "its port (6379)", type=int, metavar="PORT", place=True
    )
    redis_user: str = queue_option(
        "redis", "", "--redis-user", "who logs in, of Redis' ACL (its default user)", metavar="NAME"
    )
    redis_passfile: str = queue_option(
        "redis",
        "",
        "--redis-passfile",
        "a file with the password that others cannot read",
        metavar="FILE",
    )
    redis_tls: bool = queue_option(
        "redis",
        False,
        "--redis-tls",
        "speak TLS with it; its certificate is checked, and for its host",
        action="store_true",
    )
    redis_ca: str = queue_option(
        "redis",
        "",
        "--redis-ca",
        "with --redis-tls: a file with the certificates of the CAs that it may have (the system's)",
        metavar="FILE",
    )
    redis_prefix: str = queue_option(
        "redis",
        "gearman_py:",
        "--redis-prefix",
        "the prefix of its keys; job servers that share one take over from each other "
        "(gearman_py:)",
        metavar="PREFIX",
        place=True,
    )
    accept_loss: bool = queue_option(
        "postgres redis",
        False,
        "--accept-loss",
        "also use a database whose settings allow it to lose the latest jobs in a crash, and "
        "log a warning",
        action="store_true",
    )
    check_queue: bool = queue_option(
        "postgres redis",
        False,
        "--check-queue",
        "check whether the database can be used, and exit",
        action="store_true",
    )

    @property
    def queue(self) -> str:
        """The queue type, by our name."""
        return QUEUES[self.queue_type.lower()]

    @property
    def queue_place(self) -> dict[str, Any]:
        """The options that say where the queue is."""
        names = [one.name for one in fields(self) if one.metadata.get("place")]
        return {name: getattr(self, name) for name in names}
