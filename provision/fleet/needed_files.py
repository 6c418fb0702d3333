"""Files of an app that workers are started with: whether the release that a host gets has them.

It need not be of the app's files as they are here: a new host gets what the others run.
"""

import os.path
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from provision.errors import HostFailed, ToolkitError, raise_all
from provision.fleet.host_run import HostRun
from provision.fleet.kept_releases import started_app_workers
from provision.fleet.release_track import ReleaseTrack
from provision.fleet.run import Run
from provision.inventory.workers import WorkerDefinition
from provision.release.app import FILES
from provision.release.app_check import check_app
from provision.release.app_source import App
from provision.remote.messages import Question
from provision.resources.base import Answers

ANY = {"kind": "link", "mode": "0777"}  # what a path that leads through a link is
FOLDER = {"kind": "directory", "mode": "0755"}


def refuse_missing_files(run: Run) -> None:
    """Fail hosts that are to start a worker with a file that its app's release lacks."""
    for host_run in filter(run.is_well, list(run.host_runs)):
        needed = list(_needed_files(host_run))
        questions = list(dict.fromkeys(question for each in needed for question in each.questions))
        try:
            answers = host_run.session.ask(questions) if questions else {}
            found = ((each, each.find_problem(answers)) for each in needed)
            raise_all(
                HostFailed(_describe(run, host_run, each, problem))
                for each, problem in found
                if problem
            )
        except ToolkitError as error:
            run.fail(host_run.name, error)


@dataclass(frozen=True)
class _NeededFile:
    """A ``word`` of a worker's command that begins with ./

    ``tar``: the release here, if it is not in use on the host; ``folder``: of its files there.
    """

    app: App
    worker: WorkerDefinition
    word: str
    tar: Path | None
    folder: str

    @property
    def questions(self) -> list[Question]:
        return [] if self.tar else list(map(_path_question, (self.folder, self._path)))

    def find_problem(self, answers: Answers) -> str:
        """ "" if it is as the worker needs it."""
        if self.tar:
            found = _find_member(self.tar, f"{FILES}/{self.word}")
        elif answers[_path_question(self.folder)]:
            found = answers[_path_question(self._path)]
        else:
            return ""  # the release is not there yet
        runs = self.word == self.worker.argv[0]
        if found is None or (runs and found["kind"] == "directory"):
            return f"has no file {self.word}"
        if runs and found["kind"] == "file" and not int(found["mode"], 8) & 0o111:
            return f"has a file {self.word} that cannot be executed"
        return ""

    @property
    def _path(self) -> str:
        return f"{self.folder}/{self.word[2:]}"


def _needed_files(host_run: HostRun) -> Iterator[_NeededFile]:
    """Those of workers that its plan starts."""
    for app, worker in started_app_workers(host_run):
        track, artifact = ReleaseTrack(app.name), host_run.artifact.app(app.name)
        tar = None if track in host_run.kept_tracks else artifact.path
        folder = f"{track.root}/releases/{artifact.id}/{FILES}"
        for word in worker.argv:
            if word.startswith("./"):
                yield _NeededFile(app, worker, word, tar, folder)


def _describe(run: Run, host_run: HostRun, needed: _NeededFile, problem: str) -> str:
    app, worker = needed.app, needed.worker
    try:
        check_app(app, [worker])
    except ToolkitError as error:
        for line in str(error).splitlines():
            if problem in line:  # so it would with an upgrade
                return line
    track = ReleaseTrack(app.name)
    id = track.release_of(host_run.artifact)
    stays = ", which stays," if track in host_run.kept_tracks else ""
    if id == run.desired.known_app(app, host_run.answers["host",]):
        advice = "see its build:"
    else:
        advice = f"`{track.upgrade_line}` brings the app's files as they are now"
    return f"{worker.where}: worker {worker.name}: {id}{stays} {problem}: {advice}"


def _path_question(path: str) -> Question:
    return ("path", path, "", "")


def _find_member(tar: Path, path: str) -> Mapping[str, Any] | None:
    """What is at a path of a release, as a host would say it; None: nothing."""
    tree, place = _tree_of(tar), PurePosixPath(os.path.normpath(path))
    through_link = (tree[str(each)] for each in place.parents if str(each) in tree)
    return ANY if ANY in through_link else tree.get(str(place))


@cache
def _tree_of(tar: Path) -> Mapping[str, Mapping[str, Any]]:
    with tarfile.open(tar) as archive:
        members = archive.getmembers()
    folders = {str(parent) for each in members for parent in PurePosixPath(each.name).parents}
    files = {
        each.name: ANY if each.issym() else {"kind": "file", "mode": f"{each.mode:04o}"}
        for each in members
    }
    return {**dict.fromkeys(folders, FOLDER), **files}
