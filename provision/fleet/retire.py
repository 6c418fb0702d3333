"""A host leaves the fleet: drained, and all that deploys put there removed, but its history.

Workers go before job servers. When a job server leaves and others stay, all hosts are deployed
first, so that none knows it any more; then its jobs move to the others. What is left to remove is
asked of the host, so a run that was interrupted is finished by the same command. The last job
server does not leave before those that need it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from provision.errors import InventoryError, ToolkitError
from provision.fleet import pool as hosts
from provision.fleet.begin import NOTHING_CHANGED, begin_changes
from provision.fleet.deploy import change_hosts, tell_retirements
from provision.fleet.desired_state import Roles
from provision.fleet.host_run import HostRun
from provision.fleet.left_behind import refuse_last_server, tell_unserved
from provision.fleet.past_runs import BEGUN
from provision.fleet.run import Connect, Run
from provision.inventory import load as inventory
from provision.inventory.host import Host, Inventory
from provision.options import Options
from provision.release.build import Artifact, named_release
from provision.report.folding import fold_names
from provision.resources.account import FormerAccount
from provision.resources.base import Answers

SERVERS = "job_server"
LEAVING, LEAVING_SERVER = "retired", "retired_server"  # the groups of hosts that leave


class Retirement(Run):
    """A run after which some hosts have no release, and are not known to the others."""

    def _load_inventory(self, folder: Path, limit: str | None) -> Inventory:
        try:
            found = inventory.load(folder, limit)
        except InventoryError as error:
            raise InventoryError(re.sub("^--limit", "retire", str(error))) from None
        self.leaving = {host.name for host in found.hosts}
        self.leaving_hosts = found.hosts  # with their groups
        everyone = tuple(map(self._without_parts, found.everyone))
        changed = replace(found, everyone=everyone)
        servers = any(SERVERS in host.groups for host in found.hosts)
        self.moves_jobs = servers and bool(changed.group(SERVERS))
        chosen = [each for each in everyone if self.moves_jobs or each.name in self.leaving]
        return replace(changed, hosts=tuple(chosen))

    def _without_parts(self, host: Host) -> Host:
        if host.name not in self.leaving:
            return host
        return replace(
            host, groups=frozenset({LEAVING_SERVER if SERVERS in host.groups else LEAVING})
        )

    def _choose_artifact(self, host: Host, facts: Answers) -> Artifact:
        if host.name in self.leaving:
            return named_release("none")
        return super()._choose_artifact(host, facts)

    def _needs_fleet(self) -> bool:
        return False  # hosts that stay are all in it, or none is

    @property
    def takes_limit(self) -> bool:
        return False  # it takes names

    @property
    def is_partial(self) -> bool:
        return False


def retire(
    folder: Path, roles: Roles, options: Options, names: str, *, connect: Connect = hosts.connect
) -> int:
    """Take all that is ours off the hosts of these names; ask before. Returns an exit status.

    ``roles``: those of a deploy, and what is left on hosts that leave. Raises
    :class:`ToolkitError`.
    """
    if not names.strip(" ,"):
        raise ToolkitError("retire: name the hosts that leave, comma-separated")
    if "[" in names:  # worker[2:3] would be the third and fourth of a group, and no range of names
        raise ToolkitError("retire: write the names of the hosts out, comma-separated")
    with Retirement(folder, roles, replace(options, limit=names), connect) as run:

        def prepare() -> int | None:
            run.plan_hosts()
            refused = refuse_last_server(run)
            if not refused:
                tell_unserved(run, run.leaving_hosts)
            tell_retirements(run)
            run.report.recap(run.seconds)
            if refused:
                run.report.say(NOTHING_CHANGED)
                return run.status
            return None if run.pending else run.status

        status = begin_changes(run, "Retire", prepare)
        if status is None:
            for host_run in run.pending:
                if host_run.name in run.leaving:
                    run.record(host_run, result=BEGUN)
            change_hosts(run)
        elif run.pending:
            return status
        gone = [
            each
            for each in run.host_runs
            if each.name in run.leaving and run.is_well(each) and not each.plan.changes
        ]
        if gone:
            _tell_gone(run, gone)
        return run.status


def _tell_gone(run: Run, gone: Sequence[HostRun]) -> None:
    """Of hosts of which nothing is left to remove, with the accounts that something else needs."""
    stays = False
    for host_run in gone:
        for account in host_run.resources:
            if isinstance(account, FormerAccount) and account.is_there(host_run.answers):
                stays = True
                why = "; ".join(account.remaining_traces(host_run.answers))
                run.report.say(f"{host_run.name}: user {account.name} stays: {why}")
    nothing, them = ("nothing else" if stays else "nothing"), ("them" if len(gone) > 1 else "it")
    listed = fold_names([each.name for each in gone])
    run.report.say(f"{nothing} of ours is left on {listed}: delete {them} from the inventory")
    if len(gone) == len(run.inventory.everyone):
        run.report.say("no host of this inventory has Gearman any more")
