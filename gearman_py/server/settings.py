"""Every option of gearmand, declared once: flags, defaults and help are made from this."""

import argparse
import os
import socket
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gearman_py.config import as_words, size
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.servers import DEFAULT_PORT, UNIX
from gearman_py.tls import TLS


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


SQLITE = ("sqlite", "libsqlite3")
QUEUES = ("builtin", *SQLITE)


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
        "attempts at a job whose workers die, -1 for ever (-1)",
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
        0, "-f --file-descriptors", "allow so many open files", type=int, metavar="N"
    )
    max_connections: int = option(
        0,
        "--max-connections",
        "turn connections away when there are so many, 0 for no limit (0)",
        type=int,
        metavar="N",
    )
    level: str = option(
        "", "--verbose", "what to log: " + ", ".join(LEVELS), metavar="LEVEL", choices=LEVELS
    )
    max_memory: int = option(
        0,
        "--max-memory",
        "refuse new jobs while more memory is used, such as 2G; 0 for nine tenths of what systemd "
        "or a container allows (0)",
        type=size,
        metavar="SIZE",
    )
    # A worker whose host vanished gives its job back after two minutes, not after two hours.
    keepalive_idle: int = option(
        60,
        "--keepalive-idle",
        "seconds of silence until a connection's other end is asked whether it is there (60)",
        type=int,
        metavar="N",
    )
    keepalive_interval: int = option(
        15, "--keepalive-interval", "seconds until it is asked again (15)", type=int, metavar="N"
    )
    keepalive_count: int = option(
        4, "--keepalive-count", "how often, before it is gone (4)", type=int, metavar="N"
    )
    queue_type: str = option(
        "builtin",
        "-q --queue-type",
        "where background jobs wait: builtin, in memory alone; sqlite, in a file too, and they "
        "outlive a power cut (builtin); libsqlite3 is sqlite",
        metavar="TYPE",
    )
    queue_file: str = option(
        "",
        "--libsqlite3-db --queue-file",
        "with -q sqlite: the file, made when it is not there, in a folder that is there",
        metavar="FILE",
    )
    drain_timeout: float = option(
        0.0,
        "--drain-timeout",
        "on SIGTERM give out no more jobs and let running ones end, for so many seconds (0)",
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
    def durable(self) -> bool:
        """Whether background jobs outlive this process."""
        return self.queue_type.lower() in SQLITE

    @property
    def tls(self) -> TLS | None:
        """The files of --ssl, if that is given."""
        return TLS(self.ssl_ca_file, self.ssl_certificate, self.ssl_key) if self.ssl else None

    @property
    def handle_prefix(self) -> bytes:
        return (self.job_handle_prefix or f"H:{socket.gethostname()}").encode()


class UsageError(Exception):
    """The command line is wrong; the message says how."""


REFUSED = {
    "--mysql-": "there is no MySQL queue",
    "--libpq-": "there is no Postgres queue",
    "--redis-": "there is no redis queue",
    "--libmemcached-": "there is no memcached queue",
}
"""Options of the C gearmand that cannot be had, by how they begin, and what to say to it."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        words = message.removeprefix("unrecognized arguments: ").split()
        for start, why in REFUSED.items():
            if words[0].startswith(start):
                raise UsageError(f"{words[0].partition('=')[0]}: {why}")
        raise UsageError(message)


def parser(version: str) -> argparse.ArgumentParser:
    """The command line that the settings make."""
    made = _Parser(
        prog="gearmand",
        description="The Gearman job server.",
        epilog="SIGTERM stops it at once; SIGUSR1 lets queued and running jobs end first; "
        "SIGHUP opens the log file anew.",
    )
    for one in fields(Settings):
        meta = one.metadata
        made.add_argument(
            *meta["flags"], dest=one.name, help=meta["help"], default=None, **meta["argparse"]
        )
    made.add_argument(
        "--config-file",
        metavar="FILE",
        help="read options from FILE: TOML, or written as here; the command line wins",
    )
    made.add_argument("-V", "--version", action="version", version=f"gearmand {version}")
    return made


def parse(arguments: Sequence[str] | None, version: str) -> Settings:
    """Settings from a command line, else the file of --config-file, else the environment.

    Raises :class:`UsageError` for what makes no sense. $GEARMAND_PORT counts unless a port
    is given (the C server lets it win over `-p 4730`, which nobody can want).
    """
    given = _given(parser(version), arguments)
    if path := given.pop("config_file", None):
        given = _read(Path(path), version) | given
    port = os.environ.get("GEARMAND_PORT")
    if port and "port" not in given:
        if not port.isdigit():
            raise UsageError(f"$GEARMAND_PORT is not a port: {port!r}")
        given["port"] = int(port)
    lists = {name: tuple(given.get(name, ())) for name in ("listen", "admin_listen")}
    settings = Settings(**given | lists)
    _check(settings)
    return settings


def _given(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> dict[str, Any]:
    found = vars(parser.parse_args(arguments))
    return {name: value for name, value in found.items() if value is not None}


def _read(path: Path, version: str) -> dict[str, Any]:
    """The options in a file: TOML (`port = 4730`), or words as on a command line, as in C's."""
    try:
        text = path.read_text()
        words = text.split() if text.lstrip().startswith("-") else as_words(tomllib.loads(text))
        return _given(parser(version), words)
    except OSError as error:
        raise UsageError(f"--config-file: {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error


def _check(settings: Settings) -> None:
    """Raise UsageError for a value that its type allows and sense does not."""
    for flag, port in (("port", settings.port), ("http-port", settings.http_port)):
        if not 0 <= port <= 65535:
            raise UsageError(f"--{flag}: {port} is not between 0 and 65535")
    if settings.queue_type.lower() not in QUEUES:
        there = " and ".join(QUEUES[:2])
        raise UsageError(f"--queue-type: {settings.queue_type!r} is not there: {there} are")
    if settings.durable and not settings.queue_file:
        raise UsageError(f"--queue-type {settings.queue_type}: say where: --queue-file FILE")
    if settings.queue_file and not settings.durable:
        raise UsageError("--queue-file: only with --queue-type sqlite")
    if settings.backlog < 1:
        raise UsageError(f"--backlog: {settings.backlog} is not a positive number")
    if other := [name for name in settings.admin_listen if not name.startswith(UNIX)]:
        raise UsageError(f"--admin-listen: {other[0]!r} is not unix:PATH")
    if settings.protocol and settings.listen and all(n.startswith(UNIX) for n in settings.listen):
        raise UsageError("--protocol: HTTP is not spoken on Unix sockets: --listen to an address")
    if settings.admin_only and not settings.admin_listen:
        raise UsageError("--admin-only: give --admin-listen unix:PATH, or nobody could use them")
    if settings.max_connections < 0:
        raise UsageError(f"--max-connections: {settings.max_connections} is less than 0")
    for name in ("keepalive_idle", "keepalive_interval", "keepalive_count"):
        if not 1 <= (number := getattr(settings, name)) <= 32767:  # what Linux takes
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag}: {number} is not between 1 and 32767")
    if settings.worker_wakeup < 0:
        raise UsageError(f"--worker-wakeup: {settings.worker_wakeup} is less than 0")
    if len(settings.handle_prefix) > 40:
        raise UsageError("--job-handle-prefix: more than 40 bytes leave no room for the number")
