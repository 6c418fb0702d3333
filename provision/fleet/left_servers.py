"""Job servers that workers and clients are to forget, though they are not taken down.

A host that is no longer in a group of ours, or no longer in the inventory, has no plan of its own,
nor has one that --limit or --tags leave out. Its job server would go on, and jobs in it would wait
for workers that do not come.

Which job servers a host knew, and what they hold, is only what this host says; so it counts for
this host alone. One that would leave jobs behind stays as it is, and the others are changed.
"""

import re
from collections.abc import Sequence

from provision.errors import HostFailed
from provision.fleet.ask_all import ask_each
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.invoke_line import invoke_line
from provision.remote.answers import ServerAnswer
from provision.remote.messages import Answer, Question, Unknown
from provision.report.folding import fold_names
from provision.resources.former_units import format_jobs
from provision.resources.health import split_server

AWAY = (
    "its host is in none of the groups that are ours; put it into group job_server, then `invoke "
    "retire` it"
)
LIMITED = "deploy without --limit and --tags, which moves them"
TAKEN_DOWN = "a deploy without --limit and --tags takes it down"
STAYS = "what runs on its host stays, as that is in no group of ours"
MACHINE: Question = ("machine",)
NAMED = re.compile(r"^([-+]).*\bGEARMAN_SERVERS=(\S+)$", re.MULTILINE)
MOST_SERVERS = 50  # that a host knew and is to forget; it asks each
LONGEST_NAME = 300  # characters of HOST:PORT


def refuse_left_servers(run: Run) -> None:
    """Tell of each; a host that knows one in which there are jobs has failed."""
    leaving = _find_left_servers(run)

    def ask(host_run: HostRun) -> dict[Question, Answer]:
        return host_run.session.survey([_ask(each) for each in leaving[host_run]])

    answers = ask_each(run, [*leaving], ask)
    told = dict[str, None]()
    for host_run, servers in leaving.items():
        for server, is_ours in servers.items() if host_run.name in answers else ():
            found = answers[host_run.name][_ask(server)]
            jobs, line = _describe_server(server, host_run.name, found, is_ours=is_ours)
            told[line] = None
            if jobs and run.is_well(host_run):
                run.fail(host_run.name, HostFailed(f"it would leave {server} with {jobs}"))
    for line in told:
        run.report.say(line)


def _find_left_servers(run: Run) -> dict[HostRun, dict[str, bool]]:
    """Those that each host is to forget and this run does not take down; whether they are ours."""
    forgotten = {each: _forgotten_servers(each) for each in filter(run.is_well, run.host_runs)}
    ours = _own_addresses(run) if any(forgotten.values()) else set()
    found: dict[HostRun, dict[str, bool]] = {}
    for host_run, servers in forgotten.items():
        hosts = {each: split_server(each)[0].removeprefix("gearmans://") for each in servers}
        left = {each: host in ours for each, host in hosts.items()}
        if not run.is_partial:
            left = {each: is_ours for each, is_ours in left.items() if not is_ours}
        if len(left) > MOST_SERVERS:
            problem = f"its files name {len(left)} job servers that are not known"
            run.fail(host_run.name, HostFailed(problem))
        elif left:
            found[host_run] = left
    return found


def _forgotten_servers(host_run: HostRun) -> Sequence[str]:
    """Those that its files name, and will not."""
    named: dict[str, set[str]] = {"-": set(), "+": set()}
    for change in host_run.plan.changes:
        for sign, servers in NAMED.findall(change.diff):
            named[sign].update(servers.strip("'").split(","))
    return sorted(each for each in named["-"] - named["+"] if len(each) <= LONGEST_NAME)


def refuse_moves(run: Run) -> None:
    """A rollback, and what moves an app, leave job servers where they are. Raises HostFailed."""
    moved = {each.name: move for each in run.pending if (move := _find_move(each))}
    if moved and (run.goes_back or run.track.app):
        before, after = next(iter(moved.values()))
        raise HostFailed(
            f"nothing was changed: for {fold_names([*moved])} the inventory has other job servers "
            f"than at its last deploy ({after}, not {before}), and only a deploy moves them: "
            f"`{invoke_line('deploy')}`, or take that back in the inventory"
        )


def _find_move(host_run: HostRun) -> tuple[str, str] | None:
    """The job servers that its files name, and will name instead; nothing if they stay."""
    for change in host_run.plan.changes:
        named = dict(NAMED.findall(change.diff))
        if named.keys() == {"-", "+"} and named["-"] != named["+"]:
            return named["-"], named["+"]
    return None


def _own_addresses(run: Run) -> set[str]:
    """Of all hosts that are ours: as the inventory says, and as they do."""
    known = {
        address
        for host in run.inventory.everyone
        for address in (host.address, host.variables["gearman_listen"])
    }
    well = list(filter(run.is_well, run.host_runs))
    machines = ask_each(run, well, lambda each: each.session.ask([MACHINE])[MACHINE])
    for machine in machines.values():
        if not isinstance(machine, Unknown):
            known.update(machine["addresses"])
    return known


def _ask(server: str) -> Question:
    return ("server", *split_server(server))


def _describe_server(
    server: str, name: str, answer: Answer | Unknown, *, is_ours: bool
) -> tuple[str, str]:
    """The jobs that host ``name`` finds in a server, if any, and a line for the operator."""
    leaves = f"{server} leaves the job servers"
    if isinstance(answer, Unknown) or answer["problem"]:
        return "", f"{leaves} and does not answer {name}"
    if counts := _count_jobs(answer):
        jobs = format_jobs(counts)
        cure = LIMITED if is_ours else AWAY
        return jobs, f"! {leaves} with {jobs}, which would be stranded: {cure}"
    return "", f"{leaves} and has no jobs; {TAKEN_DOWN if is_ours else STAYS}"


def _count_jobs(answer: ServerAnswer) -> dict[str, int]:
    counts = {name: row["queued"] + row["running"] for name, row in answer["functions"].items()}
    return {name: count for name, count in counts.items() if count}
