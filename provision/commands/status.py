"""What runs where: the answers of one probe, with nothing planned to be done about them."""

from pathlib import Path

from provision.fleet import pool as hosts
from provision.fleet.deploy import DEFAULT
from provision.fleet.run import Roles, Run, Site
from provision.options import Options
from provision.report.events import Event, Standing
from provision.resources.release import Release
from provision.resources.unit import Unit


def status(folder: Path, roles: Roles, options: Options = DEFAULT) -> int:
    """Show each host's release and units. Returns 0 when every host could be asked."""
    with Run(folder, roles, options, hosts.connect) as run:
        run.probe(_standing)
        run.report.recap(run.seconds)
        return run.status


def _standing(site: Site) -> Event:
    answers = site.answers
    release = next((each for each in site.resources if isinstance(each, Release)), None)
    current = answers["releases", release.root]["current"] if release else None
    units = {
        unit.name: answers["unit", unit.name] or {"active": "absent"}
        for unit in site.resources
        if isinstance(unit, Unit)
    }
    return Standing(site.host.name, current or "none", units, len(site.plan.changes))
