"""What runs where: the answers of one probe, with nothing planned to be done about them."""

from pathlib import Path

from provision.fleet import pool as hosts
from provision.fleet.deploy import DEFAULT
from provision.fleet.desired_state import Roles
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.options import Options
from provision.report.events import Event, Standing
from provision.resources.former_units import FormerUnits
from provision.resources.release import Release
from provision.resources.unit import Unit


def status(folder: Path, roles: Roles, options: Options = DEFAULT) -> int:
    """Show each host's release and units. Returns 0 when every host could be asked."""
    with Run(folder, roles, options, hosts.connect) as run:
        run.plan_hosts(_release_and_units)
        run.report.recap(run.seconds)
        return run.status


def _release_and_units(host_run: HostRun) -> Event:
    answers = host_run.answers
    roots = dict.fromkeys(each.root for each in host_run.resources if isinstance(each, Release))
    own, *apps = [answers["releases", root]["current"] for root in roots] or [None]
    units = {
        unit.name: answers["unit", unit.name] or {"active": "absent"}
        for unit in host_run.resources
        if isinstance(unit, Unit)
    }
    for former in host_run.resources:
        if isinstance(former, FormerUnits):
            found = former.former_units(answers).items()
            units |= {name: {"active": "active"} for name, state in found if state["active"]}
    pending = len(host_run.plan.changes)
    used = tuple(filter(None, apps))
    return Standing(host_run.host.name, own or "none", units, pending, used)
