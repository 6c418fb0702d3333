"""Mistakes in an app's files and in what the inventory says of it, found before hosts are asked."""

import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, starmap

from provision.errors import ToolkitError, raise_all
from provision.inventory.workers import WorkerDefinition
from provision.release.app_source import (
    App,
    fetch_source,
    find_bad_files,
    naming_app,
    source_files,
)


def check_apps(apps: Mapping[App, Iterable[WorkerDefinition]]) -> None:
    """Raises :class:`ToolkitError` for all that is wrong whatever the host.

    Each app with workers that need it, whose words that begin with ./ are files of it.
    """
    raise_all(chain.from_iterable(starmap(_find_mistakes, apps.items())))


def check_app(app: App, needing: Iterable[WorkerDefinition] = ()) -> None:
    """The same of one app."""
    check_apps({app: needing})


def _find_mistakes(app: App, needing: Iterable[WorkerDefinition]) -> Iterator[ToolkitError]:
    try:
        with naming_app(app):
            _check_together(app)
        app = fetch_source(app)
        files = source_files(app)
    except ToolkitError as error:
        yield error
        return
    if not app.build:  # which may mend them
        yield from _find_wrong_words(app, needing, files)
        yield from find_bad_files(app, app.source, files)
    try:
        _check_lock(app)
    except ToolkitError as error:
        yield error


def _check_lock(app: App) -> None:
    if not app.python:
        return
    # which most commands start without
    from provision.release.python_app import check_dependencies, require_lock

    with naming_app(app):
        lock = require_lock(app.name, app.source, app.lock)
        if not app.package:
            check_dependencies(app.name, app.wheel or app.source, lock)


def _find_wrong_words(
    app: App, needing: Iterable[WorkerDefinition], files: Sequence[str]
) -> Iterator[ToolkitError]:
    for worker in needing:
        for number, word in enumerate(worker.argv):
            if word.startswith("./") and (problem := _find_problem(app, word, number == 0, files)):
                named = f"{worker.where}: worker {worker.name}: app {app.name}"
                yield ToolkitError(f"{named} {problem}")


def _find_problem(app: App, word: str, is_run: bool, files: Sequence[str]) -> str:
    """What is wrong with the file that a worker's word names; "" if nothing is."""
    path = app.source / word
    name = os.path.relpath(os.path.realpath(path), os.path.realpath(app.source))
    is_tracked = any(each == name or each.startswith(f"{name}/") for each in files)
    if not path.exists() or (is_run and path.is_dir()):
        return f"has no file {word}"
    if not is_tracked and name != ".":
        return f"has a file {word} that git does not track, and that is left out: git add it"
    if is_run and not path.stat().st_mode & 0o111:
        return f"has a file {word} that cannot be executed: chmod +x it"
    return ""


def _check_together(app: App) -> None:
    if app.url and not app.ref:
        raise ToolkitError("its source is a repository elsewhere: say ref: too")
    if not (app.wheel or app.package):
        return
    what = "a wheel" if app.wheel else "a package of an index"
    for key in ("ref", "build"):
        if getattr(app, key):
            raise ToolkitError(f"{key}: is for files, and its source is {what}")
    if not app.python:
        raise ToolkitError(f"its source is {what}, which is for workers with run:")
    if not app.lock:
        raise ToolkitError(f"its source is {what}: say lock:, the file that locks its dependencies")
