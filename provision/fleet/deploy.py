"""A deploy, from its first line to its last: probe -> plan -> apply -> verify. Read this first.

First the release is put on all hosts, where nothing uses it yet. Then hosts are changed group by
group, in the order in which the roles are given. A host that fails, or of which no plan can be
made, stops alone; a group whose hosts have all failed stops the groups after it, for workers
without a job server would come to nothing.
"""

from functools import partial
from pathlib import Path

from provision.fleet import pool as hosts
from provision.fleet.run import Connect, Roles, Run, Site
from provision.options import Options
from provision.report.events import Skipped, Verified

CHANGES_PENDING = 2  # the status of a plan that is not empty
DEFAULT = Options()


def plan(
    folder: Path, roles: Roles, options: Options = DEFAULT, *, connect: Connect = hosts.connect
) -> int:
    """Show what a deploy would change. Returns 0 when nothing, 2 when something."""
    with Run(folder, roles, options, connect) as run:
        run.probe()
        run.report.recap(run.seconds)
        return run.status or (CHANGES_PENDING if run.pending else 0)


def deploy(
    folder: Path, roles: Roles, options: Options = DEFAULT, *, connect: Connect = hosts.connect
) -> int:
    """Make every host as its roles say; ask before, unless told yes. Returns an exit status."""
    with Run(folder, roles, options, connect) as run:
        run.probe()
        run.report.recap(run.seconds)
        if not run.pending:
            return run.status
        if not options.yes and not run.report.confirm(run.question("Apply")):
            return run.status or CHANGES_PENDING
        run.start_clock()
        run.lock()
        apply(run)
        run.report.end(run.seconds)
        return run.status


def apply(run: Run) -> None:
    """Stage everywhere, then change the hosts group by group."""
    sites = {site.name: site for site in run.pending}
    for step in (run.recheck, run.stage):
        run.each((site for site in sites.values() if site.name not in run.failed), step)
    because: list[str] = []  # hosts that stop what comes after them
    for group in run.groups():
        left = [sites[name] for name in group if name in sites and name not in run.failed]
        if because:
            for site in left:
                run.report.show(Skipped(site.name, tuple(because)))
        else:
            run.each(left, partial(_finish, run))
            because = group if run.failed.keys() >= set(group) else []
    for name, site in sites.items():
        if name in run.failed and site.applied:
            run.record(site, run.failed[name])


def _finish(run: Run, site: Site) -> None:
    run.finish(site)
    run.record(site)
    run.report.show(Verified(site.name, run.seconds))
