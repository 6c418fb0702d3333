"""gearman-worker: serve functions until told to leave."""

import importlib
import os
import shutil
import sys
import traceback
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from gearman_py import __version__
from gearman_py.cli.common import (
    FAILED,
    HOST_HELP,
    OK,
    add_max_packet,
    add_tls,
    command,
    log_to_stderr,
    memory_size,
    port_number,
    positive,
    servers,
)
from gearman_py.cli.run_command import run_command
from gearman_py.config import as_words, read_table
from gearman_py.functions import BUNDLED, load
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.worker import reload
from gearman_py.worker.worker import Worker

_EPILOG = f"""\
FUNCTION is a bundled one: {", ".join(BUNDLED)};
or MODULE:OBJECT, a gearman_py.Worker with functions of your own. With a COMMAND it is any
name: the command is run once a job, as gearman -w does, up to --concurrency at a time. The
workload is its input, its output the result; what ends with another status than 0 fails.

SIGTERM and ^C drain: jobs in hand are finished, no others are taken. A second one ends the
worker at once; the servers then give its jobs to others. SIGHUP starts a new worker, of
the code as it is then, and drains this one when job servers know that one.

exit status:
  0  drained; with --reload: the new worker has taken over
  1  ended with a job in hand (a second signal, or --drain-timeout); it could not begin;
     with --reload: the new worker did not come up, and the old one goes on
  2  the command line or the configuration file is wrong

examples:
  gearman-worker --host jobs.example.org reverse wc
  gearman-worker --processes 4 --timeout 60 myapp.jobs:worker
  gearman-worker --concurrency 8 --timeout 60 lines -- wc -l
"""
# Options that a worker is configured with under the same name.
_SETTINGS = (
    *("client_id", "address", "concurrency", "processes", "timeout", "drain_timeout"),
    *("max_jobs", "max_jobs_per_child", "max_memory_per_child", "max_packet"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve functions until a signal; return the exit status."""
    parser = command_parser()
    words, argv = _split(sys.argv[1:] if arguments is None else arguments)
    options = _parse(parser, words)
    if options.reload is not None:
        return _reload(options.reload)
    # A daemon's first words belong in its log; a module may have something to say as it loads.
    log_to_stderr((options.verbose or 0) + 1)
    worker = _worker(parser, options, argv)
    return command("gearman-worker", lambda: _run(parser, worker, burst=bool(options.burst)))


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our own words, and the command that stands after `--`."""
    if "--" not in arguments:
        return arguments, ()
    middle = list(arguments).index("--")
    return arguments[:middle], arguments[middle + 1 :]


def _parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """The options given, else those of the file of --config."""
    options = parser.parse_args(arguments)
    if options.config is not None:
        try:
            table = read_table(options.config)
            functions = table.pop("functions", [])
            if unknown := [key for key in table if not hasattr(options, key.replace("-", "_"))]:
                raise ValueError(f"{options.config}: there is no option {unknown[0]!r}")
        except ValueError as error:
            parser.error(str(error))
        written = parser.parse_args([*as_words(table), *functions])
        for name, value in vars(written).items():
            if getattr(options, name) in (None, []):
                setattr(options, name, value)
    if not options.functions and options.reload is None:
        parser.error("say what to serve: the name of a FUNCTION, or MODULE:OBJECT")
    return options


def _worker(parser: ArgumentParser, options: Namespace, argv: Sequence[str]) -> Worker:
    named = [*(options.host or []), *([options.servers] if options.servers else [])]
    settings = {name: getattr(options, name) for name in _SETTINGS}
    settings = {name: value for name, value in settings.items() if value is not None}
    own = [] if argv else [name for name in dict.fromkeys(options.functions) if ":" in name]
    if len(own) > 1:
        parser.error(f"{own[1]!r}: one MODULE:OBJECT at a time, with a process for each")
    if own and options.prefix:
        parser.error(f"--prefix is for bundled functions; {own[0]} says its own")
    worker = _load(parser, own[0]) if own else _bundled(parser, options)
    for name in dict.fromkeys(options.functions):
        if argv:
            _add_command(parser, worker, name, argv, options.max_packet or MAX_PACKET)
        elif name not in own:
            _add(parser, worker, name)
    tls = options.ssl or options.ssl_ca_file or options.ssl_certificate or options.ssl_key
    if named or options.port or tls:
        settings["servers"] = servers(parser, options, named)
    try:
        worker.configure(**settings)
        for name in filter(None, (options.trial, options.ping)):
            worker.add_ping(name, alone=name == options.trial)
    except ValueError as error:
        parser.error(str(error))
    return worker


def _bundled(parser: ArgumentParser, options: Namespace) -> Worker:
    return Worker(servers(parser, options), prefix=options.prefix or "")


def _load(parser: ArgumentParser, target: str) -> Worker:
    """The Worker called MODULE:OBJECT; modules of the current folder are found too."""
    module, _, name = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and module.startswith(missing):
            parser.error(f"{target!r}: there is no module {missing!r} here ({os.getcwd()})")
        traceback.print_exc()  # the fault is in the author's code, and this is where
        parser.error(f"{target!r} cannot be loaded: {error}")
    for part in name.split("."):
        if not hasattr(found, part):
            parser.error(f"{target!r}: {module} has no {name!r}")
        found = getattr(found, part)
    if not isinstance(found, Worker):
        parser.error(f"{target!r} is {type(found).__name__}, not a gearman_py.Worker")
    return found


def _add(parser: ArgumentParser, worker: Worker, name: str) -> None:
    if name not in BUNDLED:
        near = get_close_matches(name, BUNDLED, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(BUNDLED)}"
        parser.error(f"no function {name!r} is bundled; {hint}")
    try:
        worker.add_function(name, load(name), workload=True)
    except ImportError as error:
        parser.error(f"{name} cannot be served here: {error}; install gearman_py[{name}]")


def _add_command(
    parser: ArgumentParser, worker: Worker, name: str, argv: Sequence[str], limit: int
) -> None:
    if shutil.which(argv[0]) is None:
        parser.error(f"there is no command {argv[0]!r}")
    try:
        worker.add_function(name, partial(run_command, argv, limit))
    except ValueError as error:
        parser.error(str(error))


def _run(parser: ArgumentParser, worker: Worker, *, burst: bool) -> int:
    try:
        if burst:
            worker.work()
            return OK
        return worker.run()
    except ValueError as error:
        parser.error(str(error))


def _reload(pid: int) -> int:
    try:
        failure = reload.request(pid)
    except ProcessLookupError:
        failure = f"there is no process {pid}"
    except PermissionError:
        failure = f"process {pid} belongs to somebody else"
    except OSError as error:
        failure = f"worker {pid} is being asked already ({error.strerror})"
    if failure is None:
        return OK
    print(f"gearman-worker: reload failed: {failure}", file=sys.stderr)
    return FAILED


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _limit(text: str) -> float:
    if not (seconds := _seconds(text)):
        raise ArgumentTypeError("a job cannot end within 0 seconds; leave it out for no limit")
    return seconds


def command_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="gearman-worker",
        usage="gearman-worker [option]... FUNCTION...\n"
        "       gearman-worker [option]... FUNCTION... -- COMMAND [ARGUMENT]...\n"
        "       gearman-worker --reload PID",
        description="Serve functions to Gearman job servers.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    add = parser.add_argument
    add("functions", nargs="*", metavar="FUNCTION", help="what to serve; see below")
    add("-h", "--host", action="append", metavar="HOST", help=HOST_HELP)
    add("-p", "--port", type=port_number, metavar="PORT", help="port of hosts given without (4730)")
    add("--servers", metavar="HOST,...", help="the same as one list parted by commas")
    add("--client-id", metavar="ID", help="what servers list this worker as (host:pid)")
    add("--address", metavar="NAME", help="also serve FUNCTION@NAME: jobs for this very worker")
    add("--prefix", metavar="TEXT", help="serve TEXTFUNCTION instead: other jobs than usual")
    add("--ping", metavar="NAME", help="also serve NAME, which answers its workload")
    add("--trial", metavar="NAME", help="serve NAME alone: to try whether this worker can begin")
    group = parser.add_argument_group("how jobs run").add_argument
    group("--concurrency", type=positive, metavar="N", help="N jobs at a time, in threads (1)")
    group("--processes", type=positive, metavar="N", help="N jobs at a time, in processes")
    group("--timeout", type=_limit, metavar="SECONDS", help="stop jobs that take longer (never)")
    group("--max-jobs-per-child", type=positive, metavar="N", help="replace a process after N jobs")
    group(
        *("--max-memory-per-child",),
        type=memory_size,
        metavar="SIZE",
        help="replace a process that holds more after a job, such as 500M",
    )
    add_max_packet(group)
    group = parser.add_argument_group("how it ends").add_argument
    group(
        *("--drain-timeout",),
        type=_seconds,
        metavar="SECONDS",
        help="how long a drain waits for jobs in hand (60)",
    )
    group("--max-jobs", type=positive, metavar="N", help="leave after N jobs")
    group("--burst", action="store_const", const=True, help="leave when there are no jobs left")
    add("--config", type=Path, metavar="FILE", help="read options from FILE.toml (flags win)")
    add("--reload", type=positive, metavar="PID", help="have worker PID reload, and wait for it")
    add("-v", "--verbose", action="count", help="log more")
    add("--version", action="version", version=f"gearman-worker {__version__}")
    add("--help", action="help", help="show this and leave")
    add_tls(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
