"""Job servers that a deploy changes: one at a time, and tried before the one that runs is touched.

A mistake in the settings of a database would otherwise take all job servers down at once.
"""

from provision.fleet.health_check import Unhealthy, check_queue, server_units
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.resources.unit import Unit


def changes_server(host_run: HostRun) -> bool:
    """Whether its plan changes what a job server runs with that was deployed before."""
    return host_run.before[""] is not None and bool(server_units(host_run))


def try_server(run: Run, host_run: HostRun) -> None:
    """Have the database of its queue checked, if there is one. Raises :class:`HostFailed`.

    What comes before the job server in the host's plan is applied: its password, for one.
    """
    names = server_units(host_run)
    units = [each for each in host_run.resources if isinstance(each, Unit) and each.name in names]
    if not units:
        return
    touched = [(each.name, each.file.path, each.current.path) for each in units]
    host_run.apply_before(frozenset().union(*touched))
    try:
        check_queue(host_run)
    except Unhealthy as error:
        host_run.rolled_back = "given up, before its job server was touched"
        if not host_run.applied:  # else it is written down with what was changed
            run.record(host_run, error)
        raise
