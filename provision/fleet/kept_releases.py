"""A deploy keeps the releases that hosts run: what is said of that, and what comes of it.

The files of an app may have gone on since. A worker that needs them waits for an upgrade.
"""

from collections.abc import Iterator

from provision.errors import ToolkitError
from provision.fleet.health_check import started_workers
from provision.fleet.host_run import HostRun
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.fleet.run import Run
from provision.inventory.workers import WorkerDefinition
from provision.release.app import app_workers, apps_of
from provision.release.app_check import check_app
from provision.release.app_source import App


def tell_kept_releases(run: Run) -> None:
    """That this tree's code, and an app's, is not what hosts get, where it is another."""
    told: dict[ReleaseTrack, str] = {}
    for host_run in run.host_runs:
        facts = host_run.answers["host",]
        if OWN in host_run.kept_tracks:
            tree = run.desired.known_tree(facts)
            if tree and tree != host_run.release:
                told.setdefault(OWN, _describe_kept(run, OWN, host_run.release, tree))
        for app in apps_of(host_run.host).values():
            track = ReleaseTrack(app.name)
            if track in told or track not in host_run.kept_tracks:
                continue
            id, here = host_run.artifact.app(app.name).id, run.desired.known_app(app, facts)
            if here != id:
                told[track] = _describe_kept(run, track, id, here, app)
    for line in told.values():
        run.report.say(line)


def _describe_kept(
    run: Run, track: ReleaseTrack, id: str, here: str | None, app: App | None = None
) -> str:
    upgrade = f"`invoke upgrade{track.option}`"
    if app and (problem := _find_mistake(run, app)):
        return f"{id} stays; {upgrade} would be refused: {problem}"
    made = "its files as they are now" if app else "this tree's"
    if here and (why := run.desired.bad.get(here)):
        return f"{id} stays; {made}{' make' if app else ','} {here}, which was given up ({why})"
    told = f", {here}" if here else ", if they differ"  # the build of these may be gone
    return f"{id} stays; {upgrade} brings {made}{told}"


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
        if worker.name == _worker_of(unit) and here != id:
            return (
                f"try: `invoke upgrade{track.option}`, if worker {worker.name} needs the app's "
                f"files as they are now: a deploy keeps {id}"
            )
    return ""


def started_app_workers(host_run: HostRun) -> Iterator[tuple[App, WorkerDefinition]]:
    """The workers that its plan starts from an app's release."""
    started = set(map(_worker_of, started_workers(host_run)))
    return (pair for pair in app_workers(host_run.host) if pair[1].name in started)


def _worker_of(unit: str) -> str:
    """The worker that a unit is of: gearman-worker@NAME:INSTANCE.DIGEST.service."""
    return unit.partition("@")[2].partition(".")[0].partition(":")[0]
