"""Releases that are given up: marked as bad on hosts that have them, which keep no more for it."""

from provision.errors import ToolkitError
from provision.fleet.host_run import HostRun
from provision.remote.messages import Operation
from provision.resources.base import Change
from provision.resources.release import OldReleases, Release


def mark_bad(host_run: HostRun, id: str | None, reason: str) -> None:
    """Mark a release as bad where it is, and prune; a host out of reach is left as it is."""
    track, session = host_run.track, host_run.session
    try:
        host_run.make_plan()
        known = host_run.answers[track.question]
        if id in known["kept"]:
            operation = Operation("condemn", {"root": track.root, "id": id}, reason.encode())
            list(session.apply([operation]))
            _prune(host_run, known["current"])
    except ToolkitError as error:
        host_run.report.say(f"{host_run.name}: {id} is not marked as bad: {error}")


def _prune(host_run: HostRun, current: str) -> None:
    """Of more releases than are kept those that are bad go first."""
    track = host_run.track
    old = OldReleases(Release(track.root, track.named(current)))
    changes = old.plan_changes(host_run.session.ask(old.questions()))
    steps = [each.operation for each in changes if isinstance(each, Change)]
    list(host_run.session.apply(steps))
