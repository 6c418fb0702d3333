"""`./invoke lock`: a lock for an app that is a Python project, for hosts of every kind at once.

uv resolves what the project says that it needs, and writes pylock.toml with the hashes of all
files that an index has. gearman_py is left out, and comes from this checkout, unless the project
pins it with `==`.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from packaging.pylock import is_valid_pylock_path
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from provision.errors import ToolkitError
from provision.inventory import load as inventory
from provision.lab.programs import Say
from provision.release.app import find_app
from provision.release.app_source import App, fetch_source
from provision.release.build import ROOT as CHECKOUT
from provision.release.python_lock import EXPORTS, OURS, find_lock, find_tool
from provision.release.target import OLDEST_PYTHON
from provision.release.wheel_builders import PipFailed, build_wheel, run_pip

ABSENT = re.compile(r"(\S+) was not found in the package registry")
NEWEST_MINOR = 30  # of Python 3, as far as a project's least is looked for


def lock(folder: Path, name: str, say: Say, *, upgrade: bool = False) -> None:
    """Write the lock of app ``name`` of an inventory. Raises :class:`ToolkitError`.

    Versions that it names already stay where they can, unless ``upgrade``.
    """
    app = find_app(inventory.load(folder).everyone, name)
    app = fetch_source(app)
    known = app.lock or find_lock(app.source)
    if known and known.name in EXPORTS:
        tool = EXPORTS[known.name][0]
        raise ToolkitError(f"app {name} has {known}: `{tool} lock` makes that one, in its folder")
    if app.fetched and not app.lock:
        raise ToolkitError(
            f"{app.where}: app {name}: its lock belongs in its repository; or say lock:"
        )
    out = app.lock or app.source / "pylock.toml"
    if out.suffix == ".toml" and not is_valid_pylock_path(out):
        raise ToolkitError(
            f"{app.where}: app {name}: lock: {out.name} should be pylock.toml or pylock.NAME.toml"
        )
    with tempfile.TemporaryDirectory() as scratch:
        _resolve(app, _wanted(app, Path(scratch)), out, Path(scratch), upgrade=upgrade)
    say(f"{out}: commit it with the project")


def _wanted(app: App, scratch: Path) -> Path:
    """The file that says what the project needs."""
    requirements = scratch / "requirements.in"
    if app.package:
        requirements.write_text(f"{app.package}\n")
        return requirements
    if app.wheel:
        requirements.write_text(f"{_wheel_name(app)} @ {app.wheel.resolve().as_uri()}\n")
        return requirements
    for name in ("pyproject.toml", "requirements.in", "requirements.txt"):
        if (app.source / name).is_file():
            return app.source / name
    raise ToolkitError(
        f"{app.where}: app {app.name}: {app.source} has no pyproject.toml, requirements.in or "
        "requirements.txt that says what it needs"
    )


def _wheel_name(app: App) -> str:
    return app.wheel.name.partition("-")[0] if app.wheel else ""


def _resolve(app: App, wanted: Path, out: Path, scratch: Path, *, upgrade: bool) -> None:
    project: dict[str, Any] = {}
    if wanted.suffix == ".toml":
        project = tomllib.loads(wanted.read_text()).get("project", {})
    command = [
        *(find_tool("uv"), "pip", "compile", "--universal", "--quiet", "--generate-hashes"),
        *("--no-header", "--custom-compile-command", "./invoke lock"),
        *("--python-version", _least_python(project), "--output-file", str(out.resolve())),
        *(["--upgrade"] if upgrade else []),
        *(["--no-emit-package", _wheel_name(app)] if app.wheel else []),
    ]
    if out.suffix == ".toml":
        command += ["--format", "pylock.toml"]
    places = _pip_setting("find-links").split()
    places += filter(None, os.environ.get("UV_FIND_LINKS", "").split(","))
    places = [str(Path(each).resolve()) if Path(each).exists() else each for each in places]
    if not _pins_ours(project):
        build_wheel(CHECKOUT, scratch)
        command += ["--no-emit-package", OURS]
        places.append(str(scratch))
    found = {"UV_FIND_LINKS": ",".join(dict.fromkeys(places))}  # they may have passwords
    # The lock says where each need comes from: by a name that is the same for everybody.
    done = subprocess.run(
        [*command, wanted.name],
        cwd=wanted.parent,
        env={**os.environ, **dict(_indexes()), **found},
        capture_output=True,
        text=True,
        check=False,
    )
    if missing := ABSENT.search(done.stderr):
        with suppress(PipFailed):  # it tells an index that refuses the login, which uv passes over
            run_pip("download", "--no-deps", "--dest", str(scratch), missing[1])
    if done.returncode:
        said = " ".join(done.stderr.split()) or "it said nothing"
        what = app.package or app.wheel or wanted
        raise ToolkitError(f"{app.where}: app {app.name}: {what} cannot be locked: {said}")


def _least_python(project: dict[str, Any]) -> str:
    """The oldest Python that the project takes, of those that hosts may have."""
    allowed = SpecifierSet(project.get("requires-python", ""))
    known = [f"3.{minor}" for minor in range(OLDEST_PYTHON[1], NEWEST_MINOR)]
    return next((each for each in known if allowed.contains(f"{each}.99")), known[0])


def _pins_ours(project: dict[str, Any]) -> bool:
    needs = map(Requirement, project.get("dependencies", ()))
    return any(
        canonicalize_name(each.name) == OURS and "==" in [one.operator for one in each.specifier]
        for each in needs
    )


def _indexes() -> Iterator[tuple[str, str]]:
    """The operator's own indexes as pip knows them, for uv."""
    yield "UV_INDEX_STRATEGY", "unsafe-best-match"  # as pip: the best version of all of them
    for key, variable in (("index-url", "UV_DEFAULT_INDEX"), ("extra-index-url", "UV_INDEX")):
        if variable not in os.environ and (found := _pip_setting(key)):
            yield variable, found


def _pip_setting(key: str) -> str:
    if found := os.environ.get(f"PIP_{key.upper().replace('-', '_')}"):
        return found
    for section in ("install", "global"):
        command = [sys.executable, "-m", "pip", "config", "get", f"{section}.{key}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return re.sub(r"\s+", " ", done.stdout).strip()
    return ""
