"""What the commands share: messages and exit statuses, logging, and a calm end.

Exit statuses, the same for every command that talks to a server: see EXIT_STATUSES.
"""

import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable

from gearman_py.errors import (
    AdminError,
    GearmanError,
    JobFailed,
    JobTimeout,
    SubmitError,
)
from gearman_py.servers import DEFAULT_PORT, parse_servers

OK, FAILED, USAGE, UNREACHABLE, LATE = range(5)
INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell shows SIGINT and SIGPIPE

HOST_HELP = (
    "job server, as HOST, HOST:PORT or unix:PATH; may be repeated (GEARMAN_SERVERS, else localhost)"
)
EXIT_STATUSES = """\
exit status:
  0  done
  1  a job failed, or the server refused it
  2  the command line is wrong
  3  no server answers, or the connection to it was lost
  4  it did not end in time
"""


def command(program: str, main: Callable[[], int]) -> int:
    """Run ``main``; turn what goes wrong into ``program: message`` and an exit status."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED
    except GearmanError as error:
        return complain(program, error)
    return status


def complain(program: str, error: Exception) -> int:
    """Say on stderr what went wrong, after what was already printed; the exit status for it."""
    sys.stdout.flush()
    print(f"{program}: {printable(str(error))}", file=sys.stderr, flush=True)
    if isinstance(error, JobTimeout):
        return LATE
    if isinstance(error, JobFailed | SubmitError | AdminError):
        return FAILED
    return UNREACHABLE


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: others chose it."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def log_to_stderr(verbosity: int) -> None:
    """Warnings, with -v what happens, with -vv everything."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    # journald adds time and name itself.
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(level=level, format=f"{stamp}%(levelname)s %(message)s")


def add_servers(parser: ArgumentParser) -> None:
    """Add -h and -p; ``server_names`` reads them."""
    add = parser.add_argument
    add("-h", "--host", action="append", metavar="HOST", help=HOST_HELP)
    add("-p", "--port", type=port_number, metavar="PORT", help="its port (4730)")


def server_names(parser: ArgumentParser, hosts: list[str] | None, port: int | None) -> list[str]:
    """The servers that -h and -p name, else the environment; a usage error if they cannot be."""
    if hosts is None and port is not None:
        hosts = ["localhost"]
    try:
        return [str(server) for server in parse_servers(hosts, port=port or DEFAULT_PORT)]
    except ValueError as error:
        parser.error(str(error))


def positive(text: str) -> int:
    """An argument that is a whole number from 1 up."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def port_number(text: str) -> int:
    """An argument that is a TCP port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _drop_output() -> None:
    """Nobody reads our output: let the interpreter's last flush go nowhere, and quietly."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
