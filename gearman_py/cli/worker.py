"""gearman-worker: serve functions until a signal."""

import faulthandler
import importlib
import os
import shutil
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from gearman_py.cli.common import (
    FAILED,
    OK,
    USAGE,
    log_to_stderr,
    parse_servers_option,
    run_command_line,
)
from gearman_py.cli.run_command import CommandFailed, run_command
from gearman_py.cli.worker_options import command_parser
from gearman_py.config import as_words, read_table
from gearman_py.functions import BUNDLED, NEED_EXTRAS, load_function
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.worker import reload
from gearman_py.worker.author_traceback import format_author_error
from gearman_py.worker.job import Outcome, WorkerJob
from gearman_py.worker.validation import imported_module
from gearman_py.worker.worker import Worker

# Options that are settings of Worker with the same name.
_SETTINGS = (
    *("client_id", "address", "concurrency", "processes", "timeout", "drain_timeout"),
    *("max_jobs", "max_jobs_per_child", "max_memory_per_child", "max_packet"),
    "burst",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve functions until a signal; return the exit status."""
    parser = command_parser()
    words, argv = _split_command(sys.argv[1:] if arguments is None else arguments)
    options = _parse_options(parser, words)
    if options.reload is not None:
        return _reload_worker(options.reload)
    # Before the module is loaded: it may log something, or hang.
    log_to_stderr((options.verbose or 0) + 1, options.log_format)
    faulthandler.register(signal.SIGUSR1)
    worker = _make_worker(parser, options, argv)
    return run_command_line("gearman-worker", lambda: _run_worker(parser, worker, options))


def _split_command(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The arguments for us, and the command after `--`."""
    if "--" not in arguments:
        return arguments, ()
    middle = list(arguments).index("--")
    return arguments[:middle], arguments[middle + 1 :]


def _parse_options(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """The options of the command line, and others from the file of --config."""
    options = parser.parse_args(arguments)
    if options.config is not None:
        try:
            table = read_table(options.config)
            functions = table.pop("functions", [])
            if unknown := [key for key in table if not hasattr(options, key.replace("-", "_"))]:
                raise ValueError(f"{options.config}: unknown option {unknown[0]!r}")
        except ValueError as error:
            parser.error(str(error))
        written = parser.parse_args([*as_words(table), *functions])
        for name, value in vars(written).items():
            if getattr(options, name) in (None, []):
                setattr(options, name, value)
    if not options.functions and options.reload is None:
        parser.error("nothing to serve: expected a FUNCTION or MODULE:OBJECT")
    return options


def _log_outcome(job: WorkerJob, outcome: Outcome) -> None:
    facts = {"outcome": outcome.how, "seconds": round(outcome.seconds, 6)}
    job.log.info("%s after %.3f s", outcome.how, outcome.seconds, extra=facts)


def _make_worker(parser: ArgumentParser, options: Namespace, argv: Sequence[str]) -> Worker:
    named = [*(options.host or []), *([options.servers] if options.servers else [])]
    settings = {name: getattr(options, name) for name in _SETTINGS}
    settings = {name: value for name, value in settings.items() if value is not None}
    own = [] if argv else [name for name in dict.fromkeys(options.functions) if ":" in name]
    if len(own) > 1:
        parser.error(f"{own[1]!r}: only one MODULE:OBJECT per process")
    if options.only and not own:
        parser.error("--only is for MODULE:OBJECT: without it each FUNCTION is named anyway")
    if options.retries and not argv:
        parser.error("--retries is for a COMMAND: functions have retries of their own")
    worker = _load_worker(parser, own[0]) if own else _bundled_worker(parser, options)
    for name in dict.fromkeys(options.functions):
        if argv:
            _add_command(parser, worker, name, argv, options)
        elif name not in own:
            _add_bundled(parser, worker, name)
    tls = options.ssl or options.ssl_ca_file or options.ssl_certificate or options.ssl_key
    if named or options.port or tls:
        settings["servers"] = parse_servers_option(parser, options, named)
    if own:
        only = dict.fromkeys(options.only.split(",")) if options.only else {}
        settings |= {"prefix": options.prefix or "", "functions": list(only)}
    if options.log_jobs:
        worker.on_outcome(_log_outcome)
    try:
        worker.configure(**settings)
        for name in filter(None, (options.trial, options.ping)):
            worker.add_ping(name, alone=name == options.trial)
    except ValueError as error:
        _refuse(parser, str(error))
    return worker


def _bundled_worker(parser: ArgumentParser, options: Namespace) -> Worker:
    return Worker(parse_servers_option(parser, options), prefix=options.prefix or "")


def _load_worker(parser: ArgumentParser, target: str) -> Worker:
    """The Worker named MODULE:OBJECT; modules in the current directory are found too."""
    name, _, path = target.partition(":")
    if "/" in name or name.endswith(".py"):
        dotted = ".".join(Path(name).with_suffix("").parts)
        _refuse(parser, f"{target!r} is not MODULE:OBJECT; did you mean '{dotted}:{path}'?")
    sys.path.insert(0, os.getcwd())
    importing = imported_module.set(name)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and name.startswith(missing):
            _refuse(parser, f"{target!r}: no module {missing!r} found from {os.getcwd()}")
        sys.stderr.write(format_author_error(error))
        _refuse(parser, f"{target!r} cannot be loaded: {error}")
    finally:
        imported_module.reset(importing)
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            workers = [key for key, value in vars(module).items() if isinstance(value, Worker)]
            near = get_close_matches(path, workers, n=1) or workers[:1]
            hint = f"; did you mean {near[0]!r}?" if near else ""
            _refuse(parser, f"{target!r}: {name} has no {path!r}{hint}")
        found = getattr(found, part)
    if not isinstance(found, Worker):
        _refuse(parser, f"{target!r} is {type(found).__name__}, not a gearman_py.Worker")
    return found


def _refuse(parser: ArgumentParser, problem: str) -> NoReturn:
    """End with what is wrong with a worker's code; the usage would not help."""
    parser.exit(USAGE, f"{parser.prog}: error: {problem}\n")


def _add_bundled(parser: ArgumentParser, worker: Worker, name: str) -> None:
    if name not in BUNDLED:
        module = name.removesuffix(".py")
        if Path(f"{module}.py").is_file():
            _refuse(parser, f"the worker in {module}.py is '{module}:NAME', as in {module}:worker")
        near = get_close_matches(name, BUNDLED, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(BUNDLED)}"
        parser.error(f"unknown bundled function {name!r}; {hint}")
    try:
        worker.add_function(name, load_function(name), workload=True)
    except ImportError as error:
        extra = f"[{name}]" if name in NEED_EXTRAS else ""
        cure = f"pip install 'gearman_py{extra}'" if extra else "install gearman_py again"
        _refuse(parser, f"{name} cannot be served here: {error}: {cure}")


def _add_command(
    parser: ArgumentParser, worker: Worker, name: str, argv: Sequence[str], options: Namespace
) -> None:
    if shutil.which(argv[0]) is None:
        _refuse(parser, f"command not found: {argv[0]!r}")
    try:
        retries = options.retries or 0
        command = partial(run_command, argv, options.max_packet or MAX_PACKET, retries)
        worker.add_function(name, command, retries=retries, retry_on=CommandFailed)
    except ValueError as error:
        parser.error(str(error))


def _run_worker(parser: ArgumentParser, worker: Worker, options: Namespace) -> int:
    try:
        return worker.run(metrics_file=options.metrics_file, metrics_listen=options.metrics_listen)
    except ValueError as error:
        _refuse(parser, str(error))


def _reload_worker(pid: int) -> int:
    try:
        failure = reload.request_reload(pid)
    except ProcessLookupError:
        failure = f"process {pid} does not exist"
    except PermissionError:
        failure = f"process {pid} belongs to another user"
    except OSError as error:
        failure = f"worker {pid} is already reloading ({error.strerror})"
    if failure is None:
        return OK
    print(f"gearman-worker: reload failed: {failure}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
