"""The options of gearman-worker."""

from argparse import (
    ArgumentParser,
    ArgumentTypeError,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable
from pathlib import Path

from gearman_py import __version__
from gearman_py.cli.common import (
    HOST_HELP,
    add_max_packet,
    add_tls,
    memory_size,
    port_number,
    positive_int,
    process_count,
)
from gearman_py.functions import BUNDLED
from gearman_py.log_format import LOG_FORMATS
from gearman_py.option_parser import OptionParser

_EPILOG = f"""\
FUNCTION is a bundled function: {", ".join(BUNDLED)};
or MODULE:OBJECT, a gearman_py.Worker with functions of your own. With COMMAND it is any
name: COMMAND runs once for each job, as with gearman -w, up to --concurrency at a time. The
workload is its input, its output the result; an exit status other than 0 fails the job.

On SIGTERM or ^C the worker drains: it finishes its jobs and takes no others. A second
signal ends it at once; the servers then give its jobs to other workers. On SIGHUP it
starts a new worker with the current code, and drains once that one is registered. On SIGUSR1
it writes each thread's stack to stderr and continues.

exit status:
  0  drained; with --reload: the new worker has taken over
  1  stopped during a job (second signal, --drain-timeout), or it could not start;
     with --reload: the new worker did not start, and the old one continues
  2  the command line or the configuration file is wrong

examples:
  gearman-worker --host jobs.example.org reverse wc
  gearman-worker --processes 4 --timeout 60 myapp.jobs:worker
  gearman-worker --concurrency 8 --timeout 60 lines -- wc -l
"""


def command_parser() -> ArgumentParser:
    """Its options, without what comes after `--`."""
    parser = OptionParser(
        prog="gearman-worker",
        usage="gearman-worker [option]... FUNCTION...\n"
        "       gearman-worker [option]... FUNCTION... -- COMMAND [ARGUMENT]...\n"
        "       gearman-worker --reload PID",
        description="Serve functions to Gearman job servers.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    _add_connection(parser)
    _add_limits(parser.add_argument_group("how jobs run").add_argument)
    _add_endings(parser.add_argument_group("how it ends").add_argument)
    _add_operation(parser)
    add_tls(parser)
    return parser


def _add_connection(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("functions", nargs="*", metavar="FUNCTION", help="what to serve; see below")
    add("-h", "--host", action="append", metavar="HOST", help=HOST_HELP)
    add("-p", "--port", type=port_number, metavar="PORT", help="default port (4730)")
    add("--servers", metavar="HOST,...", help="the same, as a list separated by commas")
    add("--client-id", metavar="ID", help="name of this worker at the servers (host:pid)")
    add("--address", metavar="NAME", help="also serve FUNCTION@NAME: jobs for this worker")
    add("--prefix", metavar="TEXT", help="serve TEXTFUNCTION instead of FUNCTION")
    add("--only", metavar="NAME,...", help="serve only these functions of MODULE:OBJECT")
    add("--ping", metavar="NAME", help="also serve NAME, which returns its workload")
    add("--trial", metavar="NAME", help="serve only NAME: to test whether this worker starts")


def _add_limits(add: Callable[..., object]) -> None:
    add(
        "--concurrency", type=positive_int, metavar="N", help="run N jobs at a time, in threads (1)"
    )
    add(
        "--processes",
        type=process_count,
        metavar="N",
        help="run N jobs at a time, in processes; 2-8: in as many of 2 to 8 as are needed",
    )
    add("--timeout", type=_time_limit, metavar="SECONDS", help="stop jobs after SECONDS (never)")
    add(
        "--retries",
        type=positive_int,
        metavar="N",
        help="run a COMMAND that failed again, up to N times, after 1 s, 2 s, ...",
    )
    add(
        "--max-jobs-per-child",
        type=positive_int,
        metavar="N",
        help="replace a process after N jobs",
    )
    add(
        "--max-memory-per-child",
        type=memory_size,
        metavar="SIZE",
        help="replace a process that uses more after a job, such as 500M",
    )
    add_max_packet(add)


def _add_endings(add: Callable[..., object]) -> None:
    add(
        "--drain-timeout",
        type=_number_of_seconds,
        metavar="SECONDS",
        help="how long a drain waits for running jobs (60)",
    )
    add("--max-jobs", type=positive_int, metavar="N", help="exit after N jobs")
    add("--burst", action="store_const", const=True, help="exit when no jobs are left")


def _add_operation(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="read options from FILE.toml (flags win)",
    )
    add(
        "--reload",
        type=positive_int,
        metavar="PID",
        help="reload worker PID and wait for it",
    )
    add("-v", "--verbose", action="count", help="log more")
    add(
        "--log-format",
        choices=LOG_FORMATS,
        metavar="FORMAT",
        help="text, or json: an object a line, for machines (text)",
    )
    add("--log-jobs", action="store_const", const=True, help="log how each job ended")
    add(
        "--metrics-file",
        metavar="FILE",
        help="keep metrics in NAME.prom, for the textfile collector of node_exporter",
    )
    add("--metrics-listen", metavar="ADDRESS:PORT", help="answer GET /metrics and /healthz there")
    add("--version", action="version", version=f"gearman-worker {__version__}")
    add("--help", action="help", help="show this and exit")


def _number_of_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _time_limit(text: str) -> float:
    if not (seconds := _number_of_seconds(text)):
        raise ArgumentTypeError("expected more than 0 seconds; omit it for no limit")
    return seconds
