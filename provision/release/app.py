"""An app: a team's own files in a release of their own, built on this machine from a folder.

One that is a Python project brings wheels too, for one kind of host: see python_app.py.

`build:` runs in a clean copy of its files, and what it makes goes along. The same files and build
make the same release, whose id is made of its bytes; it is kept under ``.cache/apps/``.
"""

import hashlib
import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from provision.atomic_write import write_atomically
from provision.errors import ToolkitError, raise_all
from provision.file_lock import file_lock
from provision.inventory.host import Host
from provision.inventory.workers import WorkerDefinition, workers
from provision.release.app_source import (
    App,
    copy_files,
    fetch_source,
    find_bad_files,
    naming_app,
    source_files,
    walk_files,
)
from provision.release.build import INSTALLER, ROOT, Artifact, build_release, noted_artifact
from provision.release.build_cache import prune_oldest, prune_unused
from provision.release.sbom import SBOM, make_sbom
from provision.release.target import Target
from provision.wording import nearest_hint

FILES = "app"  # the folder of a release that holds them
KEPT = 8  # releases of an app on this machine
PACKAGE = r"[A-Za-z0-9][\w.-]*==[\w.!+]+"  # of an index
REPOSITORY = r"[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:"  # what the URL of one begins with
LAST_LINES = 12  # of a build that failed


def apps_of(host: Host) -> dict[str, App]:
    """The apps that the workers of a host need, by name."""
    tables = host.variables.get("gearman_apps", {})
    found: dict[str, App] = {}
    for worker in workers(host):
        if name := worker.app:
            said = tables[name]
            found[name] = App(
                name,
                **_source(host, said),
                build=tuple(said.get("build", ())),
                lock=_place(host.folder, said["lock"]) if "lock" in said else None,
                python=worker.kind == "run" or (name in found and found[name].python),
                where=str(tables.places[name]),
            )
    return found


def app_workers(host: Host) -> Iterator[tuple[App, WorkerDefinition]]:
    """Each worker of a host that needs an app, with it."""
    apps = apps_of(host)
    return ((apps[each.app], each) for each in workers(host) if each.app)


def find_app(hosts: Iterable[Host], name: str) -> App:
    """App ``name`` of these hosts, as those have it that import it. Raises ToolkitError."""
    found = [app for host in hosts for app in apps_of(host).values()]
    named = sorted((app for app in found if app.name == name), key=lambda each: each.python)
    if not named:
        known = dict.fromkeys(app.name for app in found)
        near = nearest_hint(name, known) or f"; expected one of {', '.join(known) or 'none'}"
        raise ToolkitError(f"--app {name}: no worker of this inventory needs such an app{near}")
    return named[-1]


@cache  # every host of a group says the same
def _place(folder: Path, path: str) -> Path:
    """A path of an inventory, from its folder or absolute; without `..` if that is the same."""
    found = folder / Path(path).expanduser()
    tidy = Path(os.path.normpath(found))
    return tidy if not found.exists() or (tidy.exists() and tidy.samefile(found)) else found


def _source(host: Host, said: Mapping[str, Any]) -> dict[str, Any]:
    """What `source:` means: a path, the URL of a repository, or NAME==VERSION of an index."""
    source, ref = said["source"], said.get("ref", "")
    if re.fullmatch(PACKAGE, source):
        return {"source": Path(), "package": source, "ref": ref}
    if re.match(REPOSITORY, source):
        return {"source": Path(), "url": source, "ref": ref}
    if source.endswith(".whl"):
        return {"source": Path(), "wheel": _place(host.folder, source), "ref": ref}
    return {"source": _place(host.folder, source), "ref": ref}


def command_line(worker: WorkerDefinition, folder: str) -> tuple[str, ...]:
    """A worker's command or program; words that begin with ./ are files of its app's release."""
    if not worker.app:
        return worker.argv
    files = f"{folder}/{FILES}"
    return tuple(f"{files}/{each[2:]}" if each.startswith("./") else each for each in worker.argv)


def built_app(
    app: App, root: Path = ROOT, *, target: Target | None = None, ours: Artifact | None = None
) -> Artifact | None:
    """The release of an app's files as they are now, if it was built before.

    ``ours``: gearman_py's release for ``target``, where it is known.
    """
    app = fetch_source(app)
    return noted_artifact(_note_path(app, root, target, ours), root)


