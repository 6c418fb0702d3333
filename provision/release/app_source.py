"""Where an app's files are: a folder here, a commit of a repository, a wheel, or an index.

Of a folder what git tracks is taken, as it stands there; where git knows nothing, all. With
`ref:` it is what was committed, whatever lies in the folder. What is not a folder of this machine
is fetched into one, under ``.cache/apps/``.
"""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

from gearman_py.printable import printable
from provision.errors import ToolkitError, raise_all
from provision.file_lock import file_lock
from provision.release.build import ON_HOSTS, ROOT
from provision.release.build_cache import mark_used

APPS = f"{ON_HOSTS}/apps"
SHOWN = 3  # names of files that differ
# A folder of a repository may look like a repository, whose settings name programs to run.
TRUST_NOTHING = ("-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false")
FETCHED = 4  # commits of an app that are kept here


@dataclass(frozen=True)
class App:
    """An app of an inventory. ``where``: file:line."""

    name: str
    source: Path  # a folder
    build: tuple[str, ...] = ()
    where: str = field(default="", compare=False)
    lock: Path | None = None  # of a Python project, if it is not in its folder
    python: bool = False  # a worker imports it
    ref: str = ""  # of the repository that the folder is in
    url: str = ""  # of a repository elsewhere
    wheel: Path | None = None
    package: str = ""  # NAME==VERSION, of the operator's own index
    fetched: bool = False  # all that is in the folder belongs to it

    @property
    def root(self) -> str:
        """Its folder on a host."""
        return f"{APPS}/{self.name}"


def fetch_source(app: App, root: Path = ROOT) -> App:
    """The app with a folder of this machine as its source. Raises :class:`ToolkitError`."""
    if app.fetched or not (app.ref or app.url or app.wheel or app.package):
        return app
    cached = root / ".cache" / "apps" / app.name
    if app.wheel or app.package:
        return replace(app, source=_note_source(app, cached), fetched=True)
    return replace(app, source=_check_out(app, cached), fetched=True)


def _note_source(app: App, cached: Path) -> Path:
    """A folder with one file, which says what was installed: it has no other files."""
    text = f"{app.package}\n"
    if wheel := app.wheel:
        if not wheel.is_file():
            raise _app_error(app, f"the file {wheel} does not exist")
        text = f"{wheel.name} sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    folder = cached / f"source-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SOURCE").write_text(text)
    mark_used(folder)
    return folder


@cache
def _check_out(app: App, cached: Path) -> Path:
    """A folder with the files of the commit that `ref:` names; asked for once in a run."""
    with file_lock(cached / "source.lock"):  # other runs from this checkout fetch it too
        repository = _mirror(app, cached) if app.url else app.source
        if not repository.is_dir():
            raise _app_error(app, f"the folder {repository} does not exist")
        here = replace(app, source=repository)
        commit = _find_commit(app, here)
        place = hashlib.sha256(f"{app.url or app.source}".encode()).hexdigest()[:6]
        folder = cached / f"source-{place}-{commit[:12]}"
        if not folder.exists():
            _extract_commit(here, commit, folder)
        mark_used(folder)
        return folder


def _find_commit(app: App, here: App) -> str:
    try:
        return _git(here, "rev-parse", "--verify", "--quiet", f"{app.ref}^{{commit}}").strip()
    except ToolkitError as error:
        why = str(error).rpartition("git rev-parse: ")[2]
        unknown = f"{app.url or app.source} has no commit, tag or branch {app.ref!r}"
        raise _app_error(app, f"{unknown}: {why}" if why else unknown) from None


