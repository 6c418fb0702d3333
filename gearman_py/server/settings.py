"""Every option of gearmand, declared once: flags, defaults and help are made from this.

How they are read from a command line and files is in gearman_py.server.options.
"""

import argparse
import socket
from dataclasses import dataclass, field, fields
from typing import Any

from gearman_py.config import size
from gearman_py.net.servers import DEFAULT_PORT
from gearman_py.net.tls import TLS
from gearman_py.protocol.codec import MAX_PACKET


def option(default: Any, flags: str, help: str, **argparse_options: Any) -> Any:
    """A field that is also a command-line option; ``flags`` are parted by spaces."""
    metadata = {"flags": flags.split(), "help": help, "argparse": argparse_options}
    return field(default=default, metadata=metadata)


def idle(flags: str, why: str, **argparse_options: Any) -> Any:
    """An option of the C gearmand that is taken and has no effect here; ``why`` is told."""
    meta = {"flags": flags.split(), "help": argparse.SUPPRESS, "argparse": argparse_options}
    return field(default=None, metadata={**meta, "idle": why})


LEVELS = {
    level: min(2, max(0, number - 4))
    for number, level in enumerate(
        ("FATAL", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
    )
}
"""The C gearmand's names for what it logs, and how many -v each is."""


QUEUES = {
    "builtin": "builtin",
    "sqlite": "sqlite",
    "libsqlite3": "sqlite",
    "postgres": "postgres",
    "libpq": "postgres",
    "redis": "redis",
}
"""Where background jobs can wait, by our names and the C gearmand's."""


@dataclass(frozen=True)
class Settings:
    """How a job server is to run. Names and defaults are those of gearmand 1.1.20 and 2.0."""

    port: int = option(
        DEFAULT_PORT, "-p --port", "TCP port (or $GEARMAND_PORT)", type=int, metavar="PORT"
    )
    listen: tuple[str, ...] = option(
        (),
        "-L --listen",
        "address, or unix:PATH, to listen on; may be repeated (all addresses)",
        metavar="ADDRESS",
        action="append",
    )
    protocol: str = option(
        "",
        "-r --protocol",
        "speak a second protocol on a port of its own: http",
        metavar="PROTOCOL",
        choices=["http"],
    )
    http_port: int = option(
        8080, "--http-port", "where HTTP is spoken, with -r http (8080)", type=int, metavar="PORT"
    )
    admin_listen: tuple[str, ...] = option(
        (),
        "--admin-listen",
        "a Unix socket for operators, for this user and group: all text commands, and shutdown",
        metavar="unix:PATH",
        action="append",
    )
    admin_only: bool = option(
        False,
        "--admin-only",
        "text commands that change something (cancel, create, drop, maxqueue) only on "
        "--admin-listen's sockets",
        action="store_true",
    )
    metrics_listen: tuple[str, ...] = option(
        (),
        "--metrics-listen",
        "answer HTTP GET /metrics (Prometheus) and /healthz at this address; may be repeated",
        metavar="ADDRESS:PORT",
        action="append",
    )
    daemon: bool = option(
        False, "-d --daemon", "detach and run in the background", action="store_true"
    )
    ssl: bool = option(
        False,
        "--ssl",
        "speak only TLS, and only with peers that show a certificate of the CA; Unix sockets "
        "stay as they are",
        action="store_true",
    )
    ssl_ca_file: str = option(
        "/etc/ssl/certs/gearmand-ca.pem", "--ssl-ca-file", "the CA's certificate", metavar="FILE"
    )
    ssl_certificate: str = option(
        "/etc/ssl/certs/gearmand.pem", "--ssl-certificate", "our certificate", metavar="FILE"
    )
    ssl_key: str = option(
        "/etc/ssl/certs/gearmand.key", "--ssl-key", "our private key", metavar="FILE"
    )
    user: str = option(
        "", "-u --user", "switch to this user after start (root only)", metavar="USER"
    )
    log_file: str = option(
        "stderr", "-l --log-file", "log to FILE, or stderr, or none (stderr)", metavar="FILE"
    )
    verbose: int = option(
        0, "-v", "say more in the log; -vv and -vvv say still more", action="count"
    )
    syslog: bool = option(
        False, "--syslog", "log to syslog too, as gearmand, facility user", action="store_true"
    )
    pid_file: str = option("", "-P --pid-file", "write the process id to FILE", metavar="FILE")
    bind_timeout: float = option(
        20.0,
        "--bind-timeout",
        "when the port, or the Unix socket, is taken at the start, keep trying for SECONDS (20)",
        type=float,
        metavar="SECONDS",
    )
    backlog: int = option(
        4096,
        "-b --backlog",
        "connections that may wait to be accepted (4096)",
        type=int,
        metavar="N",
    )
    job_retries: int = option(
        -1,
        "-j --job-retries",
        "attempts at a job whose workers die, -1 for any number (-1)",
        type=int,
        metavar="N",
    )
    exceptions: bool = option(
        False,
        "--exceptions",
        "send every client WORK_EXCEPTION, asked for or not",
        action="store_true",
    )
    job_handle_prefix: str = option(
        "", "--job-handle-prefix", "begin job handles with TEXT (H:HOSTNAME)", metavar="TEXT"
    )
    max_packet: int = option(
        MAX_PACKET,
        "--max-packet",
        "refuse packets of more bytes than this (64 MiB)",
        type=int,
        metavar="BYTES",
    )

    function_first: bool = option(
        False,
        "--function-first",
        "give out jobs as gearmand 1.1 does: a function's jobs of all priorities before the "
        "next function's (2.0: the highest priority of all functions first)",
        action="store_true",
    )
    round_robin: bool = option(
        False,
        "-R --round-robin",
        "with --function-first: functions take turns (2.0: they always do)",
        action="store_true",
    )
    worker_wakeup: int = option(
        1,
        "-w --worker-wakeup",
        "how many sleeping workers a new job wakes, 0 for all (1)",
        type=int,
        metavar="N",
    )
    file_descriptors: int = option(
        0, "-f --file-descriptors", "maximum number of open files", type=int, metavar="N"
    )
    max_connections: int = option(
        0,
        "--max-connections",
        "maximum number of connections; more are refused; 0 for no limit (0)",
        type=int,
        metavar="N",
    )
    level: str = option(
        "", "--verbose", "what to log: " + ", ".join(LEVELS), metavar="LEVEL", choices=LEVELS
    )
    max_memory: int = option(
        0,
        "--max-memory",
        "refuse new jobs while more memory is used, such as 2G, and close the connections that "
        "hold the most when it still grows; 0 for nine tenths of what systemd, a container or the "
        "machine allows (0)",
        type=size,
        metavar="SIZE",
    )
    max_unread: int = option(
        0,
        "--max-unread",
        "close the connection of a peer that has more than this unread of what was sent to it, "
        "such as 64M; 0 for no limit (0)",
        type=size,
        metavar="SIZE",
    )
    unread_timeout: float = option(
        0.0,
        "--unread-timeout",
        "close the connection of a peer that reads nothing of what was sent to it for this "
        "number of seconds, though it is alive; 0 for no limit (0)",
        type=float,
        metavar="SECONDS",
    )
    # A worker whose host vanished gives its job back after 90 seconds, not after two hours.
    keepalive_idle: int = option(
        60,
        "--keepalive-idle",
        "seconds of silence until a connection's other end is asked whether it is there (60)",
        type=int,
        metavar="N",
    )
    keepalive_interval: int = option(
        10, "--keepalive-interval", "seconds until it is asked again (10)", type=int, metavar="N"
    )
    keepalive_count: int = option(
        3, "--keepalive-count", "how often, before it is gone (3)", type=int, metavar="N"
    )
    queue_type: str = option(
        "builtin",
        "-q --queue-type",
        "where background jobs wait: builtin, in memory alone; sqlite, in a file too, postgres or "
        "redis, in a database too, and they outlive a power cut (builtin); libsqlite3 is sqlite, "
        "libpq is postgres",
        metavar="TYPE",
    )
    queue_file: str = option(
        "",
        "--libsqlite3-db --queue-file",
        "with -q sqlite: the file, made when it is not there, in a folder that is there",
        metavar="FILE",
    )
    postgres: str = option(
        "",
        "--libpq-conninfo --postgres",
        "with -q postgres: the database, as libpq takes it, without a password (PGPASSFILE or a "
        "service file holds that); what it does not say comes from PGHOST, PGSERVICE ...",
        metavar="CONNINFO",
    )
    postgres_table: str = option(
        "gearman_queue",
        "--libpq-table --postgres-table",
        "with -q postgres: the table, made when it is not there; the job servers that share one "
        "take over from each other (gearman_queue)",
        metavar="TABLE",
    )
    redis_server: str = option(
        "127.0.0.1",
        "--redis-server",
        "with -q redis: its host, or the path of its Unix socket (127.0.0.1)",
        metavar="HOST",
    )
    redis_port: int = option(
        6379, "--redis-port", "with -q redis: its port (6379)", type=int, metavar="PORT"
    )
    redis_passfile: str = option(
        "",
        "--redis-passfile",
        "with -q redis: a file with the password, which others cannot read",
        metavar="FILE",
    )
    redis_prefix: str = option(
        "gearman_py:",
        "--redis-prefix",
        "with -q redis: what its keys begin with; the job servers that share it take over from "
        "each other (gearman_py:)",
        metavar="PREFIX",
    )
    accept_loss: bool = option(
        False,
        "--accept-loss",
        "with -q postgres or redis: store jobs also in a database that is set so that it may lose "
        "the last of them when it dies, and say so in the log",
        action="store_true",
    )
    drain_timeout: float = option(
        0.0,
        "--drain-timeout",
        "on SIGTERM give out no more jobs and wait up to SECONDS for running ones to end (0)",
        type=float,
        metavar="SECONDS",
    )
    check_args: bool = option(
        False, "--check-args", "leave with status 0 when the options are right", action="store_true"
    )
    keepalive: bool | None = idle("--keepalive", "it is always on", action="store_true")
    threads: int | None = idle(
        "-t --threads", "one event loop serves all connections", type=int, metavar="N"
    )
    hashtable_buckets: int | None = idle(
        "--hashtable-buckets", "tables grow by themselves", type=int, metavar="N"
    )
    queue_table: str | None = idle(
        "--libsqlite3-table", "the file holds nothing but the queue", metavar="TABLE"
    )
    store_on_shutdown: bool | None = idle(
        "--store-queue-on-shutdown",
        "with -q sqlite a job is stored before it is acknowledged",
        action="store_true",
    )
    coredump: bool | None = idle("--coredump", "Python leaves no core", action="store_true")

    @property
    def without_effect(self) -> list[str]:
        """What was asked for that means nothing here, each with the reason."""
        return [
            f"{one.metadata['flags'][-1]} has no effect: {one.metadata['idle']}"
            for one in fields(self)
            if "idle" in one.metadata and getattr(self, one.name) is not None
        ]

    @property
    def queue(self) -> str:
        """Where background jobs wait, by our name for it."""
        return QUEUES[self.queue_type.lower()]

    @property
    def tls(self) -> TLS | None:
        """The files of --ssl, if that is given."""
        return TLS(self.ssl_ca_file, self.ssl_certificate, self.ssl_key) if self.ssl else None

    @property
    def handle_prefix(self) -> bytes:
        return (self.job_handle_prefix or f"H:{socket.gethostname()}").encode()
