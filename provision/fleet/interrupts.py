"""Where Ctrl-C leaves the hosts of a run: told to the operator, and to their history."""

from collections.abc import Iterable

from provision.errors import Interrupted
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.report.folding import fold_names
from provision.wording import format_count


def tell_standing(run: Run, pending: Iterable[HostRun]) -> None:
    """Which hosts were changed, which are between two changes, and which were left as they were."""
    changed, between, others = list[str](), list[HostRun](), list[str]()
    for host_run in pending:
        if host_run.is_finished:
            changed.append(host_run.name)
        elif _is_between(run, host_run):
            between.append(host_run)
        elif run.is_well(host_run) or isinstance(run.failed[host_run.name], Interrupted):
            others.append(host_run.name)  # of others the failure has been told
    if changed:
        run.report.say(f"{fold_names(changed)}: changed")
    for host_run in between:
        made = f"{host_run.applied} of {format_count(host_run.due, 'change')} made"
        staged = "" if host_run.is_begun else ", what runs there was not touched"
        run.report.say(f"{host_run.name}: {made}{staged}")
    if others:
        run.report.say(f"{fold_names(others)}: not begun, nothing was changed there")


def tell_interrupt(run: Run) -> None:
    """The last word of an interrupted run, but for what is said of releases."""
    _record_interrupt(run)
    run.report.silence(
        *(_describe_unfinished(each) for each in run.host_runs if each.name in run.at_work),
        "interrupted: the same command goes on where this one stopped",
    )


def _record_interrupt(run: Run) -> None:
    """Have hosts keep it in their history, if the run has changed them and did not finish there."""
    for host_run in run.host_runs:
        is_idle = host_run.name not in run.at_work  # otherwise its session is in use
        if is_idle and not host_run.is_finished and _is_between(run, host_run):
            run.record(host_run, host_run.interrupted())


def _is_between(run: Run, host_run: HostRun) -> bool:
    """Whether something was done to a host, or is still being done, and not all that was due."""
    error = run.failed.get(host_run.name)
    if error is not None and not isinstance(error, Interrupted):
        return False
    has_begun = host_run.applied or host_run.is_begun
    return bool(has_begun or (host_run.name in run.at_work and host_run.in_progress))


def _describe_unfinished(host_run: HostRun) -> str:
    """Of a host that was still at work when its connection was closed."""
    if host_run.in_progress is None:
        return f"{host_run.name}: not waited for; it was still at work"
    what = host_run.in_progress.summary
    return f"{host_run.name}: not waited for; this change may still be made there: {what}"
