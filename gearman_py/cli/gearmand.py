"""gearmand: the job server as a command.

Exit status 0: stopped by a signal; 1: it could not start, as in the C gearmand, or its durable
queue failed in a way that requires a restart.
"""

import contextlib
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from gearman_py import __version__
from gearman_py.c_queue.base import SourceError, Unreadable
from gearman_py.c_queue.source import StoredQueue
from gearman_py.cli.common import leave_terminal
from gearman_py.cli.successor import SuccessorReport, fork_server, take_over, without_reload
from gearman_py.log_format import make_formatter
from gearman_py.net.tls import TLSError
from gearman_py.printable import printable
from gearman_py.server import lifecycle, listening
from gearman_py.server.import_queue import STOP_SIGNALS, QueueImport
from gearman_py.server.log_file import LogFile
from gearman_py.server.option_fields import LEVELS
from gearman_py.server.options import UsageError, parse
from gearman_py.server.reload_channel import ReloadError
from gearman_py.server.settings import Settings
from gearman_py.server.stores import check_files, check_queue, open_store
from gearman_py.store.base import StoreError

RUN_AGAIN = "run the same command again to import the rest"
LOG_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # by the number of -v


class ImportInterrupted(BaseException):
    """A signal ended an import; no handler of errors is to catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job server until a signal stops it; return its exit status.

    With --daemon, the command ends once the server can be reached, or with the reason it cannot.
    """
    report: SuccessorReport | None = None
    try:
        settings = parse(arguments, __version__)
        if settings.reload:
            return _reload(settings, sys.argv[1:] if arguments is None else arguments)
        for note in settings.without_effect:
            print(f"gearmand: {note}", file=sys.stderr)
        if settings.check_args:
            return _check_files(settings)
        if settings.check_queue:
            return _check_queue(settings)
        if settings.import_from:
            return _import_queue(settings)
        if settings.file_descriptors:
            lifecycle.allow_descriptors(settings.file_descriptors)
        tls = settings.tls.server_context() if settings.tls else None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, partial(_stop_early, settings))
        doors = listening.open_sockets(settings)
        if settings.user:
            lifecycle.become_user(settings.user, doors)
        _configure_logging(settings)
        if settings.daemon:
            outcome = fork_server("")
            if isinstance(outcome, int):
                return outcome
            report = outcome
            leave_terminal()
        if settings.pid_file:
            _write_pid(Path(settings.pid_file))
    except (UsageError, listening.StartError, TLSError) as error:
        _print_error(error, report)
        if isinstance(error, UsageError):
            print("Try 'gearmand --help'.", file=sys.stderr)
        return 1
    try:
        return lifecycle.serve(settings, doors, tls, on_ready=report.tell if report else None)
    except listening.StartError as error:
        _print_error(error, report)
        if settings.log_file != "stderr":
            logging.getLogger("gearmand").critical("%s", error)
        for door in doors:
            door.turn_away()
        return 1
    finally:
        _clean_up(settings, doors)


