"""What runs where: the answers of one probe, with nothing planned to be done about them.

The queues of all job servers are one table, which says which server has what.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from provision.errors import HostFailed
from provision.fleet import pool as hosts
from provision.fleet.accelerator import tell_pure_hosts
from provision.fleet.ask_all import ask_each
from provision.fleet.deploy import DEFAULT, tell_retirements
from provision.fleet.desired_state import Roles
from provision.fleet.host_run import HostRun
from provision.fleet.kept_releases import tell_given_up
from provision.fleet.run import Connect, Run
from provision.fleet.unknown_workers import KnownWorkers
from provision.inventory.drained import DRAINED
from provision.invoke_line import invoke_line
from provision.options import Options
from provision.remote.answers import ServerAnswer
from provision.remote.messages import Question, Unknown
from provision.report.events import Row, Standing
from provision.report.folding import fold_names
from provision.resources.base import Answers, Resource
from provision.resources.former_units import FormerServer, FormerUnits, format_jobs
from provision.resources.health import ServerHealth, split_server
from provision.resources.release import Release
from provision.resources.unit import Unit
from provision.wording import format_pause

SERVER_UNIT = "gearmand.service"
MACHINE: Question = ("machine",)
SILENT = Unknown("the host did not answer")
HEADINGS = ("FUNCTION", "WAITING", "RUNNING", "WORKERS", "SERVER")


class AskedServer(NamedTuple):
    """A job server that is installed, and its answer."""

    host_run: HostRun
    address: str
    answer: ServerAnswer | Unknown

    @property
    def problem(self) -> str:
        """Why no jobs can be given to it; "" if they can."""
        about = f"its job server, {self.address},"
        if isinstance(self.answer, Unknown):
            return f"{about} does not answer: this host cannot be asked about it"
        if problem := self.answer["problem"]:
            why = f"{problem}; {self.answer.get('detail', '')}".rstrip("; ")
            return f"{about} does not answer: {why}"
        why = self.answer.get("refuses", "")
        return f"{about} refuses jobs: {why}" if why else ""


def status(
    folder: Path, roles: Roles, options: Options = DEFAULT, *, connect: Connect = hosts.connect
) -> int:
    """Show each host's release and units, and the queues of all job servers.

    Returns 0 when every host and job server answers, and the job servers take jobs.
    """
    with Run(folder, roles, options, connect) as run:
        run.plan_hosts(find_standing)
        for host_run in run.host_runs:
            for problem in host_run.plan.problems:
                run.report.say(f"{host_run.name}: {problem.sign} {problem.message}")
        for mistake in run.inventory.mistakes:
            run.report.say(f"{mistake}; until then a deploy is refused")
        tell_given_up(run)
        tell_pure_hosts(run)
        answers = ask_hosts(run)
        servers = list(asked_servers(run, answers))
        _show_queues(run, servers)
        for host_run in run.host_runs:
            if jobs := _jobs_left(host_run):
                move = f"`{invoke_line('deploy')}` moves them to the others"
                run.report.say(
                    f"{host_run.name}: its job server leaves, and holds {format_jobs(jobs)}: {move}"
                )
            if DRAINED in host_run.host.groups:
                undrain = invoke_line("undrain", host_run.name)
                run.report.say(f"{host_run.name}: drained; `{undrain}` ends it")
        tell_retirements(run)
        _tell_unknown_workers(run, servers, answers)
        if others := run.inventory.others:
            names = fold_names([each.name for each in others])
            run.report.say(f"not asked, as they are in none of the groups that are ours: {names}")
        run.report.recap(run.seconds)
        planned = {each.name for each in run.host_runs}
        failed = [run.failed[name].status for name in run.failed.keys() - planned]
        silent = [run.failed[name].status for name in planned - answers.keys()]
        useless = [HostFailed.status for each in servers if each.problem]
        return max(failed + silent + useless, default=0)


def _jobs_left(host_run: HostRun) -> Mapping[str, int]:
    """Of a job server whose host left its group, and whose jobs were not moved."""
    answers = host_run.answers
    left = (each for each in host_run.resources if isinstance(each, FormerServer))
    return next((each.jobs_left(answers) for each in left if _is_known(each, answers)), {})


def _is_known(resource: Resource, answers: Answers) -> bool:
    return not any(isinstance(answers[each], Unknown) for each in resource.questions())


def ask_hosts(run: Run) -> dict[str, Answers]:
    """What hosts answer of themselves and the job server there; one that fails is not in it."""

    def ask(host_run: HostRun) -> Answers:
        answers = host_run.session.ask([MACHINE])
        questions = [("server", *split_server(each)) for each in _installed_servers(host_run)]
        return {**answers, **host_run.session.survey(questions)} if questions else answers

    return ask_each(run, run.host_runs, ask)


def asked_servers(run: Run, told: Mapping[str, Answers]) -> Iterator[AskedServer]:
    """All job servers that are installed."""
    for host_run in run.host_runs:
        for server in _installed_servers(host_run):
            answer = told.get(host_run.name, {}).get(("server", *split_server(server)), SILENT)
            yield AskedServer(host_run, server, answer)


def _installed_servers(host_run: HostRun) -> Iterator[str]:
    for health in host_run.resources:
        if isinstance(health, ServerHealth) and host_run.answers["unit", SERVER_UNIT]:
            yield health.server


def _show_queues(run: Run, servers: Sequence[AskedServer]) -> None:
    """What waits and runs at which job server; pings between hosts are left out."""
    rows = [
        (name, row["queued"], row["running"], row["workers"], server.host_run.name)
        for server in servers
        if not isinstance(server.answer, Unknown)
        for name, row in server.answer.get("functions", {}).items()
        if "@" not in name
    ]
    rows.sort()
    table = [HEADINGS, *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    headings, *lines = (
        "  ".join(
            cell.rjust(width) if 0 < place < len(cells) - 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    )
    for line, row in zip(lines, rows, strict=True):
        data = dict(zip(map(str.lower, HEADINGS), row, strict=True))
        run.report.show(Row(data, [headings, line] if line is lines[0] else [line]))
    for server in servers:
        if server.problem:
            run.report.say(f"{server.host_run.name}: {server.problem}")
        for pause in () if isinstance(server.answer, Unknown) else server.answer.get("pauses", ()):
            what = pause["function"] or "the job server"
            told = format_pause(pause["since"], pause["by"])
            run.report.say(f"{server.host_run.name}: {what} is paused{told}")


def _tell_unknown_workers(
    run: Run, servers: Sequence[AskedServer], told: Mapping[str, Answers]
) -> None:
    """Which workers are registered at the job servers, and are not the inventory's."""
    if not servers:
        return
    addresses = {
        name: machine["addresses"]
        for name, answers in told.items()
        if not isinstance(machine := answers[MACHINE], Unknown)
    }
    known = KnownWorkers(run.inventory, run.desired, addresses)
    for host_run, _, answer in servers:
        rows = [] if isinstance(answer, Unknown) else answer.get("registered", [])
        for line in known.strangers(host_run.name, rows):
            run.report.say(f"{host_run.name}: not the inventory's: {line}")


def find_standing(host_run: HostRun) -> Standing:
    """A host's releases and units, by what it answered."""
    answers = host_run.answers
    roots = dict.fromkeys(each.root for each in host_run.resources if isinstance(each, Release))
    own, *apps = [answers["releases", root]["current"] for root in roots] or [None]
    units = {
        name: {"active": "unknown"} if isinstance(found, Unknown) else found or {"active": "absent"}
        for name, found in (
            (unit.name, answers["unit", unit.name])
            for unit in host_run.resources
            if isinstance(unit, Unit)
        )
    }
    for former in host_run.resources:
        if isinstance(former, FormerUnits) and _is_known(former, answers):
            found = former.former_units(answers).items()
            units |= {name: {"active": "active"} for name, state in found if state["active"]}
    pending = len(host_run.plan.changes)
    used = tuple(filter(None, apps))
    return Standing(host_run.host.name, own or "none", units, pending, used)
