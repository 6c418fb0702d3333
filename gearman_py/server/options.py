"""The options of gearmand, read from the command line, a file and the environment."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields
from math import inf, isfinite
from pathlib import Path
from typing import Any, NoReturn

from gearman_py.c_queue.source import StoredQueue
from gearman_py.config import PASSWORD, as_words
from gearman_py.net.servers import UNIX, parse_servers
from gearman_py.option_parser import UNKNOWN, OptionParser
from gearman_py.protocol import accelerator
from gearman_py.server.queue_settings import QUEUES
from gearman_py.server.settings import Settings

_CODEC = "accelerated" if accelerator.IN_USE else "pure Python"


class UsageError(Exception):
    """The command line is wrong; the message tells why."""


REFUSED = {
    "--mysql-": "a MySQL queue is not supported",
    "--redis-password": "every user of this machine could read it; use --redis-passfile FILE",
    "--libmemcached-": "a memcached queue is not supported",
}
"""Options of the C gearmand that are refused, by how they begin, with the reason."""


FLAGS = {one.name: one.metadata["flags"][-1] for one in fields(Settings)}
FLAGS["config_file"] = "--config-file"
MAY_BE_EMPTY = {"postgres", "redis_prefix"}
"""Settings to which "" is a value. Of others it is a shell's variable that is not set."""


OWN = "127.0.0.1"
RANGES = {
    **dict.fromkeys(("port", "http_port"), (0, 65535)),
    "redis_port": (1, 65535),
    "target_wait": (1, 10**9),
    "max_packet": (1, 2**32 - 1),
    "job_retries": (-1, 2**31 - 1),
    **dict.fromkeys(("keepalive_idle", "keepalive_interval", "keepalive_count"), (1, 32767)),
}
"""The least and the most of a setting; what Linux accepts for keepalive."""

INSTEAD_OF_SERVING = {
    "check_args": "--check-args",
    "check_queue": "--check-queue",
    "import_from": "--import",
}
AT_LEAST_0 = {
    *("max_connections", "worker_wakeup", "file_descriptors", "unread_timeout", "bind_timeout"),
    *("drain_timeout", "keep_failed", "keep_failed_days"),
}


class _Parser(OptionParser):
    def error(self, message: str) -> NoReturn:
        words = message.removeprefix(UNKNOWN).split()
        for start, why in REFUSED.items():
            if words[0].startswith(start):
                raise UsageError(f"{words[0].partition('=')[0]}: {why}")
        raise UsageError(self.with_hint(message))


def parser(version: str) -> argparse.ArgumentParser:
    """The command line, from the settings."""
    made = _Parser(
        prog="gearmand",
        description="The Gearman job server.",
        epilog="SIGTERM stops it at once; SIGUSR1 lets queued and running jobs end first; "
        "SIGHUP reopens the log file.",
    )
    for one in fields(Settings):
        meta = one.metadata
        made.add_argument(
            *meta["flags"], dest=one.name, help=meta["help"], default=None, **meta["argparse"]
        )
    made.add_argument(
        "--config-file",
        metavar="FILE",
        help="read options from FILE: TOML, or as on the command line, which takes precedence",
    )
    made.add_argument("-V", "--version", action="version", version=f"gearmand {version} ({_CODEC})")
    return made


def parse(arguments: Sequence[str] | None, version: str) -> Settings:
    """Settings from the command line, then the file of --config-file, then the environment.

    Raises :class:`UsageError` for invalid ones. $GEARMAND_PORT is used unless a port is given (in
    the C server it takes precedence over `-p 4730`, which is never wanted).
    """
    given = _given_options(parser(version), arguments)
    if path := given.pop("config_file", None):
        given = _read_file(Path(path), version) | given
    port = os.environ.get("GEARMAND_PORT")
    if port and "port" not in given:
        if not port.isdigit():
            raise UsageError(f"$GEARMAND_PORT is not a port: {port!r}")
        given["port"] = int(port)
    names = "listen", "admin_listen", "metrics_listen", "keep_results"
    lists = {name: tuple(given.get(name, ())) for name in names}
    settings = Settings(**given | lists)
    _check_settings(settings)
    return settings


def _given_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> dict[str, Any]:
    found = vars(parser.parse_args(arguments))
    given = {name: value for name, value in found.items() if value is not None}
    for name in given.keys() - MAY_BE_EMPTY:
        if given[name] == "" or (isinstance(given[name], list) and "" in given[name]):
            raise UsageError(f"{FLAGS[name]}: the value is empty")
    return given


