"""A release: everything a host needs to run gearman_py, in one tar, built on this machine.

It holds our wheel, with the accelerator if this machine can build it, the wheels we depend on (from
requirements.lock, by hash, for the host's Python, machine and libc), MANIFEST.json, and the wheel
of `installer`, which installs the others on the host: pip takes three times the CPU time. Hosts
need neither pip nor a package index. Same tree, lock and compiler make the same bytes, and a
release's id is made of them: what a host has already is never sent again. Built once for each kind
of host and kept under ``.cache/``; when nothing changed, this reads a few small files and runs
nothing.
"""

import glob
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from provision.atomic_write import write_atomically
from provision.errors import ToolkitError
from provision.file_lock import file_lock
from provision.release.accelerator import digest_without_it, find_obstacle
from provision.release.build_cache import mark_used, prune_oldest, prune_unused, read_digest
from provision.release.sbom import SBOM, make_sbom
from provision.release.target import OLDEST_PYTHON, Target, dotted_version
from provision.release.wheel_builders import PipFailed, build_wheel, run_pip

ROOT = Path(__file__).resolve().parents[2]
ON_HOSTS = "/opt/gearman"
# Of pyproject.toml: one release is for hosts of every kind.
EXTRAS = ("server", "schedules", "resize", "web")
NO_EXTRAS: tuple[str, ...] = ()  # more of them, for what only some fleets use
INSTALLER = "installer"  # a package, and the folder of a release that its wheel is in
BUILDERS = ("accelerator", "build", "sbom", "target", "wheel_builders")  # modules
RELEASES_KEPT = 8  # releases here: one deploy may need a few, for hosts of several kinds


@dataclass(frozen=True)
class Artifact:
    """A release: its id is the version and the first 12 digits of the tar's sha256.

    One without ``path`` is not on this machine, and can only be used where it is already.
    ``digest``: if it was read; ``sent_digest`` reads it. ``source``: what it is made of apart from
    its accelerator, if it was built here.
    """

    id: str
    digest: str = field(compare=False)
    size: int
    path: Path | None
    apps: tuple[tuple[str, "Artifact"], ...] = ()  # by name, that go with it on a host
    source: str = field(default="", compare=False)

    @property
    def sent_digest(self) -> str:
        """The tar's sha256. Raises :class:`ToolkitError` if its id is of other bytes."""
        return self.digest or (read_digest(self.path) if self.path else "")

    def app(self, name: str) -> "Artifact":
        """The release of an app; one that is nowhere, if none was chosen."""
        return dict(self.apps).get(name, Artifact("none", "", 0, None))


def built_release(
    target: Target, root: Path = ROOT, extras: Sequence[str] = NO_EXTRAS, *, pure: bool = False
) -> Artifact | None:
    """The release of this tree for ``target``, with ``extras``, if it was built before."""
    return noted_artifact(_note_path(target, root, extras, _platforms(target, pure)), root)


def noted_artifact(note: Path, root: Path) -> Artifact | None:
    """What a note of an earlier build says was built, if it is still there."""
    if not note.exists():
        return None
    known = json.loads(note.read_text())
    path = root / known["path"]
    if not path.exists():
        return None
    mark_used(note)
    mark_used(path)
    return Artifact(**known | {"path": path})


def named_release(id: str, root: Path = ROOT) -> Artifact:
    """The release ``id``, from this machine if it is here."""
    path = root / ".cache" / "releases" / f"{id}.tar"
    if not path.exists():
        return Artifact(id, "", 0, None)
    return Artifact(id, "", path.stat().st_size, path)


