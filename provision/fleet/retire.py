"""A host leaves the fleet: drained, and all that deploys put there removed, but its history.

Workers go before job servers. What is left to remove is asked of the host, so a run that was
interrupted is finished by the same command.
"""

from dataclasses import replace
from pathlib import Path

from provision.build import Artifact, named_release
from provision.errors import ToolkitError
from provision.fleet import pool as hosts
from provision.fleet.deploy import CHANGES_PENDING, apply_if_confirmed
from provision.fleet.desired_state import Roles
from provision.fleet.run import Connect, Run
from provision.inventory.host import Host
from provision.options import Options
from provision.resources.base import Answers


class Retirement(Run):
    """A run after which hosts have no release."""

    def _choose_artifact(self, host: Host, facts: Answers) -> tuple[Artifact, bool]:
        return named_release("none"), False

    def _needs_fleet(self) -> bool:
        return False


def retire(
    folder: Path, roles: Roles, options: Options, names: str, *, connect: Connect = hosts.connect
) -> int:
    """Take all that is ours off the hosts of these names; ask before. Returns an exit status.

    ``roles``: what is left on a host of each group. Raises :class:`ToolkitError`.
    """
    if not names.strip(" ,"):
        raise ToolkitError("retire: name the hosts that leave, comma-separated")
    with Retirement(folder, roles, replace(options, limit=names), connect) as run:
        run.plan_hosts()
        run.report.recap(run.seconds)
        if run.pending and not apply_if_confirmed(run, "Retire"):
            return run.status or CHANGES_PENDING
        gone = [each for each in run.host_runs if run.is_well(each)]
        if gone:
            listed = ", ".join(each.name for each in gone)
            run.report.say(f"nothing of ours is left on {listed}: delete it from the inventory")
        if any("job_server" in each.host.groups for each in gone):
            run.report.say("then deploy: workers and clients still know its job server")
        return run.status
