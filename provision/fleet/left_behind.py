"""What hosts that stay would miss once others have left: the last job server, a function's worker.

By the inventory: workers that it does not have are not counted.
"""

from collections.abc import Collection

from provision.errors import HostFailed
from provision.fleet.run import Run
from provision.inventory.drained import DRAINED, serving_hosts
from provision.inventory.host import Host
from provision.inventory.workers import workers
from provision.invoke_line import invoke_line
from provision.report.folding import fold_names

SERVERS = "job_server"


def staying_hosts(run: Run) -> list[Host]:
    """Those of the inventory that do not leave."""
    return [host for host in run.inventory.everyone if host.name not in run.leaving]


def refuse_last_server(run: Run) -> bool:
    """Whether job servers would be closed, and others go on without any; told as their failure."""
    staying = staying_hosts(run)
    closing = [each for each in run.host_runs if run.is_well(each) and each.closes_server]
    if not staying or {host.name for host in serving_hosts(run.inventory)} - {*run.leaving}:
        return False
    for host_run in closing:
        run.fail(host_run.name, HostFailed(_explain_last(run, staying)))
    return bool(closing)


def _explain_last(run: Run, staying: Collection[Host]) -> str:
    drained = [host.name for host in staying if DRAINED in host.groups]
    if drained:
        undrain = invoke_line("undrain", ",".join(drained))
        return f"it is the last job server that is not drained: `{undrain}` first, then retire it"
    them = [host.name for host in staying]
    everyone = ",".join([*sorted(run.leaving), *them])
    return (
        f"it is the last job server, and {fold_names(them)} would have none: put another host into "
        "group job_server and deploy first; or, to give Gearman up on all of them, "
        f"`{invoke_line('retire', everyone)}`"
    )


def tell_unserved(run: Run, leaving: Collection[Host]) -> None:
    """Which functions no host serves any more without the workers of ``leaving``."""
    staying = staying_hosts(run)
    left = {each for host in staying for worker in workers(host) for each in worker.functions}
    due = {each.name for each in run.pending if each.plan.changes}
    gone = {
        function
        for host in leaving
        if host.name in due
        for worker in workers(host)
        for function in worker.functions
    }
    if staying and (unserved := sorted(gone - left)):
        names = ", ".join(unserved)
        run.report.say(
            f"! no other host of the inventory has a worker for {names}: jobs for "
            f"{'it' if len(unserved) == 1 else 'them'} will wait until one has"
        )
