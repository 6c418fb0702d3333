"""gearman-worker: serve functions until told to leave."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from difflib import get_close_matches

from gearman_py import __version__
from gearman_py.cli.common import HOST_HELP, command, log_to_stderr, port_number, server_names
from gearman_py.functions import BUNDLED, load
from gearman_py.worker.worker import Worker

_EPILOG = f"""\
bundled functions: {", ".join(BUNDLED)}

SIGTERM and ^C drain: the job in hand is finished, no other is taken. A second one ends
the worker at once; the server then gives its job to another.

exit status:
  0  drained
  1  ended with a job in hand: a second signal, or --drain-timeout
  2  the command line is wrong

example:
  gearman-worker --host jobs.example.org reverse wc
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve functions until a signal; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    hosts = _hosts(options)
    worker = Worker(server_names(parser, hosts, options.port), drain_timeout=options.drain_timeout)
    for name in dict.fromkeys(options.functions):
        _add(parser, worker, name)
    log_to_stderr(options.verbose + 1)  # a daemon's first words belong in its log
    return command("gearman-worker", worker.run)


def _add(parser: ArgumentParser, worker: Worker, name: str) -> None:
    if ":" in name:
        parser.error(f"{name!r}: MODULE:OBJECT is not served yet, only the bundled functions")
    if name not in BUNDLED:
        near = get_close_matches(name, BUNDLED, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(BUNDLED)}"
        parser.error(f"no function {name!r} is bundled; {hint}")
    try:
        worker.add_function(name, load(name), workload=True)
    except ImportError as error:
        parser.error(f"{name} cannot be served here: {error}; install gearman_py[{name}]")


def _hosts(options: Namespace) -> list[str] | None:
    named = [*(options.host or []), *([options.servers] if options.servers else [])]
    return named or None


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="gearman-worker",
        description="Serve functions to Gearman job servers.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    add = parser.add_argument
    add("functions", nargs="+", metavar="FUNCTION", help="a bundled function")
    add("-h", "--host", action="append", metavar="HOST", help=HOST_HELP)
    add("-p", "--port", type=port_number, metavar="PORT", help="port of hosts given without (4730)")
    add("--servers", metavar="HOST,...", help="the same as one list parted by commas")
    add(
        *("--drain-timeout",),
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a drain waits for the job in hand (60)",
    )
    add("-v", "--verbose", action="count", default=0, help="log more")
    add("--version", action="version", version=f"gearman-worker {__version__}")
    add("--help", action="help", help="show this and leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
