"""A deploy keeps the releases that hosts run: what is said of that, and what comes of it.

The files of an app may have gone on since. A worker that needs them waits for an upgrade.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from provision.errors import HostFailed, ToolkitError
from provision.fleet.health_check import started_workers
from provision.fleet.host_run import HostRun
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.fleet.run import Run
from provision.inventory.workers import WorkerDefinition
from provision.release.app import FILES, app_workers, apps_of, check_app
from provision.release.app_source import App
from provision.remote.messages import Question


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


def refuse_missing_files(run: Run) -> None:
    """Fail hosts that are to start a worker whose file is not in the release that stays."""
    for host_run in filter(run.is_well, list(run.host_runs)):
        files = list(_needed_files(host_run))
        questions = {_path_question(path) for each in files for path in (each.folder, each.path)}
        try:
            found = host_run.session.ask(list(questions)) if questions else {}
        except ToolkitError as error:
            run.fail(host_run.name, error)
            continue
        for each in files:
            if found[_path_question(each.path)] is None and found[_path_question(each.folder)]:
                run.fail(host_run.name, HostFailed(each.absence))
                break


@dataclass(frozen=True)
class _NeededFile:
    """A file of an app that a worker needs; ``absence``: what to say if a host lacks it."""

    folder: str  # of the app's files there
    path: str
    absence: str


def _needed_files(host_run: HostRun) -> Iterator[_NeededFile]:
    """Those of workers that its plan starts."""
    for track, worker in _kept_workers(host_run):
        id = track.release_of(host_run.artifact)
        folder = f"{track.root}/releases/{id}/{FILES}"
        for word in worker.argv:
            if word.startswith("./"):
                problem = (
                    f"{worker.where}: worker {worker.name}: {id}, which stays, has no file {word}: "
                    f"`invoke upgrade{track.option}` brings the app's files as they are now"
                )
                yield _NeededFile(folder, f"{folder}/{word[2:]}", problem)


def _path_question(path: str) -> Question:
    return ("path", path, "", "")


def advise_upgrade(run: Run, host_run: HostRun, unit: str) -> str:
    """What to try if a unit fails its trial with a release that stays; "" if nothing of that."""
    for track, worker in _kept_workers(host_run):
        app, id = apps_of(host_run.host)[track.app], track.release_of(host_run.artifact)
        here = run.desired.known_app(app, host_run.answers["host",])
        if worker.name == _worker_of(unit) and here != id:
            return (
                f"try: `invoke upgrade{track.option}`, if worker {worker.name} needs the app's "
                f"files as they are now: a deploy keeps {id}"
            )
    return ""


def _kept_workers(host_run: HostRun) -> Iterator[tuple[ReleaseTrack, WorkerDefinition]]:
    """The workers that its plan starts from a release of an app that stays, with its track."""
    started = set(map(_worker_of, started_workers(host_run)))
    for app, worker in app_workers(host_run.host):
        track = ReleaseTrack(app.name)
        if worker.name in started and track in host_run.kept_tracks:
            yield track, worker


def _worker_of(unit: str) -> str:
    """The worker that a unit is of: gearman-worker@NAME:INSTANCE.DIGEST.service."""
    return unit.partition("@")[2].partition(".")[0].partition(":")[0]