def build_app(app: App, root: Path = ROOT, *, target: Target | None = None) -> Artifact:
    """The release of an app's files, built unless it was before. Raises :class:`ToolkitError`.

    ``target``: the kind of host that the wheels of a Python project are for.
    """
    app = fetch_source(app)
    if artifact := built_app(app, root, target=target):
        return artifact
    note = _note_path(app, root, target)
    with file_lock(note.parent / "lock"):  # other runs from this checkout build it too
        return noted_artifact(note, root) or _build(app, note, root, target)


def _build(app: App, note: Path, root: Path, target: Target | None) -> Artifact:
    with tempfile.TemporaryDirectory(dir=note.parent) as folder:
        release = Path(folder)
        tree = release / FILES
        copy_files(app, tree)
        _run_build(app, tree)
        manifest: dict[str, object] = {"app": app.name}
        if app.python and target:
            from provision.release.python_app import add_wheels, require_lock

            with naming_app(app):
                lock = require_lock(app.name, app.source, app.lock)
                manifest |= add_wheels(
                    tree, lock, target, release, wheel=app.wheel, package=app.package
                )
                (release / SBOM).write_bytes(make_sbom(app.name, "", release))
        (release / "MANIFEST.json").write_text(json.dumps(manifest) + "\n")
        tar = release / "release.tar"
        _pack_release(app, tar, release)
        with tar.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{app.name}-{digest[:12]}"
        size = tar.stat().st_size
        path = tar.rename(note.parent / f"{name}.tar")
        artifact = Artifact(name, digest, size, path)
        known = {"id": name, "digest": digest, "size": size, "path": str(path.relative_to(root))}
        write_atomically(note, json.dumps(known).encode())
    prune_oldest(note.parent, "*.tar", KEPT)
    prune_unused(note.parent, "*.json", "source-*", "mirror-*", "tmp*")
    return artifact


def named_app(name: str, id: str, root: Path = ROOT) -> Artifact:
    """Release ``id`` of an app, from this machine if it is here."""
    path = root / ".cache" / "apps" / name / f"{id}.tar"
    if not path.exists():
        return Artifact(id, "", 0, None)
    return Artifact(id, "", path.stat().st_size, path)


def _note_path(app: App, root: Path, target: Target | None, ours: Artifact | None = None) -> Path:
    """Where it is written down which release an app's files make."""
    hashed = hashlib.sha256(repr(app.build).encode())
    for module in ("app.py", "app_source.py", "python_app.py", "python_lock.py"):
        hashed.update(Path(__file__).with_name(module).read_bytes())
    if app.python and target:
        from provision.release.python_app import require_lock

        with naming_app(app):
            lock = require_lock(app.name, app.source, app.lock)
        ours = ours or build_release(target, pure=True)  # it brings gearman_py
        hashed.update(f"{target} {ours.id} {lock.name}".encode() + lock.read_bytes())
    for name in source_files(app):
        path = app.source / name
        hashed.update(f"\0{name}\0".encode(errors="surrogateescape"))
        if path.is_symlink():
            hashed.update(b"->" + os.fsencode(os.readlink(path)))
        elif path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            hashed.update(bytes([bool(path.stat().st_mode & 0o111)]) + digest)
    return root / ".cache" / "apps" / app.name / f"{hashed.hexdigest()[:16]}.json"


def _run_build(app: App, tree: Path) -> None:
    if not app.build:
        return
    command = " ".join(app.build)
    try:
        done = subprocess.run(
            app.build,
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise ToolkitError(
            f"{app.where}: app {app.name}: build: {app.build[0]}: {error.strerror}"
        ) from None
    if done.returncode:
        lines = done.stdout.decode(errors="replace").splitlines()[-LAST_LINES:]
        said = "\n".join(f"    {line}" for line in lines)
        raise ToolkitError(
            f"{app.where}: app {app.name}: `{command}` ended with {done.returncode}; it said:\n"
            f"{said}"
        )


def _pack_release(app: App, tar: Path, release: Path) -> None:
    """A tar whose bytes depend on names, contents, links and who may execute alone."""
    folders = (INSTALLER, "wheels") if app.python else ()
    wheels = (path for folder in folders for path in sorted((release / folder).iterdir()))
    files = sorted(walk_files(release / FILES))
    names = (str(path.relative_to(release / FILES)) for path in files)
    raise_all(find_bad_files(app, release / FILES, names))
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in (*sorted(release.glob("*.json")), *wheels, *files):
            member = tarfile.TarInfo(str(path.relative_to(release)))
            if path.is_symlink():
                member.type = tarfile.SYMTYPE
                member.linkname = os.readlink(path)
                archive.addfile(member)
                continue
            member.size = path.stat().st_size
            member.mode = 0o755 if path.stat().st_mode & 0o111 else 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)
