"""Mistakes in an app's files, and in what the inventory says of it, found before hosts are asked."""

import os.path
from collections.abc import Iterable, Sequence

from provision.errors import ToolkitError
from provision.inventory.workers import WorkerDefinition
from provision.release.app_source import App, fetch_source, naming_app, source_files


def check_app(app: App, needing: Iterable[WorkerDefinition] = ()) -> None:
    """Raises :class:`ToolkitError` for what is wrong whatever the host.

    ``needing``: workers, whose words that begin with ./ are files of it.
    """
    with naming_app(app):
        _check_together(app)
    app = fetch_source(app)
    files = source_files(app)
    for worker in needing:
        if not app.build:  # which may make them
            _check_words(app, worker, files)
    if app.python:
        # which most commands start without
        from provision.release.python_app import check_dependencies, require_lock

        with naming_app(app):
            lock = require_lock(app.name, app.source, app.lock)
            if not app.package:
                check_dependencies(app.name, app.wheel or app.source, lock)


def _check_words(app: App, worker: WorkerDefinition, files: Sequence[str]) -> None:
    for number, word in enumerate(worker.argv):
        if not word.startswith("./"):
            continue
        path = app.source / word
        name = os.path.relpath(os.path.realpath(path), os.path.realpath(app.source))
        is_tracked = any(each == name or each.startswith(f"{name}/") for each in files)
        if not path.exists() or (number == 0 and path.is_dir()):
            problem = f"has no file {word}"
        elif not is_tracked and name != ".":
            problem = f"has a file {word} that git does not track, and that is left out: git add it"
        elif number == 0 and not path.stat().st_mode & 0o111:
            problem = f"has a file {word} that cannot be executed: chmod +x it"
        else:
            continue
        raise ToolkitError(f"{worker.where}: worker {worker.name}: app {app.name} {problem}")


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
