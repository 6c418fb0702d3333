"""A deploy keeps the releases that hosts run: what is said of that, and what comes of it.

The files of an app may have gone on since. A worker that needs them waits for an upgrade.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from provision.errors import ToolkitError
from provision.fleet.health_check import started_workers
from provision.fleet.host_run import HostRun
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.fleet.run import Run
from provision.inventory.workers import WorkerDefinition
from provision.release.app import app_workers, apps_of
from provision.release.app_check import check_app
from provision.release.app_source import App


class _Kept(NamedTuple):
    """A release that stays. ``here``: that of the files here, if it was built and is another."""

    track: ReleaseTrack
    id: str
    here: str | None
    app: App | None

    def given_up(self, run: Run) -> str:
        """What to tell if that of the files here was given up; "" if it was not."""
        why = run.desired.bad.get(self.here or "")
        if not why:
            return ""
        upgrade = f"`{self.track.upgrade_line}`"
        if self.app:
            made = f"its files as they are now make {self.here}, which was given up ({why}): mend"
            return f"{self.id} stays; {made} them, then {upgrade}"
        made = f"this tree's release, {self.here}, was given up ({why})"
        return f"{self.id} stays; {made}: mend it, then {upgrade}"

    def describe(self, run: Run) -> str:
        """What an upgrade would bring, or that it would be refused."""
        upgrade = f"`{self.track.upgrade_line}`"
        if self.app and (problem := _find_mistake(run, self.app)):
            return f"{self.id} stays; {upgrade} would be refused: {problem}"
        made = "its files as they are now" if self.app else "this tree's"
        told = f", {self.here}" if self.here else ", if they differ"  # their build may be gone
        return self.given_up(run) or f"{self.id} stays; {upgrade} brings {made}{told}"


def tell_kept_releases(run: Run) -> None:
    """That this tree's code, and an app's, is not what hosts get, where it is another."""
    for kept in _find_kept(run):
        run.report.say(kept.describe(run))


def tell_given_up(run: Run) -> None:
    """Where it is another because the fleet gave it up."""
    if run.desired.bad:
        for told in filter(None, (kept.given_up(run) for kept in _find_kept(run))):
            run.report.say(told)


def _find_kept(run: Run) -> Iterable[_Kept]:
    """Hosts of several Pythons have several releases of the same code."""
    found: dict[tuple[str, str | None], _Kept] = {}
    for host_run in run.host_runs:
        facts, kept = host_run.answers["host",], host_run.kept_tracks
        answers, id = host_run.answers, host_run.artifact.id
        tree = run.desired.known_tree(answers) if OWN in kept else None
        if tree and tree != id:
            found.setdefault((id, tree), _Kept(OWN, id, tree, None))
        for app in apps_of(host_run.host).values():
            if (track := ReleaseTrack(app.name)) in kept:
                id, here = track.release_of(host_run.artifact), run.desired.known_app(app, facts)
                if here != id:
                    found.setdefault((id, here), _Kept(track, id, here, app))
    return found.values()


def _find_mistake(run: Run, app: App) -> str:
    """What is wrong with the files of an app for its workers; "" if nothing is."""
    pairs = (pair for each in run.host_runs for pair in app_workers(each.host))
    try:
        check_app(app, dict.fromkeys(worker for one, worker in pairs if one.name == app.name))
    except ToolkitError as error:
        return str(error)
    return ""


def advise_upgrade(run: Run, host_run: HostRun, unit: str) -> str:
    """What to try if a unit fails its trial with a release that stays; "" if nothing of that."""
    for app, worker in started_app_workers(host_run):
        track = ReleaseTrack(app.name)
        if track not in host_run.kept_tracks:
            continue
        id = track.release_of(host_run.artifact)
        here = run.desired.known_app(app, host_run.answers["host",])
        if worker.name == worker_of(unit) and here != id:
            return (
                f"try: `{track.upgrade_line}`, if worker {worker.name} needs the app's "
                f"files as they are now: a deploy keeps {id}"
            )
    return ""


def started_app_workers(host_run: HostRun) -> Iterator[tuple[App, WorkerDefinition]]:
    """The workers that its plan starts from an app's release."""
    started = set(map(worker_of, started_workers(host_run)))
    return (pair for pair in app_workers(host_run.host) if pair[1].name in started)


def worker_of(unit: str) -> str:
    """The worker that a unit is of: gearman-worker@NAME:INSTANCE.DIGEST.service."""
    return unit.partition("@")[2].partition(".")[0].partition(":")[0]
