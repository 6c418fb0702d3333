"""Job servers that are changed: one at a time, and tried before the one that runs is touched.

A mistake in the settings of a database would otherwise take all job servers down at once, and one
that is restarted while its database is down would not even serve foreground jobs.
"""

from provision.errors import HostFailed
from provision.fleet.health_check import Unhealthy, check_queue, server_units
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.resources.unit import Unit


def changes_server(host_run: HostRun) -> bool:
    """Whether its plan changes what a job server runs with that was deployed before."""
    return host_run.before[""] is not None and bool(server_units(host_run))


def try_server(host_run: HostRun) -> None:
    """As :func:`check_server`, for a deploy."""
    try:
        check_server(host_run)
    except Unhealthy:
        host_run.rolled_back = "given up, before its job server was touched"
        raise


def try_switch(run: Run, host_run: HostRun) -> None:
    """As :func:`check_server`, for an upgrade; one that fails so is written down.

    Nothing is to be put back then: to restart what runs would end what it can still do.
    """
    try:
        check_server(host_run)
    except HostFailed as error:
        run.record(host_run, error)
        raise


def check_server(host_run: HostRun) -> None:
    """Have the database of its queue checked, if there is one. Raises :class:`HostFailed`.

    What comes before the job server in the host's plan is applied: its password, for one.
    """
    units = _changed_units(host_run)
    if units:
        touched = [(each.name, each.file.path, each.current.path) for each in units]
        host_run.apply_before(frozenset().union(*touched))
        check_queue(host_run)


def serves_before(host_run: HostRun) -> bool:
    """Whether its plan changes a job server that runs: one that does not has nothing to lose."""
    states = (host_run.answers["unit", each.name] for each in _changed_units(host_run))
    return any(each and each["active"] in ("active", "reloading") for each in states)


def _changed_units(host_run: HostRun) -> list[Unit]:
    names = server_units(host_run)
    return [each for each in host_run.resources if isinstance(each, Unit) and each.name in names]
