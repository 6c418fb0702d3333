"""One job server takes no jobs, so that its host can be rebooted or mended; and takes them again.

A drained host has a file that says so (provision/inventory/drained.py). While it is there, every
run plans the job server as stopped, and workers' checks pass it over. To drain is to plan it so
before the file is there; to undrain, to plan it as if the file were not. An interrupted run is
finished by the same command. Others take the schedules of the inventory that it has.
"""

from dataclasses import replace
from pathlib import Path

from provision.errors import HostFailed, InventoryError, ToolkitError
from provision.fleet import pool as hosts
from provision.fleet.begin import NOTHING_CHANGED, begin_changes
from provision.fleet.deploy import change_hosts
from provision.fleet.desired_state import Roles
from provision.fleet.run import Connect, Run
from provision.inventory import load as inventory
from provision.inventory.drained import DRAINED
from provision.inventory.host import Host, Inventory
from provision.inventory.schedules import schedules
from provision.invoke_line import invoke_line
from provision.options import Options
from provision.release.build import ON_HOSTS, Artifact
from provision.report.folding import fold_names
from provision.resources.base import Answers, Resource
from provision.resources.schedules import ServerSchedules

SERVERS = "job_server"
LAST = (
    "it is the last job server, so its jobs have nowhere to go: deploy another one first, or "
    "undrain one, or mend one that does not answer"
)


class ServerRun(Run):
    """A run of some job servers, that are then drained or not."""

    drains = True

    def _load_inventory(self, folder: Path, limit: str | None) -> Inventory:
        verb = "drain" if self.drains else "undrain"
        try:
            found = inventory.load(folder, limit)
        except InventoryError as error:
            raise InventoryError(str(error).replace("--limit", verb, 1)) from None
        for host in found.hosts:
            if SERVERS not in host.groups:
                raise ToolkitError(f"{verb}: {host.name} is not a job server")
        self.named = frozenset(host.name for host in found.hosts)
        moves = any(map(schedules, found.hosts))
        takers = [each for each in found.everyone if moves and schedules(each)]
        others = (each for each in takers if each.name not in self.named)
        return replace(found, hosts=(*others, *found.hosts))

    def find_drained(self) -> set[str]:
        found = super().find_drained()
        return found | self.named if self.drains else found - self.named

    def _resources_of(self, host: Host, artifact: Artifact) -> list[Resource]:
        wanted = super()._resources_of(host, artifact)
        is_named = host.name in self.named
        return [each for each in wanted if is_named or isinstance(each, ServerSchedules)]

    def _choose_artifact(self, host: Host, facts: Answers) -> Artifact:
        if facts["releases", ON_HOSTS]["current"] is None:
            raise HostFailed(f"no release is in use there: `{invoke_line('deploy')}` first")
        return super()._choose_artifact(host, facts)

    def refuse_last(self) -> bool:
        """Whether no job server would be left; told as the failure of each host."""
        left = [
            host
            for host in self.inventory.group(SERVERS)
            if DRAINED not in host.groups and host.name in self.fleet
        ]
        if not left:
            for host_run in self.host_runs:
                self.fail(host_run.name, HostFailed(LAST))
        return not left

    @property
    def takes_limit(self) -> bool:
        return False  # it takes names


class EndOfDrain(ServerRun):
    """The same, backwards."""

    drains = False


def drain(
    folder: Path,
    roles: Roles,
    options: Options,
    names: str,
    *,
    back: bool = False,
    connect: Connect = hosts.connect,
) -> int:
    """Have the job servers of these hosts give their jobs to the others and stop; or, with
    ``back``, run again. Returns an exit status.
    """
    verb = "undrain" if back else "drain"
    if not names.strip(" ,"):
        raise ToolkitError(f"{verb}: name the hosts, comma-separated")
    limited = replace(options, limit=names)
    with (EndOfDrain if back else ServerRun)(folder, roles, limited, connect) as run:

        def prepare() -> int | None:
            run.plan_hosts()
            refused = not back and run.refuse_last()
            run.report.recap(run.seconds)
            if refused:
                run.report.say(NOTHING_CHANGED)
                return HostFailed.status
            return None if run.pending else run.status

        status = begin_changes(run, verb.capitalize(), prepare)
        if status is None:
            change_hosts(run)
        elif status:
            return status
        if not back and not run.status:
            where = fold_names(sorted(run.named))
            undrain = invoke_line("undrain", ",".join(sorted(run.named)))
            run.report.say(f"{where}: drained, also after a reboot, until `{undrain}`")
        elif not back:
            for host_run in run.host_runs:
                if host_run.name in run.failed and host_run.applied:
                    undrain = invoke_line("undrain", host_run.name)
                    told = f"the next deploy goes on with the drain; `{undrain}` takes it back"
                    run.report.say(f"{host_run.name}: {told}")
        return run.status
