"""Workers that a deploy changes: tried beside those that run, which come back if they do not start.

A change of settings can be as wrong as new code: `run:` with a typing error, too little memory. So
it is tried as an upgrade is, before the unit that runs is touched.
"""

from provision.errors import HostFailed, ToolkitError
from provision.fleet.before_change import Before
from provision.fleet.health_check import (
    NoServer,
    Unhealthy,
    at_former_servers,
    check_changed,
    health_resources,
    server_units,
    started_workers,
    with_evidence,
    worker_units,
)
from provision.fleet.host_run import ChangeFailed, HostRun
from provision.fleet.kept_releases import advise_upgrade
from provision.fleet.release_track import ReleaseTrack
from provision.fleet.run import Run
from provision.report.events import PutBack
from provision.resources.health import WorkerHealth
from provision.resources.kept import as_ran, workers_alone
from provision.resources.unit import Unit


def changes_workers(host_run: HostRun) -> bool:
    """Whether its plan starts workers on a host that has been deployed to before."""
    return host_run.before[""] is not None and bool(started_workers(host_run))


def moves_servers(host_run: HostRun) -> bool:
    """Whether its workers are to serve other job servers than now."""
    return at_former_servers(host_run) != health_resources(host_run)


def runs_workers(host_run: HostRun) -> bool:
    """Whether none is yet to start, which may lack files that come with the job server's."""
    started = started_workers(host_run)
    healths = (each for each in health_resources(host_run) if isinstance(each, WorkerHealth))
    return not any(started.get(each.unit) == "start" for each in healths)


def try_workers(run: Run, host_run: HostRun, before: Before, *, at_former: bool = False) -> None:
    """Have each worker that is to be started tried as it will be. Raises :class:`HostFailed`.

    ``at_former``: at the job servers that it serves, while those that it will serve do not listen;
    one of these may be on the host itself, and stays as it is: there only what a trial needs is
    applied, and elsewhere what comes before workers in the host's plan. If the trial fails, workers
    that an interrupted run has left half changed are put back.
    """
    if at_former and server_units(host_run):
        host_run.apply_for_trial()
    else:
        workers, known = worker_units(host_run), host_run.resources
        units = [each for each in known if isinstance(each, Unit) and each.name in workers]
        touched = [(each.name, each.file.path, each.current.path) for each in units]
        host_run.apply_before(frozenset().union(*touched))
    if host_run.is_tried:  # until these workers change, none is served
        return
    healths = at_former_servers(host_run) if at_former else health_resources(host_run)
    try:
        check_changed(host_run, healths)
        host_run.is_tried = True
    except Unhealthy as error:
        host_run.workers_failed = True
        untouched = "job server or worker" if at_former else "worker"
        host_run.rolled_back = f"given up, before any {untouched} was touched"
        if before.left:
            _put_back(run, host_run, before)
        if advice := advise_upgrade(run, host_run, error.health.unit):
            raise HostFailed(f"{error}\n{advice}") from None
        raise
    except NoServer as error:
        if at_former:  # which an earlier run has moved
            return
        first = str(error).splitlines()[0]
        run.report.say(f"{host_run.name}: not tried before it is changed: {first}")


def change_workers(run: Run, host_run: HostRun, before: Before) -> None:
    """Apply the rest. If that fails it is told, and the workers that ran are put back."""
    try:
        host_run.finish_changes()
    except HostFailed as error:
        host_run.workers_failed = not isinstance(error, ChangeFailed) or error.concerns_unit
        run.fail(host_run.name, with_evidence(host_run, error))
        host_run.rolled_back = "given up: what ran goes on"
        _put_back(run, host_run, before)


def _put_back(run: Run, host_run: HostRun, before: Before) -> None:
    """Bring the workers back that ran, if others are there; ``host_run.rolled_back`` tells."""
    try:
        back = _as_running(run, host_run, before)
        if not back.plan.changes:
            return
        back.apply_all()
    except ToolkitError as error:
        host_run.rolled_back = ""
        run.report.say(f"{host_run.name}: the workers that ran could not be put back: {error}")
        return
    host_run.rolled_back = "rolled back: its workers were put back"
    run.report.show(PutBack(host_run.name, back.release, run.seconds))


def _as_running(run: Run, host_run: HostRun, before: Before) -> HostRun:
    """The host with the workers that ran there, and nothing else."""
    artifact = host_run.artifact
    for app, id in before.used.items():
        if id is not None:
            artifact = ReleaseTrack(app).with_release(artifact, id)
    wanted = run.desired.resources_of(host_run.host, artifact)
    found = workers_alone(as_ran(wanted, before.ran))
    return HostRun(host_run.host, host_run.session, run.report, found, host_run.answers, artifact)