def _read_file(path: Path, version: str) -> dict[str, Any]:
    """The options in a file: TOML (`port = 4730`), or as on a command line, as for the C server."""
    import tomllib  # few have such a file, and this is a twentieth of the start

    try:
        text = path.read_text()
        words = text.split() if text.lstrip().startswith("-") else as_words(tomllib.loads(text))
        return _given_options(parser(version), words)
    except OSError as error:
        raise UsageError(f"--config-file: {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error


def _check_settings(settings: Settings) -> None:
    """Raise UsageError for values that are of the right type and still invalid."""
    _check_numbers(settings)
    _check_results(settings)
    _check_queue(settings)
    for name, flag in INSTEAD_OF_SERVING.items() if settings.reload else ():
        if getattr(settings, name):
            raise UsageError(f"--reload: not together with {flag}")
    if settings.backlog < 1:
        raise UsageError(f"--backlog: {settings.backlog} is not a positive number")
    if other := [name for name in settings.admin_listen if not name.startswith(UNIX)]:
        raise UsageError(f"--admin-listen: {other[0]!r} is not unix:PATH")
    for address in settings.metrics_listen:
        try:
            if address.isdigit():
                raise ValueError(
                    f"{address!r} is not an address; expected one such as {OWN}:{address}"
                )
            parse_servers(address)
        except ValueError as error:
            raise UsageError(f"--metrics-listen: {error}") from None
    if settings.protocol and settings.listen and all(n.startswith(UNIX) for n in settings.listen):
        raise UsageError("--protocol: HTTP is not spoken on Unix sockets: --listen to an address")
    if settings.admin_only and not settings.admin_listen:
        raise UsageError(
            "--admin-only also needs --admin-listen unix:PATH, else no operator could connect"
        )
    if len(settings.handle_prefix) > 40:
        raise UsageError("--job-handle-prefix: more than 40 bytes leave no room for the number")


def _check_numbers(settings: Settings) -> None:
    for one in fields(settings):
        flag, number = one.metadata["flags"][-1], getattr(settings, one.name)
        if isinstance(number, float) and not isfinite(number):
            raise UsageError(f"{flag}: {number:g} is not a finite number")
        if one.name in RANGES:
            least, most = RANGES[one.name]
            if not least <= number <= most:
                raise UsageError(f"{flag}: {number} is not between {least} and {most}")
        elif one.name in AT_LEAST_0 and number < 0:
            raise UsageError(f"{flag}: {number:g} is less than 0")


def _check_results(settings: Settings) -> None:
    for word in settings.keep_results:
        try:
            seconds = float(word.rpartition("=")[2])
        except ValueError:
            seconds = -1
        if not 0 <= seconds < inf or word[0] == "=":
            raise UsageError(f"--keep-results: {word!r} is not SECONDS or FUNCTION=SECONDS")


def _check_queue(settings: Settings) -> None:
    if settings.queue_type.lower() not in QUEUES:
        *names, last = dict.fromkeys(QUEUES.values())
        expected = f"{', '.join(names)} or {last}"
        raise UsageError(f"unknown queue type {settings.queue_type!r}; expected {expected}")
    for one in fields(settings):
        if not (queues := one.metadata.get("queues")):
            continue
        flag, value = one.metadata["flags"][-1], getattr(settings, one.name)
        if settings.queue not in queues and value != one.default:
            raise UsageError(f"{flag}: only with --queue-type {' or '.join(queues)}")
        if settings.queue in queues and one.metadata["required"] and not value:
            where = f"{flag} {one.metadata['argparse']['metavar']}"
            raise UsageError(f"--queue-type {settings.queue_type}: {where} is missing")
    if settings.import_from:
        if settings.queue == "builtin":
            raise UsageError("--import: jobs in memory are lost at the exit; choose another -q")
        try:
            StoredQueue.parse(settings.import_from)
        except ValueError as error:
            raise UsageError(f"--import: {error}") from None
    if settings.redis_ca and not settings.redis_tls:
        raise UsageError("--redis-ca: only with --redis-tls")
    if PASSWORD.search(settings.postgres):
        raise UsageError(
            "--postgres: every user of this machine could read the password; use "
            "--postgres-passfile FILE"
        )