def _stop_early(settings: Settings, number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal until the server does: while it waits for a port, or reads a queue.

    Whoever waits for --daemon to serve must not take this for success.
    """
    print(f"gearmand: {signal.Signals(number).name}: stopped before it served", file=sys.stderr)
    raise SystemExit(128 + number if settings.daemon else 0)


def _print_error(error: Exception, report: SuccessorReport | None) -> None:
    print(f"gearmand: {printable(str(error))}", file=sys.stderr)
    if report is not None:  # this process has left its terminal
        report.tell(str(error))


def _clean_up(settings: Settings, doors: Sequence[listening.ListeningSocket]) -> None:
    for door in doors:
        door.close()
    if settings.pid_file:
        with contextlib.suppress(OSError, ValueError):  # another may have written its number
            if int((path := Path(settings.pid_file)).read_text()) == os.getpid():
                path.unlink()


def _reload(settings: Settings, arguments: Sequence[str]) -> int:
    """Take over from a running server, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C ends the command alone, without a traceback
    report = fork_server("not reloaded: ")
    if isinstance(report, int):
        return report
    status = 1
    serving = False

    def begin_serving() -> None:
        nonlocal serving
        serving = True
        if settings.pid_file:
            try:
                _write_pid(Path(settings.pid_file))
            except listening.StartError as error:  # peers must not suffer from that
                logging.getLogger("gearmand").warning("%s", error)
        if takeover is not None:
            takeover.remove_pid_file(settings.pid_file)

    words = without_reload(arguments)
    takeover = None
    try:
        takeover = take_over(settings.reload, begin_serving)
        if not words:
            words = without_reload(takeover.arguments)
            os.chdir(takeover.folder)
        settings = parse(words, __version__)  # with the environment of the running server
        sys.argv[1:] = words
        takeover.check_settings(settings)
        if settings.user:
            lifecycle.check_user(settings.user)
        if settings.pid_file:
            _check_pid_file(Path(settings.pid_file))
        if settings.file_descriptors:
            lifecycle.allow_descriptors(settings.file_descriptors)
        tls = settings.tls.server_context() if settings.tls else None
        _configure_logging(settings)
        status = lifecycle.serve(settings, (), tls, takeover, report.tell)
    except (UsageError, ReloadError, listening.StartError, StoreError, TLSError) as error:
        report.tell(str(error))
        if takeover is not None:
            takeover.refuse(error)
        if settings.log_file != "stderr" and logging.root.handlers:  # where the command says it
            logging.getLogger("gearmand").error("%s", error)
    except Exception as error:
        report.tell(f"{type(error).__name__}: {error}")
        raise
    if serving:
        _clean_up(settings, ())
    return status


def _check_files(settings: Settings) -> int:
    """Read the files that the options name."""
    try:
        if settings.tls:
            settings.tls.server_context()
        check_files(settings)
    except StoreError as error:
        raise listening.StartError(str(error)) from error
    return 0


def _check_queue(settings: Settings) -> int:
    if settings.user:
        lifecycle.become_user(settings.user, ())
    try:
        for fact in check_queue(settings):
            print(f"{fact.state:4}  {printable(fact.text)}", flush=True)
    except StoreError as error:
        raise listening.StartError(str(error)) from error
    print("ok    jobs can be stored and read")
    return 0


def _import_queue(settings: Settings) -> int:
    """Import a C gearmand's queue; the status is 0 if every job was imported."""
    source = StoredQueue.parse(settings.import_from)
    progress = QueueImport(source)
    complete = True

    def report(row: Unreadable) -> None:
        nonlocal complete
        complete = False
        print(f"gearmand: not imported: {row.where}: {row.reason}", file=sys.stderr)

    _configure_logging(settings)
    try:
        source.check_file()
        if settings.user:
            lifecycle.become_user(settings.user, ())
        for number in STOP_SIGNALS:
            signal.signal(number, _interrupt_import)
        store = open_store(settings)
        assert store is not None  # noqa: S101 - the options were checked
        try:
            progress.run(store, report)
        finally:
            store.close()
    except ImportInterrupted as interrupted:
        name = signal.Signals(interrupted.number).name
        print(f"gearmand: {name}: {progress}; {RUN_AGAIN}", file=sys.stderr)
        return 128 + interrupted.number
    except (SourceError, StoreError) as error:
        message = f"--import: {error}" if isinstance(error, SourceError) else str(error)
        if progress.imported:
            message += f"; {progress}; {RUN_AGAIN}"
        raise listening.StartError(message) from error
    print(progress)
    return 0 if complete else 1


def _interrupt_import(number: int, frame: FrameType | None) -> NoReturn:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise ImportInterrupted(number)


def _configure_logging(settings: Settings) -> None:
    verbose = max(settings.verbose, LEVELS.get(settings.level, 0))
    level = LOG_LEVELS[min(verbose, len(LOG_LEVELS) - 1)]
    handler: logging.Handler
    if settings.log_file == "none":
        handler = logging.NullHandler()
    elif settings.log_file == "stderr":
        handler = logging.StreamHandler()
    else:
        try:
            handler = LogFile(settings.log_file)
        except OSError as error:
            raise listening.StartError(
                f"cannot write the log file {settings.log_file}: {error.strerror}"
            ) from error
    handler.setFormatter(make_formatter(settings.log_format))
    also = [_open_syslog()] if settings.syslog else []
    logging.basicConfig(level=level, handlers=[handler, *also])


def _open_syslog() -> logging.Handler:
    try:
        handler = logging.handlers.SysLogHandler("/dev/log")
    except OSError as error:
        raise listening.StartError(f"--syslog: /dev/log: {error.strerror}") from error
    handler.ident = f"gearmand[{os.getpid()}]: "
    return handler


def _check_pid_file(path: Path) -> None:
    """Raise ReloadError if the file could not be written later."""
    existed = path.exists()
    try:
        path.open("a").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise ReloadError(f"cannot write the pid file {path}: {error.strerror}") from error


def _write_pid(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise listening.StartError(f"cannot write the pid file {path}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
