"""Job servers that workers and clients are to forget, though they are not taken down.

A host that is no longer in a group of ours, or no longer in the inventory, has no plan of its own,
nor has one that --limit or --tags leave out. Its job server would go on, and jobs in it would wait
for workers that do not come.
"""

import re
from collections.abc import Iterator

from provision.fleet.ask_all import ask_each
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.remote.answers import ServerAnswer
from provision.remote.messages import Question, Unknown
from provision.resources.former_units import format_jobs
from provision.resources.health import split_server

AWAY = (
    "its host is in none of the groups that are ours; put it into group job_server, then `invoke "
    "retire` it"
)
SILENT = Unknown("the host did not answer")
MACHINE: Question = ("machine",)
NAMED = re.compile(r"^([-+]).*\bGEARMAN_SERVERS=(\S+)$", re.MULTILINE)


def find_left_servers(run: Run) -> Iterator[tuple[str, HostRun, bool]]:
    """Servers that this run does not take down, each with a host that knows it until now.

    The last of a row: whether it is on a host of ours, which the run leaves out.
    """
    found: dict[str, HostRun] = {}
    for host_run in run.host_runs:
        named: dict[str, set[str]] = {"-": set(), "+": set()}
        for change in host_run.plan.changes:
            for sign, servers in NAMED.findall(change.diff):
                named[sign].update(servers.strip("'").split(","))
        found |= dict.fromkeys(sorted(named["-"] - named["+"] - found.keys()), host_run)
    ours = _own_addresses(run) if found else set()
    for server, host_run in found.items():
        is_ours = split_server(server)[0].removeprefix("gearmans://") in ours
        if not is_ours or run.is_partial:
            yield server, host_run, is_ours


def _own_addresses(run: Run) -> set[str]:
    """Of all hosts that are ours: as the inventory says, and as they do."""
    known = {
        address
        for host in run.inventory.everyone
        for address in (host.address, host.variables["gearman_listen"])
    }
    machines = ask_each(run, run.host_runs, lambda each: each.session.ask([MACHINE])[MACHINE])
    for machine in machines.values():
        if not isinstance(machine, Unknown):
            known.update(machine["addresses"])
    return known


def refuse_left_servers(run: Run) -> bool:
    """Tell of each, and return whether one of them holds jobs."""
    refused = False
    for server, host_run, is_ours in find_left_servers(run):
        answer = _ask_server(run, host_run, server)
        if isinstance(answer, Unknown) or answer["problem"]:
            told = f"and does not answer {host_run.name}"
        elif jobs := _count_jobs(answer):
            refused = True
            cure = "deploy without --limit and --tags, which moves them" if is_ours else AWAY
            told = f"with {format_jobs(jobs)}, which would be stranded: {cure}"
        elif is_ours:
            told = "and has no jobs; a deploy without --limit and --tags takes it down"
        else:
            told = "and has no jobs; what runs on its host stays, as that is in no group of ours"
        run.report.say(f"{'! ' * refused}{server} leaves the job servers {told}")
    return refused


def _ask_server(run: Run, host_run: HostRun, server: str) -> ServerAnswer | Unknown:
    question = ("server", *split_server(server))
    told = ask_each(run, [host_run], lambda each: each.session.survey([question]))
    answer: ServerAnswer | Unknown = told.get(host_run.name, {}).get(question, SILENT)
    return answer


def _count_jobs(answer: ServerAnswer) -> dict[str, int]:
    counts = {name: row["queued"] + row["running"] for name, row in answer["functions"].items()}
    return {name: count for name, count in counts.items() if count}
