"""What runs where: the answers of one probe, with nothing planned to be done about them."""

from pathlib import Path

from provision.fleet import pool as hosts
from provision.fleet.deploy import DEFAULT
from provision.fleet.desired_state import Roles
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.fleet.unknown_workers import KnownWorkers
from provision.options import Options
from provision.remote.messages import Unknown
from provision.report.events import Event, Standing
from provision.report.folding import fold_names
from provision.resources.former_units import FormerUnits
from provision.resources.health import ServerHealth, split_server
from provision.resources.release import Release
from provision.resources.unit import Unit


def status(folder: Path, roles: Roles, options: Options = DEFAULT) -> int:
    """Show each host's release and units. Returns 0 when every host could be asked."""
    with Run(folder, roles, options, hosts.connect) as run:
        run.plan_hosts(_release_and_units)
        for host_run in run.host_runs:
            for problem in host_run.plan.problems:
                run.report.say(f"{host_run.name}: {problem.sign} {problem.message}")
        _tell_unknown_workers(run)
        if others := run.inventory.others:
            names = fold_names([each.name for each in others])
            run.report.say(f"not asked, as they are in none of the groups that are ours: {names}")
        run.report.recap(run.seconds)
        planned = {each.name for each in run.host_runs}
        return max((run.failed[name].status for name in run.failed.keys() - planned), default=0)


def _tell_unknown_workers(run: Run) -> None:
    """Which workers are registered at the job servers, and are not the inventory's."""
    servers = [
        (host_run, health.server)
        for host_run in run.host_runs
        for health in host_run.resources
        if isinstance(health, ServerHealth)
    ]
    if not servers:
        return
    addresses = {}
    for host_run in run.host_runs:
        machine = host_run.session.ask([("machine",)])["machine",]
        addresses[host_run.name] = [] if isinstance(machine, Unknown) else machine["addresses"]
    known = KnownWorkers(run.inventory, run.desired, addresses)
    for host_run, server in servers:
        question = ("server", *split_server(server))
        answer = host_run.session.survey([question])[question]
        rows = [] if isinstance(answer, Unknown) else answer.get("registered", [])
        for line in known.strangers(host_run.name, rows):
            run.report.say(f"{host_run.name}: not the inventory's: {line}")


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
