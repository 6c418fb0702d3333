"""What the commands share: messages and exit statuses, logging, options.

All commands that talk to a server use the same exit statuses: see EXIT_STATUSES.
"""

import io
import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import TextIO

from gearman_py import __version__
from gearman_py.admin.answers import is_wrong_usage
from gearman_py.config import size
from gearman_py.errors import (
    AdminError,
    GearmanError,
    JobFailed,
    JobTimeout,
    SubmitError,
)
from gearman_py.log_format import make_formatter
from gearman_py.net.servers import DEFAULT_PORT, ServerAddress, parse_servers
from gearman_py.net.tls import CA_FILE, CERTIFICATE, KEY, TLS
from gearman_py.printable import printable
from gearman_py.protocol.codec import MAX_PACKET

OK, FAILED, USAGE, UNREACHABLE, LATE, PARTIAL = range(6)
INTERRUPTED = 130  # as a shell shows SIGINT
BROKEN_PIPE = 141  # as a shell shows SIGPIPE, for a filter whose reader has left

HOST_HELP = (
    "job server, as HOST, HOST:PORT, gearmans://HOST or unix:PATH; may be repeated "
    "($GEARMAN_SERVER or $GEARMAN_SERVERS, else /etc/gearman/environment, else localhost)"
)
EXIT_STATUSES = """\
exit status:
  0  done
  1  a job failed, the server refused it, the output could not be written,
     or a worker was stopped during a job
  2  the command line is wrong
  3  no server answers, or the connection was lost
  4  timed out
  5  gearadmin: not all job servers answered; the others did
130  interrupted by ^C
141  the reader of the output left, such as head
"""


def run_command_line(program: str, main: Callable[[], int]) -> int:
    """Run ``main``; report errors as ``program: message`` and return the exit status."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader left, as head does
        _drop_output()
        return BROKEN_PIPE
    except GearmanError as error:
        return report_error(program, error)
    except OSError as error:  # of standard input or output: those of connections are GearmanErrors
        _drop_output()
        print(f"{program}: input or output: {error.strerror or error}", file=sys.stderr)
        return FAILED
    return status


def open_standard_streams() -> None:
    """Make output complete, or fail with an OSError.

    Closed streams are opened: otherwise a socket gets their number and is printed to. Output to a
    closed stdout fails as it would elsewhere; what goes to a closed stderr is discarded.
    With PYTHONUNBUFFERED, Python's streams lose what does not fit at once, and report success.
    Characters that the encoding of the terminal lacks are printed as escapes.
    """
    for number, name, mode, flags in (
        (0, "stdin", "r", os.O_RDONLY),
        (1, "stdout", "w", os.O_RDONLY),  # writing to it is an error
        (2, "stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            os.open(os.devnull, flags)  # takes the lowest number: this one
            setattr(sys, name, open(number, mode))  # noqa: SIM115  open until the process ends
    sys.stdout, sys.stderr = _buffered(sys.stdout), _buffered(sys.stderr)
    vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)  # curses uses them
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _buffered(stream: TextIO) -> TextIO:
    """The stream, with a buffer that writes all it is given; flushed after each line."""
    if not (isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.RawIOBase)):
        return stream
    encoding, errors = stream.encoding, stream.errors
    buffer = io.BufferedWriter(stream.detach())
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=True)


def detach_process(*, keep_input: bool = False) -> None:
    """Continue in a child process in its own session, without output; the parent exits with 0."""
    sys.stdout.flush()
    if os.fork():
        os._exit(OK)
    os.setsid()
    leave_terminal(keep_input=keep_input)


def leave_terminal(*, keep_input: bool = False) -> None:
    """Read and write nothing from now on."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2) if keep_input else (0, 1, 2):
        os.dup2(null, descriptor)


def report_error(program: str, error: Exception) -> int:
    """Print the error on stderr, after pending output; return the exit status for it."""
    sys.stdout.flush()
    print(f"{program}: {printable(str(error))}", file=sys.stderr, flush=True)
    if isinstance(error, JobTimeout):
        return LATE
    if is_wrong_usage(error):
        return USAGE
    if isinstance(error, JobFailed | SubmitError | AdminError):
        return FAILED
    return UNREACHABLE