def build_release(
    target: Target, root: Path = ROOT, extras: Sequence[str] = NO_EXTRAS, *, pure: bool = False
) -> Artifact:
    """The release of this tree for ``target``, with ``extras``, built unless it was before.

    It has the accelerator, if this machine can build it; not if it is to be ``pure``.
    Raises :class:`ToolkitError` when a wheel cannot be built or had.
    """
    platforms = _platforms(target, pure)
    note = _note_path(target, root, extras, platforms)
    if artifact := noted_artifact(note, root):
        return artifact
    with file_lock(note.parent / "lock"):  # other runs from this checkout build it too
        if artifact := noted_artifact(note, root):
            return artifact
        with tempfile.TemporaryDirectory(dir=note.parent) as scratch:
            artifact = _build_in(target, root, extras, platforms, Path(scratch))
        known = {name: getattr(artifact, name) for name in ("id", "digest", "size", "source")}
        known |= {"path": f".cache/releases/{artifact.id}.tar"}
        write_atomically(note, json.dumps(known).encode())
        prune_oldest(note.parent, "*.tar", RELEASES_KEPT)
        prune_unused(note.parent, "*.json", "tmp*")
    return artifact


def _platforms(target: Target, pure: bool) -> Sequence[str]:
    """The platform tags that an accelerator may have; none if it is to be built without."""
    return () if pure or find_obstacle(target) else target.platforms


def _note_path(target: Target, root: Path, extras: Sequence[str], platforms: Sequence[str]) -> Path:
    """Where it is written down which release a tree makes for a target."""
    kind = "" if platforms else "-pure"
    return root / ".cache" / "releases" / f"{_digest_of_inputs(target, root, extras)}{kind}.json"


