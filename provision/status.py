"""What runs where: the answers of one probe, with nothing planned to be done about them."""

from pathlib import Path

from provision import hosts, inventory
from provision.deploy import Roles, Run, Site
from provision.events import Event, Standing
from provision.resources.release import Release
from provision.resources.unit import Unit


def status(folder: Path, roles: Roles, *, limit: str | None = None) -> int:
    """Show each host's release and units. Returns 0 when every host could be asked."""
    with Run(inventory.load(folder, limit), roles, hosts.connect) as run:
        worst = run.probe(_standing)
        run.report.recap(run.seconds)
        return worst


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
