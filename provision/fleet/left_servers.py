"""Job servers that workers and clients are to forget, though they are not taken down.

A host that is no longer in a group of ours, or no longer in the inventory, has no plan of its own.
Its job server would go on, and jobs in it would wait for workers that do not come.
"""

import re
from collections.abc import Iterable, Iterator

from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.inventory.host import Inventory
from provision.remote.answers import ServerAnswer
from provision.remote.messages import Unknown
from provision.resources.former_units import format_jobs
from provision.resources.health import split_server

NAMED = re.compile(r"^([-+]).*\bGEARMAN_SERVERS=(\S+)$", re.MULTILINE)


def find_left_servers(
    inventory: Inventory, host_runs: Iterable[HostRun]
) -> Iterator[tuple[str, HostRun]]:
    """Servers that are on none of our hosts, each with a host that knows it until now."""
    ours = {
        address
        for host in inventory.everyone
        for address in (host.address, host.variables["gearman_listen"])
    }
    seen: set[str] = set()
    for host_run in host_runs:
        named: dict[str, set[str]] = {"-": set(), "+": set()}
        for change in host_run.plan.changes:
            for sign, servers in NAMED.findall(change.diff):
                named[sign].update(servers.strip("'").split(","))
        for server in sorted(named["-"] - named["+"] - seen):
            seen.add(server)
            if split_server(server)[0].removeprefix("gearmans://") not in ours:
                yield server, host_run


def refuse_left_servers(run: Run) -> bool:
    """Tell of each, and return whether one of them holds jobs."""
    refused = False
    for server, host_run in find_left_servers(run.inventory, run.host_runs):
        question = ("server", *split_server(server))
        answer = host_run.session.survey([question])[question]
        if isinstance(answer, Unknown) or answer["problem"]:
            told = f"and does not answer {host_run.name}"
        elif jobs := _count_jobs(answer):
            refused = True
            told = (
                f"with {format_jobs(jobs)}, which would be stranded: its host is in none of the "
                "groups that are ours; put it into group job_server, then `invoke retire` it"
            )
        else:
            told = "and has no jobs; what runs on its host stays, as that is in no group of ours"
        run.report.say(f"{'! ' * refused}{server} leaves the job servers {told}")
    return refused


def _count_jobs(answer: ServerAnswer) -> dict[str, int]:
    counts = {name: row["queued"] + row["running"] for name, row in answer["functions"].items()}
    return {name: count for name, count in counts.items() if count}
