"""The options of gearmand, declared once: flags, defaults and help texts are derived from this.

The command line and files are read in gearman_py.server.options.
"""

import socket
from dataclasses import dataclass, fields

from gearman_py.broker.demand import DEFAULT_TARGET
from gearman_py.config import size
from gearman_py.log_format import LOG_FORMATS
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.server.option_fields import (
    LEVELS,
    ignored_option,
    option,
    process_number,
)
from gearman_py.server.queue_settings import QueueSettings


@dataclass(frozen=True)
class Settings(QueueSettings):
    """How a job server runs. Names and defaults are those of gearmand 1.1.20 and 2.0."""

    user: str = option(
        "", "-u --user", "switch to this user after start (root only)", metavar="USER"
    )
    log_file: str = option(
        "stderr", "-l --log-file", "log to FILE, stderr or none (stderr)", metavar="FILE"
    )
    log_format: str = option(
        "text",
        "--log-format",
        "text, or json: an object a line, for machines (text)",
        metavar="FORMAT",
        choices=LOG_FORMATS,
    )
    verbose: int = option(0, "-v", "log more; -vv and -vvv log still more", action="count")
    syslog: bool = option(
        False, "--syslog", "log to syslog too, as gearmand, facility user", action="store_true"
    )
    pid_file: str = option("", "-P --pid-file", "write the process id to FILE", metavar="FILE")
    bind_timeout: float = option(
        20.0,
        "--bind-timeout",
        "if the port or the Unix socket is in use at the start, keep trying for SECONDS (20)",
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
        "how often a job is tried when its workers die; -1 for no limit (-1)",
        type=int,
        metavar="N",
    )
    target_wait: float = option(
        DEFAULT_TARGET,
        "--target-wait",
        "stats and metrics tell how many workers keep the oldest waiting job of each function "
        "younger than SECONDS (60)",
        type=float,
        metavar="SECONDS",
    )
    exceptions: bool = option(
        False,
        "--exceptions",
        "send WORK_EXCEPTION to every client, whether it asked for it or not",
        action="store_true",
    )
    job_handle_prefix: str = option(
        "", "--job-handle-prefix", "begin job handles with TEXT (H:HOSTNAME)", metavar="TEXT"
    )
    max_packet: int = option(
        MAX_PACKET, "--max-packet", "refuse packets above this (64 MiB)", type=int, metavar="BYTES"
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
        "with --function-first: functions take turns (in 2.0 they always do)",
        action="store_true",
    )
    worker_wakeup: int = option(
        1,
        "-w --worker-wakeup",
        "how many sleeping workers a new job wakes; 0 for all (1)",
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
        "refuse new jobs while more memory than this is used, such as 2G, and if it still grows "
        "close the connections that hold the most; 0 for nine tenths of what systemd, the "
        "container or the machine allows (0)",
        type=size,
        metavar="SIZE",
    )
    max_unread: int = option(
        0,
        "--max-unread",
        "close the connection of a peer that leaves more than this unread, such as 64M; 0 for no "
        "limit (0)",
        type=size,
        metavar="SIZE",
    )
    unread_timeout: float = option(
        0.0,
        "--unread-timeout",
        "close the connection of a peer that is alive and reads nothing of what was sent to it for "
        "SECONDS; 0 for no limit (0)",
        type=float,
        metavar="SECONDS",
    )
    # A worker whose host vanished gives its job back after 90 seconds, not after two hours.
    keepalive_idle: int = option(
        60,
        "--keepalive-idle",
        "seconds of silence before a peer is probed (60)",
        type=int,
        metavar="N",
    )
    keepalive_interval: int = option(
        10, "--keepalive-interval", "seconds between two probes (10)", type=int, metavar="N"
    )
    keepalive_count: int = option(
        3,
        "--keepalive-count",
        "how many probes a peer may leave unanswered (3)",
        type=int,
        metavar="N",
    )
    import_from: str = option(
        "",
        "--import",
        "add the jobs that a C gearmand stored, as in libsqlite3:FILE, to the queue, and exit",
        metavar="SOURCE",
    )
    drain_timeout: float = option(
        0.0,
        "--drain-timeout",
        "on SIGTERM assign no more jobs and wait up to SECONDS for running ones to end (0)",
        type=float,
        metavar="SECONDS",
    )
    reload: int = option(
        0,
        "--reload",
        "take over from the job server that runs as process PID, with its connections and jobs, "
        "detach, and exit with 0 once that is done, or with 1 and the reason; without other "
        "options, use those of that server",
        type=process_number,
        metavar="PID",
    )
    check_args: bool = option(
        False,
        "--check-args",
        "check the options and the files of TLS and database logins that they name, and exit",
        action="store_true",
    )
    keepalive: bool | None = ignored_option("--keepalive", "it is always on", action="store_true")
    threads: int | None = ignored_option(
        "-t --threads", "one event loop serves all connections", type=int, metavar="N"
    )
    hashtable_buckets: int | None = ignored_option(
        "--hashtable-buckets", "tables grow as needed", type=int, metavar="N"
    )
    queue_table: str | None = ignored_option(
        "--libsqlite3-table", "the file contains only the queue", metavar="TABLE"
    )
    store_on_shutdown: bool | None = ignored_option(
        "--store-queue-on-shutdown",
        "with -q sqlite a job is stored before it is acknowledged",
        action="store_true",
    )
    coredump: bool | None = ignored_option(
        "--coredump", "Python leaves no core", action="store_true"
    )

    @property
    def without_effect(self) -> list[str]:
        """The given options that have no effect here, each with the reason."""
        return [
            f"{one.metadata['flags'][-1]} has no effect: {one.metadata['ignored']}"
            for one in fields(self)
            if "ignored" in one.metadata and getattr(self, one.name) is not None
        ]

    @property
    def handle_prefix(self) -> bytes:
        return (self.job_handle_prefix or f"H:{socket.gethostname()}").encode()