def _digest_of_inputs(target: Target, root: Path, extras: Sequence[str]) -> str:
    """Of all that the tar's bytes follow from, and of nothing else: a new id is a restart."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    described = [project["build-system"], project["project"], project["tool"]["hatch"]]
    stated = repr((target, described, list(locked_wheels(root, extras))))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"].get("force-include", ())
    inputs = [str(Path(__file__).with_name(f"{name}.py")) for name in BUILDERS]
    inputs += [f"{root}/LICENSE", *glob.glob(f"{root}/packages/*.py")]
    inputs += (f"{root}/{each}" for each in included)
    for folder, _, names in os.walk(root / "gearman_py"):
        inputs += (f"{folder}/{name}" for name in names if not name.endswith(".pyc"))
    hashed = hashlib.sha256(stated.encode())
    for path in sorted(inputs):
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o111
            hashed.update(f"\0{path.removeprefix(f'{root}/')}\0{mode}\0".encode() + file.read())
    return hashed.hexdigest()[:16]


def _build_in(
    target: Target, root: Path, extras: Sequence[str], platforms: Sequence[str], scratch: Path
) -> Artifact:
    wheels = scratch / "wheels"
    shutil.copytree(fetch_wheels(target, "".join(locked_wheels(root, extras)), root), wheels)
    build_wheel(root, wheels, platforms)
    place_installer(scratch)
    digests = list_wheels(scratch)
    own = next(name for name in digests if name.startswith("gearman_py-"))
    version = own.split("-")[1]
    source = digest_without_it(wheels, digests, root)
    manifest: dict[str, object] = {"version": version, "target": asdict(target)}
    manifest |= {"source": source, "accelerated": bool(platforms), "wheels": digests}
    (scratch / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")
    tar = scratch / "release.tar"
    (scratch / SBOM).write_bytes(make_sbom("gearman_py", version, scratch))
    parts = (*scratch.glob(f"{INSTALLER}/*"), *(wheels / name for name in digests))
    names = ["MANIFEST.json", SBOM, *(str(part.relative_to(scratch)) for part in parts)]
    _pack_tar(tar, scratch, names)
    digest = sha256_of(tar)
    name = f"{version}-{digest[:12]}"
    path = root / ".cache" / "releases" / f"{name}.tar"
    size = tar.stat().st_size
    tar.rename(path)
    return Artifact(name, digest, size, path, source=source)


def fetch_wheels(target: Target, locked: str, root: Path = ROOT, *options: str) -> Path:
    """A folder with the wheels of these lines of a lock, fetched unless they are here, and whole.

    ``options``: more of pip's. Raises :class:`PipFailed`.
    """
    key = hashlib.sha256(f"{target}\n{locked}".encode()).hexdigest()[:16]
    folder = root / ".cache" / "wheels" / key
    with kept_wheels(folder):
        if folder.exists() and not all(sha256_of(each) in locked for each in folder.iterdir()):
            shutil.rmtree(folder)  # changed since they came from the index
        if not folder.exists():
            _download_wheels(folder, target, locked, options)
    return folder


@contextmanager
def kept_wheels(folder: Path) -> Iterator[None]:
    """Hold the lock of all folders of wheels, and keep this one, which is there at the end."""
    with file_lock(folder.parent / "lock"):
        yield
        mark_used(folder)
        prune_unused(folder.parent, "[0-9a-f]*", "tmp*")


def _download_wheels(folder: Path, target: Target, locked: str, options: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(locked)
        made = Path(scratch) / "wheels"
        made.mkdir()
        try:
            run_pip(
                *("download", "--require-hashes", "--only-binary=:all:", *options),
                *("--dest", str(made), "--requirement", str(requirements)),
                *("--implementation", "cp", "--python-version", dotted_version(target.python)),
                *(f"--platform={tag}" for tag in target.platforms),
            )
        except PipFailed as error:
            raise PipFailed(f"no wheels for {target}; {error}") from None
        made.rename(folder)


def place_installer(release: Path) -> None:
    """Put the wheel of the installer beside the wheels that it is to install."""
    (release / INSTALLER).mkdir()
    (wheel,) = (release / "wheels").glob(f"{INSTALLER}-*.whl")
    wheel.rename(release / INSTALLER / wheel.name)


def list_wheels(release: Path) -> dict[str, str]:
    """The wheels that a release installs, by name, with their digests."""
    return {path.name: sha256_of(path) for path in sorted((release / "wheels").iterdir())}


def locked_wheels(root: Path, more: Sequence[str] = ()) -> Iterator[str]:
    """The lock's lines for the installer and for what pyproject.toml says that hosts need."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    chosen_extras = (*EXTRAS, *more)
    wanted = [*project["dependencies"], *(need for each in chosen_extras for need in extras[each])]
    names = _with_needed((*wanted, INSTALLER))
    lock = root / "requirements.lock"
    # Without markers: pip would judge them by the Python that it runs on, not by the host's.
    text = re.sub(r"^(\S+==\S+) ; .*?( \\)?$", r"\1\2", lock.read_text(), flags=re.MULTILINE)
    entries = re.findall(r"^[\w.-]+==.*(?:\n[ \t].*)*\n?", text, re.MULTILINE)
    chosen = [entry for entry in entries if _normal_name(entry.split("==")[0]) in names]
    if missing := names - {_normal_name(entry.split("==")[0]) for entry in chosen}:
        raise ToolkitError(f"{lock}: {', '.join(sorted(missing))} not locked; run .ci/lock")
    yield from chosen


@cache
def _with_needed(wanted: tuple[str, ...]) -> frozenset[str]:
    """The names of these packages and of what they need in turn, as they are installed here."""
    found, left = set[tuple[str, frozenset[str]]](), list(map(Requirement, wanted))
    while left:
        package = left.pop()
        known = _normal_name(package.name), frozenset(package.extras)
        if known in found:
            continue
        found.add(known)
        try:
            needs = map(Requirement, metadata.requires(package.name) or ())
        except metadata.PackageNotFoundError:
            continue
        left += (each for each in needs if _is_needed(each, package.extras))
    return frozenset(name for name, _ in found)


def _is_needed(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether it is on the oldest Python, which the lock is for; a newer one may need less."""
    oldest = dotted_version(OLDEST_PYTHON)
    python = {"python_version": oldest, "python_full_version": f"{oldest}.0"}
    marker = requirement.marker
    return not marker or any(marker.evaluate(python | {"extra": each}) for each in ("", *extras))


def _pack_tar(tar: Path, folder: Path, names: Iterable[str]) -> None:
    """A tar of ``names`` whose bytes depend on their content alone."""
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            path = folder / name
            member = tarfile.TarInfo(name)
            member.size = path.stat().st_size
            member.mode = 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _normal_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
