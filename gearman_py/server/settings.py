"""Every option of gearmand, declared once: flags, defaults and help are made from this."""

import argparse
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from gearman_py.protocol.codec import MAX_PACKET

DEFAULT_PORT = 4730


def option(default: Any, flags: str, help: str, **argparse_options: Any) -> Any:
    """A field that is also a command-line option; ``flags`` are parted by spaces."""
    metadata = {"flags": flags.split(), "help": help, "argparse": argparse_options}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """How a job server is to run. Names and defaults are those of gearmand 1.1.20 and 2.0."""

    port: int = option(
        DEFAULT_PORT, "-p --port", "TCP port (or $GEARMAND_PORT)", type=int, metavar="PORT"
    )
    listen: tuple[str, ...] = option(
        (),
        "-L --listen",
        "address to listen on; may be repeated (all)",
        metavar="ADDRESS",
        action="append",
    )
    daemon: bool = option(
        False, "-d --daemon", "detach and run in the background", action="store_true"
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
    pid_file: str = option("", "-P --pid-file", "write the process id to FILE", metavar="FILE")
    backlog: int = option(
        1024,
        "-b --backlog",
        "connections that may wait to be accepted (1024)",
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

    @property
    def handle_prefix(self) -> bytes:
        return (self.job_handle_prefix or f"H:{socket.gethostname()}").encode()


class UsageError(Exception):
    """The command line is wrong; the message says how."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
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
    made.add_argument("-V", "--version", action="version", version=f"gearmand {version}")
    return made


def parse(arguments: Sequence[str] | None, version: str) -> Settings:
    """Settings from a command line and the environment.

    Raises :class:`UsageError` for what makes no sense. $GEARMAND_PORT counts unless a port
    is given (the C server lets it win over `-p 4730`, which nobody can want).
    """
    given = {
        name: value
        for name, value in vars(parser(version).parse_args(arguments)).items()
        if value is not None
    }
    port = os.environ.get("GEARMAND_PORT")
    if port and "port" not in given:
        if not port.isdigit():
            raise UsageError(f"$GEARMAND_PORT is not a port: {port!r}")
        given["port"] = int(port)
    settings = Settings(**given | {"listen": tuple(given.get("listen", ()))})
    if not 0 <= settings.port <= 65535:
        raise UsageError(f"--port: {settings.port} is not between 0 and 65535")
    if settings.backlog < 1:
        raise UsageError(f"--backlog: {settings.backlog} is not a positive number")
    if len(settings.handle_prefix) > 40:
        raise UsageError("--job-handle-prefix: more than 40 bytes leave no room for the number")
    return settings