def log_to_stderr(verbosity: int, log_format: str | None = None) -> None:
    """Log warnings; with -v also information, with -vv everything."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(log_format))
    logging.basicConfig(level=level, handlers=[handler])


def add_servers(parser: ArgumentParser) -> None:
    """Add -h and -p; ``parse_servers_option`` reads them and those of ``add_tls``."""
    add = parser.add_argument
    add("-h", "--host", action="append", metavar="HOST", help=HOST_HELP)
    add("-p", "--port", type=port_number, metavar="PORT", help="default port (4730)")


def add_tls(parser: ArgumentParser) -> None:
    """Add -S and the options for its files."""
    add = parser.add_argument_group("TLS (the same as gearmans://HOST)").add_argument
    add("-S", "--ssl", action="store_const", const=True, help="use TLS")
    for flag, what, (variable, usual) in (
        ("--ssl-ca-file", "certificate of the CA", CA_FILE),
        ("--ssl-certificate", "client certificate", CERTIFICATE),
        ("--ssl-key", "client private key", KEY),
    ):
        add(flag, metavar="FILE", help=f"{what} (${variable}, else {usual})")


def add_max_packet(add: Callable[..., object]) -> None:
    """Add --max-packet."""
    text = f"maximum size of a packet, such as 250M ({MAX_PACKET // 2**20}M)"
    add("--max-packet", type=packet_size, metavar="SIZE", help=text)


def add_help(parser: ArgumentParser) -> None:
    """Add --version and -H."""
    version = f"{parser.prog} {__version__}"
    parser.add_argument("--version", action="version", version=version, help="show it and exit")
    parser.add_argument("-H", "--help", action="help", help="show this and exit")


def parse_servers_option(
    parser: ArgumentParser, options: Namespace, hosts: list[str] | None = None
) -> list[ServerAddress]:
    """The servers from -h (or ``hosts``), else the environment; a usage error if invalid.

    -p is the default port. The C tool reads $GEARMAN_SERVER; the other tools and libraries read
    $GEARMAN_SERVERS.
    """
    named = hosts or options.host or os.environ.get("GEARMAN_SERVER") or None
    try:
        return parse_servers_of(options, named)
    except ValueError as error:
        parser.error(str(error))


def parse_servers_of(options: Namespace, named: str | list[str] | None) -> list[ServerAddress]:
    """These servers, with the port and the files of the options. Raises ValueError."""
    files = (options.ssl_ca_file, options.ssl_certificate, options.ssl_key)
    tls = TLS.of_client(*files) if options.ssl or any(files) else None
    return parse_servers(named, port=options.port or DEFAULT_PORT, tls=tls)


def positive_int(text: str) -> int:
    """Parse a positive integer."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def process_count(text: str) -> int | tuple[int, int]:
    """A number of processes, or the least and the most of them, as in 2-8."""
    least, dash, most = text.partition("-")
    try:
        if not dash:
            return positive_int(text)
        if positive_int(least) <= positive_int(most):
            return int(least), int(most)
    except ArgumentTypeError:
        pass
    raise ArgumentTypeError(f"{text!r} is not a number of processes; expected N, or MIN-MAX")


def memory_size(text: str) -> int:
    """Parse a number of bytes, or 200M."""
    try:
        found = size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if not found:
        raise ArgumentTypeError(f"{text!r} is not a size: expected more than 0")
    return found


def packet_size(text: str) -> int:
    """Parse the size of a packet, which has 32 bits in its header."""
    if (found := memory_size(text)) >= 2**32:
        raise ArgumentTypeError(f"{text!r} is too large for a packet: expected less than 4G")
    return found


def time_limit(text: str) -> int | None:
    """Parse a limit in milliseconds; a negative one means no limit, as in C."""
    if text.startswith("-") and text[1:].isdecimal():
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return int(text)


def utf8_text(word: str) -> str:
    """Parse text, which is UTF-8 on the wire whatever the locale."""
    try:
        return os.fsencode(word).decode()
    except UnicodeDecodeError:
        raise ArgumentTypeError(f"'{printable(word)}' is not text in UTF-8") from None


def port_number(text: str) -> int:
    """Parse a TCP port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _drop_output() -> None:
    """Discard what is left to write, so that the interpreter's last flush does not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
