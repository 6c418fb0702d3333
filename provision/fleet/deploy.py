"""A deploy, from its first line to its last: probe -> plan -> apply -> verify. Read this first.

First the release is put on all hosts, where nothing uses it yet. Then hosts are changed group by
group, in the order in which the roles are given. A host that fails, or of which no plan can be
made, stops alone; a group whose hosts have all failed stops the groups after it, for workers
without a job server would come to nothing. Where workers are changed one host goes first: if that
fails, it keeps what ran, and the others are not begun. Job servers are changed one at a time; if
one fails, the others are not begun either.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from provision.errors import Interrupted, Locked, RolledBack
from provision.fleet import pool as hosts
from provision.fleet.accelerator import tell_pure_hosts
from provision.fleet.awaited_servers import await_server, refuse_unreached
from provision.fleet.before_change import note_what_runs
from provision.fleet.begin import CHANGES_PENDING, begin_changes, lock_hosts
from provision.fleet.changed_servers import changes_server, try_server
from provision.fleet.changed_workers import (
    change_workers,
    changes_workers,
    moves_servers,
    runs_workers,
    try_workers,
)
from provision.fleet.choice import (
    ChooseRelease,
    named_or_running,
    running_release,
    this_tree,
)
from provision.fleet.desired_state import Roles
from provision.fleet.host_run import HostRun
from provision.fleet.interrupts import tell_interrupt, tell_standing
from provision.fleet.kept_releases import tell_kept_releases
from provision.fleet.left_servers import refuse_left_servers
from provision.fleet.needed_files import refuse_missing_files
from provision.fleet.past_runs import (
    BEGUN,
    PAST_RUNS,
    begun_retirement,
    ended_retirement,
    interrupted_deploy,
)
from provision.fleet.returned_workers import awaiting_workers
from provision.fleet.run import Connect, Run
from provision.inventory.drained import DRAINED
from provision.invoke_line import invoke_line
from provision.options import Options
from provision.report.events import Skipped, Verified
from provision.report.folding import fold_names

DEFAULT = Options()

TREE = "tree"  # by which --release means the one that is made of this tree


def plan(
    folder: Path,
    roles: Roles,
    options: Options = DEFAULT,
    *,
    release: str = "",
    connect: Connect = hosts.connect,
) -> int:
    """Show what a deploy would change. Returns 0 when nothing, 2 when something."""
    with Run(folder, roles, options, connect, _chosen(release)) as run:
        run.inventory.refuse_mistakes()
        status = _show_plan(run)
        return status if status is not None else run.status or CHANGES_PENDING


def deploy(
    folder: Path,
    roles: Roles,
    options: Options = DEFAULT,
    *,
    release: str = "",
    connect: Connect = hosts.connect,
) -> int:
    """Make every host as its roles say; ask before, unless told yes. Returns an exit status.

    Hosts keep the releases that they run, of gearman_py and of each app, and new ones get them
    too, unless ``release`` is named.
    """
    with Run(folder, roles, options, connect, _chosen(release)) as run:
        status = begin_changes(run, "Apply", partial(_show_plan, run))
        left = [each for each in run.host_runs if run.is_well(each) and _is_left(each)]
        if status is None:
            change_hosts(run)
        if left and (status is None or not run.pending):
            _record_end(run, left)
        return run.status if status is None else status


def _show_plan(run: Run) -> int | None:
    """Plan the hosts, and show it. Returns an exit status if nothing is to be changed."""
    run.plan_hosts()
    refuse_missing_files(run)
    tell_kept_releases(run)
    tell_pure_hosts(run)
    _tell_drained(run)
    tell_retirements(run)
    refuse_left_servers(run)
    refuse_unreached(run)
    run.report.recap(run.seconds)
    return None if run.pending else run.status


def change_hosts(run: Run) -> None:
    """Change the hosts, which are locked, as planned."""
    pending = run.pending
    for host_run in run.host_runs:
        if host_run not in pending:
            _release_lock(host_run)
    try:
        apply_plans(run)
    except KeyboardInterrupt:
        tell_standing(run, pending)
        tell_interrupt(run)
        raise
    run.report.end(run.seconds, limit=run.takes_limit)


def _chosen(release: str) -> ChooseRelease:
    if not release:
        return running_release
    return this_tree if release == TREE else named_or_running(release)


def _tell_drained(run: Run) -> None:
    names = [each.name for each in run.host_runs if DRAINED in each.host.groups]
    if names:
        undrain = invoke_line("undrain", ",".join(names))
        run.report.say(f"{fold_names(names)}: drained, and stays so until `{undrain}`")


def tell_retirements(run: Run) -> None:
    """Of hosts that were to leave, or have left, and that this run does not take out."""
    for host_run in run.host_runs:
        past = host_run.answers[PAST_RUNS]
        told = begun_retirement(host_run.name, past) or ended_retirement(past)
        if told and host_run.name not in run.leaving:
            run.report.say(f"{host_run.name}: {told}")


def apply_plans(run: Run) -> None:
    """Stage everywhere, then change the hosts group by group.

    Job servers that leave come last, and only when all others know the new list.
    """
    pending = {each.name: each for each in run.pending}
    try:
        _change_hosts(run, pending)
    finally:  # also where it is interrupted
        for name, host_run in pending.items():
            error = run.failed.get(name)
            if isinstance(error, Interrupted):
                continue  # as others that the interrupt has stopped
            if error and (host_run.applied or host_run.is_begun):
                run.record(host_run, error)


def _change_hosts(run: Run, pending: Mapping[str, HostRun]) -> None:
    for step in (HostRun.recheck_plan, HostRun.stage_changes):
        run.for_each(filter(run.is_well, pending.values()), step)
    leaving = {name for name, host_run in pending.items() if host_run.closes_server}
    because = _try_before_servers(run, pending)  # hosts that stop what comes after them
    for group in run.desired.host_groups():
        stays = [name for name in group if name not in leaving]
        stopped_by = _finish_group(run, pending, stays, because)
        because = because or stopped_by or (group if run.failed.keys() >= set(group) else [])
    _finish_group(run, pending, leaving, because or sorted(run.failed.keys() - leaving))


def _try_before_servers(run: Run, pending: Mapping[str, HostRun]) -> list[str]:
    """Where job servers move, try a host's workers before: afterwards those that run reach none.

    Returns the hosts that stop all others.
    """
    well = [each for each in pending.values() if run.is_well(each)]
    servers = list(filter(changes_server, well))
    changed = [e for e in well if changes_workers(e) and (e not in servers or runs_workers(e))]
    tried = sorted(changed, key=servers.__contains__)[:1]
    if not servers or not any(map(moves_servers, tried)):
        return []

    def try_first(host_run: HostRun) -> None:
        _record_begin(run, host_run)
        try_workers(run, host_run, note_what_runs(host_run), at_former=True)

    run.for_each(tried, try_first)
    failed = [each for each in tried if each.workers_failed]
    for host_run in failed:
        _tell_rolled_back(run, host_run)
    return [each.name for each in failed]


def _finish_group(
    run: Run, pending: Mapping[str, HostRun], names: Iterable[str], because: Sequence[str]
) -> list[str]:
    """Returns the hosts that stop what comes after them, if not all have to fail for that."""
    left = [pending[name] for name in names if name in pending and name not in run.failed]
    if because:
        _skip(run, left, because)
        return []
    servers = [each for each in left if changes_server(each)]
    left = [each for each in left if each not in servers]
    for place, server in enumerate(servers, 1):
        run.for_each([server], partial(_finish_server, run))
        if not run.is_well(server):
            _skip(run, [*servers[place:], *left], [server.name])
            _tell_rolled_back(run, server)
            return [server.name]
    careful = [each for each in left if changes_workers(each)]
    run.for_each([each for each in left if each not in careful], partial(_finish_host, run))
    for place, first in enumerate(careful, 1):
        run.for_each([first], partial(_finish_workers, run))
        if run.is_well(first):
            run.for_each(careful[place:], partial(_finish_workers, run))
            return []
        if first.workers_failed:  # otherwise the host is not well, and the next is the first
            _skip(run, careful[place:], [first.name])
            _tell_rolled_back(run, first)
            return [first.name]
    return []


def _skip(run: Run, host_runs: Iterable[HostRun], because: Sequence[str]) -> None:
    for host_run in host_runs:
        if host_run.applied and not host_run.is_begun:
            run.record(host_run, result=f"staged, not begun because of {fold_names(because)}")
        run.report.show(Skipped(host_run.name, tuple(because)))


def _tell_rolled_back(run: Run, host_run: HostRun) -> None:
    if host_run.rolled_back:
        run.failed[host_run.name].status = RolledBack.status
        run.report.say(f"{host_run.name}: {host_run.rolled_back}")


def _record_begin(run: Run, host_run: HostRun) -> None:
    """That changes begin on a host stays in its history if they never come to an end."""
    if not host_run.is_begun:
        run.record(host_run, result=BEGUN)


def _is_left(host_run: HostRun) -> bool:
    """Whether an interrupted deploy did all that was to do on a host, and did not come to tell."""
    past = host_run.answers[PAST_RUNS]
    return not host_run.plan.changes and bool(interrupted_deploy(host_run.name, past))


def _record_end(run: Run, left: Iterable[HostRun]) -> None:
    """That a deploy has come to its end on these hosts; another run may tell it itself."""
    with suppress(Locked):
        lock_hosts(run)
        for host_run in left:
            run.record(host_run)
            run.report.say(interrupted_deploy(host_run.name, host_run.answers[PAST_RUNS]))


def _finish_server(run: Run, host_run: HostRun) -> None:
    with awaiting_workers(host_run):
        (_finish_workers if changes_workers(host_run) else _finish_host)(run, host_run)


def _finish_workers(run: Run, host_run: HostRun) -> None:
    _record_begin(run, host_run)
    before = note_what_runs(host_run)
    try_server(host_run)
    await_server(host_run)
    try_workers(run, host_run, before)
    change_workers(run, host_run, before)
    if run.is_well(host_run):
        _tell_finished(run, host_run)


def _finish_host(run: Run, host_run: HostRun) -> None:
    _record_begin(run, host_run)
    try_server(host_run)
    await_server(host_run)
    host_run.finish_changes()
    _tell_finished(run, host_run)


def _tell_finished(run: Run, host_run: HostRun) -> None:
    run.record(host_run)
    run.report.show(Verified(host_run.name, run.seconds))
    _release_lock(host_run)


def _release_lock(host_run: HostRun) -> None:
    """Let others change a host when its part is over: another host may keep this run waiting.

    Not a job server: they are changed one at a time, by two runs as well.
    """
    if "job_server" not in host_run.host.groups:
        host_run.session.close()
