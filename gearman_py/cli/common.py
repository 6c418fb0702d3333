"""What the commands share: messages and exit statuses, logging, and a calm end.

Exit statuses, the same for every command that talks to a server: see EXIT_STATUSES.
"""

import io
import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable

from gearman_py import __version__
from gearman_py.config import size
from gearman_py.errors import (
    AdminError,
    GearmanError,
    JobFailed,
    JobTimeout,
    SubmitError,
)
from gearman_py.net.servers import DEFAULT_PORT, Server, parse_servers
from gearman_py.net.tls import CA_FILE, CERTIFICATE, KEY, TLS
from gearman_py.printable import EntryFormatter, printable
from gearman_py.protocol.codec import MAX_PACKET

OK, FAILED, USAGE, UNREACHABLE, LATE = range(5)
INTERRUPTED = 130  # as a shell shows SIGINT
BROKEN_PIPE = 141  # as a shell shows SIGPIPE, for a filter whose reader has left

HOST_HELP = (
    "job server, as HOST, HOST:PORT, gearmans://HOST or unix:PATH; may be repeated "
    "($GEARMAN_SERVER or $GEARMAN_SERVERS, else localhost)"
)
EXIT_STATUSES = """\
exit status:
  0  done
  1  a job failed, the server refused it, the output could not be written,
     or a worker was ended with a job in hand
  2  the command line is wrong
  3  no server answers, or the connection to it was lost
  4  it did not end in time
130  ended by ^C
141  whoever read the output stopped reading, as head does
"""


def command(program: str, main: Callable[[], int]) -> int:
    """Run ``main``; turn what goes wrong into ``program: message`` and an exit status."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who reads it, as head does, has had enough
        _drop_output()
        return BROKEN_PIPE
    except GearmanError as error:
        return complain(program, error)
    except OSError as error:  # of our own input or output: a connection's are GearmanErrors
        _drop_output()
        print(f"{program}: input or output: {error.strerror or error}", file=sys.stderr)
        return FAILED
    return status


def open_standard_streams() -> None:
    """Let closed ones be /dev/null: else a socket gets their number, and is printed to.

    What the terminal's encoding lacks is printed as an escape.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one
            setattr(sys, name, open(number, mode))  # noqa: SIM115  it lives as long as we
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def detach(*, keep_input: bool = False) -> None:
    """Go on in a child of its own session, which prints nothing; the parent ends with 0."""
    sys.stdout.flush()
    if os.fork():
        os._exit(OK)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2) if keep_input else (0, 1, 2):
        os.dup2(null, descriptor)


def complain(program: str, error: Exception) -> int:
    """Say on stderr what went wrong, after what was already printed; the exit status for it."""
    sys.stdout.flush()
    print(f"{program}: {printable(str(error))}", file=sys.stderr, flush=True)
    if isinstance(error, JobTimeout):
        return LATE
    if isinstance(error, JobFailed | SubmitError | AdminError):
        return FAILED
    return UNREACHABLE


def log_to_stderr(verbosity: int) -> None:
    """Warnings, with -v what happens, with -vv everything."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    # journald adds time and name itself.
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    handler = logging.StreamHandler()
    handler.setFormatter(EntryFormatter(f"{stamp}%(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def add_servers(parser: ArgumentParser) -> None:
    """Add -h and -p; ``servers`` reads them, and those of ``add_tls``."""
    add = parser.add_argument
    add("-h", "--host", action="append", metavar="HOST", help=HOST_HELP)
    add("-p", "--port", type=port_number, metavar="PORT", help="its port (4730)")


def add_tls(parser: ArgumentParser) -> None:
    """Add -S and the files that go with it."""
    add = parser.add_argument_group("TLS (as gearmans://HOST)").add_argument
    add("-S", "--ssl", action="store_const", const=True, help="speak TLS with the job server")
    for flag, what, (variable, usual) in (
        ("--ssl-ca-file", "the CA's certificate", CA_FILE),
        ("--ssl-certificate", "our certificate", CERTIFICATE),
        ("--ssl-key", "our private key", KEY),
    ):
        add(flag, metavar="FILE", help=f"{what} (${variable}, else {usual})")


def add_max_packet(add: Callable[..., object]) -> None:
    """Add --max-packet."""
    text = f"the most bytes of a packet, such as 250M ({MAX_PACKET // 2**20}M)"
    add("--max-packet", type=packet_size, metavar="SIZE", help=text)


def add_help(parser: ArgumentParser) -> None:
    """Add --version and -H."""
    version = f"{parser.prog} {__version__}"
    parser.add_argument("--version", action="version", version=version, help="show it and leave")
    parser.add_argument("-H", "--help", action="help", help="show this and leave")


def servers(
    parser: ArgumentParser, options: Namespace, hosts: list[str] | None = None
) -> list[Server]:
    """The servers that -h (or ``hosts``) names, else the environment; a usage error if they
    cannot be.

    -p is for those that name no port. $GEARMAN_SERVER is the C tool's own name for the
    environment's list; the other tools and libraries know $GEARMAN_SERVERS.
    """
    named = hosts or options.host or os.environ.get("GEARMAN_SERVER") or None
    files = (options.ssl_ca_file, options.ssl_certificate, options.ssl_key)
    tls = TLS.of_client(*files) if options.ssl or any(files) else None
    try:
        return parse_servers(named, port=options.port or DEFAULT_PORT, tls=tls)
    except ValueError as error:
        parser.error(str(error))


def positive(text: str) -> int:
    """An argument that is a whole number from 1 up."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def memory_size(text: str) -> int:
    """An argument that is a number of bytes, or 200M."""
    try:
        found = size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if not found:
        raise ArgumentTypeError(f"{text!r} is not a size: expected more than 0")
    return found


def packet_size(text: str) -> int:
    """An argument that is a number of bytes that a packet's header can count."""
    if (found := memory_size(text)) >= 2**32:
        raise ArgumentTypeError(f"{text!r} is more than a packet can have: expected less than 4G")
    return found


def milliseconds(text: str) -> int | None:
    """An argument that is a time limit; a negative one is none, as in C."""
    if text.startswith("-") and text[1:].isdecimal():
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return int(text)


def utf8(word: str) -> str:
    """An argument that must be text on the wire: it is UTF-8 there, whatever the locale."""
    try:
        return os.fsencode(word).decode()
    except UnicodeDecodeError:
        raise ArgumentTypeError(f"'{printable(word)}' is not text in UTF-8") from None


def port_number(text: str) -> int:
    """An argument that is a TCP port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _drop_output() -> None:
    """Nobody reads our output: let the interpreter's last flush go nowhere, and quietly."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