def _extract_commit(here: App, commit: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        with tarfile.open(fileobj=io.BytesIO(_git_bytes(here, "archive", commit))) as archive:
            archive.extractall(tree, filter="tar")
        tree.rename(folder)
    known = sorted(folder.parent.glob("source-*-*"), key=lambda each: -each.stat().st_ctime)
    for old in known[FETCHED:]:
        shutil.rmtree(old)


def _mirror(app: App, cached: Path) -> Path:
    """A copy of a repository elsewhere, brought up to date."""
    mirror = cached / f"mirror-{hashlib.sha256(app.url.encode()).hexdigest()[:6]}.git"
    if mirror.exists():
        _git(replace(app, source=mirror), "fetch", "--quiet", "--prune", "--tags", "origin")
    else:
        _git(replace(app, source=cached), "clone", "--quiet", "--mirror", app.url, str(mirror))
    mark_used(mirror)
    return mirror


def uncommitted_files(app: App) -> str:
    """What to tell of a folder that is not as its last commit; "" of one that is."""
    if app.ref or app.wheel or app.package or not _is_tracked(app):
        return ""
    lines = _git(app, "status", "--porcelain", "-z", "--no-renames", "--", ".").split("\0")
    untracked = [line[3:] for line in lines if line.startswith("??")]
    # One that was taken out of the index, and is still there, has two lines.
    changed = [line[3:] for line in lines if line and line[3:] not in untracked]
    lock = _lock_path(app)
    left_out = [name for name in untracked if name != lock]
    told = [f"not as in its last commit: {_some(changed)}"] if changed else []
    told += [f"not tracked, and used as its lock: {lock}"] if lock in untracked else []
    told += [f"not tracked, and left out: {_some(left_out)}"] if left_out else []
    return "; ".join(told)


def _lock_path(app: App) -> str:
    """The path of the lock in an app's folder, from the top of its repository, if it has one."""
    if not app.python or app.lock:
        return ""
    from provision.release.python_lock import find_lock  # which most commands start without

    lock = find_lock(app.source)
    return _git(app, "rev-parse", "--show-prefix").strip() + lock.name if lock else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown_name, names[:SHOWN])) + more


def shown_name(name: object) -> str:
    """A path as a person can read it: on one line, and with the bytes that are not UTF-8."""
    return printable(os.fsencode(str(name)).decode(errors="backslashreplace"), keep="")


# -- the files --------------------------------------------------------------------------


def source_files(app: App) -> list[str]:
    """The paths of an app's files below its folder, sorted."""
    if not app.source.is_dir():
        raise _app_error(app, f"the folder {app.source} does not exist")
    if not app.fetched and _is_tracked(app):
        known = _git(app, "ls-files", "-z", "--recurse-submodules").split("\0")
        names = [name for name in known if name and os.path.lexists(app.source / name)]
        if not names:
            raise _app_error(app, f"git tracks no file in {app.source}: git add them")
        return sorted(names)
    names = [str(path.relative_to(app.source)) for path in walk_files(app.source)]
    if not names:
        raise _app_error(app, f"{app.source} has no files")
    return sorted(names)


def walk_files(folder: Path) -> Iterator[Path]:
    """Every file and link below a folder; what git notes there is not one of them."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path.name != ".git":
                yield from walk_files(path)
        else:
            yield path


def _is_tracked(app: App) -> bool:
    folder = app.source.resolve()  # where `..` leads, not what the path goes through
    places = (folder, *folder.parents)
    return any((each / ".git").exists() for each in places)


def _git(app: App, *arguments: str) -> str:
    return os.fsdecode(_git_bytes(app, *arguments))


def _git_bytes(app: App, *arguments: str) -> bytes:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    ours = app.url and arguments[0] != "clone"  # a mirror, which is bare
    place = ["--git-dir", str(app.source)] if ours else ["-C", str(app.source)]
    command = ["git", *TRUST_NOTHING, *place, *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
    except FileNotFoundError:
        raise _app_error(app, "git is not installed here") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise _app_error(app, f"git {arguments[0]}: {said}")
    return done.stdout


def _app_error(app: App, problem: str) -> ToolkitError:
    return ToolkitError(f"{app.where}: app {app.name}: {problem}")


@contextmanager
def naming_app(app: App) -> Iterator[None]:
    """Puts an app's name and place before an error's message."""
    try:
        yield
    except ToolkitError as error:
        told = type(error)(f"{app.where}: app {app.name}: {error}")
        raise told from None


def copy_files(app: App, tree: Path) -> None:
    """Copy an app's files. Raises :class:`ToolkitError`."""
    names = source_files(app)
    # Links may be replaced by its build.
    stay = (each for each in names if not (app.build and (app.source / each).is_symlink()))
    raise_all(find_bad_files(app, app.source, stay))
    for name in names:
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(app.source / name, target, follow_symlinks=False)


def find_bad_files(app: App, tree: Path, names: Iterable[str]) -> Iterator[ToolkitError]:
    """What is wrong with those of these in ``tree`` that no release can have."""
    for name in names:
        if problem := _find_problem(tree, name):
            yield _app_error(app, f"{shown_name(name)} is {problem}")


def _find_problem(tree: Path, name: str) -> str:
    """A link must lead to another file of the app: on a host all else is different."""
    path = tree / name
    if not path.is_symlink():
        return "" if path.is_file() else "neither a file nor a link"
    target = os.readlink(path)
    place = PurePosixPath(os.path.normpath(PurePosixPath(name).parent / target))
    is_outside = os.path.isabs(target) or place.parts[:1] == ("..",)
    return f"a link to {shown_name(target)}, which is not part of the app" if is_outside else ""
