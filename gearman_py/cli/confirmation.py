"""The question that gearadmin asks before it removes jobs."""

import os
import sys
from argparse import Namespace

from gearman_py.admin.client import AdminClient
from gearman_py.cli import failed_jobs
from gearman_py.printable import printable
from gearman_py.protocol.text import printable as printable_bytes

NOTHING_YET = 0.001  # seconds since 1970: no job has failed until then


def may_remove(client: AdminClient, options: Namespace) -> bool:
    """Ask whether to remove jobs, unless there are none or --yes was given.

    Notes in the options until when jobs failed that are discarded. Raises ValueError without a
    terminal.
    """
    for flag in ("purge", "discard-all"):
        if (words := vars(options)[flag]) is None or options.yes:
            continue
        if not sys.stdin.isatty():
            raise ValueError(f"--{flag}: expected --yes, since this is not a terminal")
        (function,) = words
        if flag == "purge":
            number = _count_waiting(client, function)
            jobs = failed_jobs.count_jobs(number, "waiting ")
            what = f"cancel {jobs}, and those that come until you answer"
        else:
            failed = failed_jobs.list_failed(client, function, options.reason)
            number = len(failed)
            options.until = max((job.failed for job in failed), default=NOTHING_YET)
            what = f"discard {failed_jobs.count_jobs(number)} that failed"
        if number and not _ask(client, function, what):
            return False
    return True


def _count_waiting(client: AdminClient, function: str) -> int:
    names = function, printable_bytes(os.fsencode(function)).decode(errors="replace")
    return sum(row.jobs - row.running for row in client.stats() if row.name in names)


def _ask(client: AdminClient, function: str, what: str) -> bool:
    """Ask on the terminal, and tell which job servers did not say what they have."""
    left_out = "; ".join(f"{server}: {why}" for server, why in client.passed_over)
    more = f" ({left_out})" if client.members and left_out else ""
    print(printable(f"{function}: {what}?{more} [y/N] "), end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
