"""Job servers that a deploy changes: one at a time, and tried before the one that runs is touched.

A mistake in the settings of a database would otherwise take all job servers down at once.
"""

from provision.fleet.health_check import Unhealthy, check_queue, queue_files, server_units
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run


def changes_server(host_run: HostRun) -> bool:
    """Whether its plan changes what a job server runs with that was deployed before."""
    return host_run.before[""] is not None and bool(server_units(host_run))


def try_server(run: Run, host_run: HostRun) -> None:
    """Have the database of its queue checked, if there is one. Raises :class:`HostFailed`.

    What that needs is applied: a CA; a password is staged with the release.
    """
    if not server_units(host_run):
        return
    host_run.apply_first(queue_files(host_run))
    try:
        check_queue(host_run)
    except Unhealthy as error:
        host_run.rolled_back = "given up, before its job server was touched"
        if not host_run.applied:  # else it is written down with what was changed
            run.record(host_run, error)
        raise
