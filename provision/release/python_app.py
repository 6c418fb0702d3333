"""The Python half of an app's release: its wheel, and those of all that its lock names.

They are made for one kind of host: downloaded, or built here from source where an index has no
wheel, each checked by the lock's hash. gearman_py comes with them: the version that the lock
names, else the one of this checkout.
"""

import hashlib
import platform
import re
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from provision.errors import HostFailed, ToolkitError
from provision.invoke_line import invoke_line
from provision.release.build import (
    INSTALLER,
    ROOT,
    build_release,
    fetch_wheels,
    kept_wheels,
    list_wheels,
)
from provision.release.python_lock import (
    OURS,
    LockedPackage,
    PackageLock,
    environments,
    find_lock,
    read_lock,
    tags_of,
)
from provision.release.target import Target
from provision.release.wheel_builders import PipFailed, run_pip
from provision.release.wheel_file import read_wheel

ALWAYS = (OURS, "uvloop")  # of our own release; what the lock names comes from there
ANY = Target((3, 11), "x86_64", (2, 36))  # to read a lock before hosts are asked
AGAIN = {"uv.lock": "`uv lock`", "poetry.lock": "`poetry lock`"}
ABSENT = re.compile(r"No matching distribution|Could not find a version")
DIFFERENT = re.compile(r"DO NOT MATCH THE HASHES.*?\n\s*(\S+).*?Got\s+(\w+)", re.DOTALL)


def require_lock(name: str, project: Path, lock: Path | None = None) -> Path:
    """The lock of app ``name``, which can be read. Raises :class:`ToolkitError`."""
    found = lock or find_lock(project)
    if found is None or not found.is_file():
        missing = f"{lock} does not exist" if lock else "it has no lock of its dependencies"
        raise ToolkitError(f"{missing}: `{invoke_line('lock', '--app', name)}` makes one")
    try:
        read_lock(found, ANY)
    except HostFailed:
        pass  # which speaks of such a host alone
    return found


def check_dependencies(name: str, project: Path, lock: Path) -> None:
    """Raises :class:`ToolkitError` if the lock does not have what the project depends on.

    ``project``: a folder with a pyproject.toml, or a wheel.
    """
    try:
        locked = {each.name: each.version for each in read_lock(lock, ANY).packages}
    except HostFailed:
        return  # which speaks of such a host alone
    again = AGAIN.get(lock.name, f"`{invoke_line('lock', '--app', name)}`")
    whose = "pyproject.toml" if project.is_dir() else project.name
    problems = list[str]()
    for needed in _dependencies(project):
        version = locked.get(canonicalize_name(needed.name))
        if version is None:
            problems.append(f"{needed.name}, which {whose} depends on, is not in it")
        elif not needed.specifier.contains(version, prereleases=True):
            problems.append(f"{whose} depends on {needed}, and it has {needed.name} {version}")
    if problems:
        raise ToolkitError(f"{lock}: {'; '.join(problems)}: {again} makes it again")


def _dependencies(project: Path) -> Iterator[Requirement]:
    """What the project says that it needs on hosts, but for gearman_py."""
    environment = environments(ANY)[0] | {"extra": ""}
    if project.is_dir():
        lines = _read_metadata(project).get("project", {}).get("dependencies", ())
    else:
        lines = map(str, read_wheel(project).requires_dist or ())
    for line in lines:
        try:
            needed = Requirement(line)
        except InvalidRequirement as error:
            problem = str(error).splitlines()[0]
            raise ToolkitError(f"{project / 'pyproject.toml'}: {line!r}: {problem}") from None
        meant = needed.marker is None or needed.marker.evaluate(environment)
        if meant and canonicalize_name(needed.name) != OURS:
            yield needed


def add_wheels(
    project: Path,
    lock: Path,
    target: Target,
    release: Path,
    *,
    wheel: Path | None = None,
    package: str = "",
) -> dict[str, object]:
    """Put the wheels into a release's folder; what its manifest says of them.

    The project is built, unless it is ``wheel``, or ``package`` of the lock, NAME==VERSION.

    Raises :class:`HostFailed` when there are none for such hosts, or :class:`ToolkitError`.
    """
    metadata = _read_metadata(project)
    _check_python(metadata, target)
    locked = read_lock(lock, target)
    if package:
        _find_locked(locked, package, lock)
    wheels = release / "wheels"
    wheels.mkdir()
    (release / INSTALLER).mkdir()
    _add_ours(target, release, leave_out={each.name for each in locked.packages})
    for fetched in _fetch_locked(locked, target):
        shutil.copy2(fetched, wheels)
    if wheel:
        if not parse_wheel_filename(wheel.name)[3] & set(tags_of(target)):
            raise HostFailed(f"{wheel.name} is not for {target}")
        shutil.copy2(wheel, wheels)
    elif "build-system" in metadata:
        _build_project(project, target, release)
    return {"target": asdict(target), "wheels": list_wheels(release)}


def _find_locked(locked: PackageLock, package: str, lock: Path) -> None:
    name, _, version = package.partition("==")
    found = [each.version for each in locked.packages if each.name == canonicalize_name(name)]
    if found != [version]:
        has = f"has {name} {found[0]}" if found else f"does not have {name}"
        again = invoke_line("lock", "--app", "NAME")
        raise ToolkitError(f"{lock} {has}, and its source is {package}: `{again}` mends that")


def _read_metadata(project: Path) -> dict[str, Any]:
    path = project / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except ValueError as error:
        raise ToolkitError(f"{path}: {error}") from None


def _check_python(metadata: dict[str, Any], target: Target) -> None:
    needed = metadata.get("project", {}).get("requires-python", "")
    versions = [each["python_full_version"] for each in environments(target)]
    if not any(SpecifierSet(needed).contains(version) for version in versions):
        raise HostFailed(f"it needs Python {needed}, and this host has {target}")


def _add_ours(target: Target, release: Path, leave_out: set[str]) -> None:
    path = build_release(target, pure=True).path  # whoever builds an app, it is the same
    assert path  # noqa: S101  # for mypy: it was built, or is here
    with tarfile.open(path) as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            wanted = folder == "wheels" and _name_of(name) in set(ALWAYS) - leave_out
            if wanted or folder == INSTALLER:
                content: Any = tar.extractfile(member)
                (release / member.name).write_bytes(content.read())


def _name_of(wheel: str) -> str:
    return canonicalize_name(wheel.partition("-")[0])


# -- what the lock names ----------------------------------------------------------------


def _fetch_locked(locked: PackageLock, target: Target) -> Iterator[Path]:
    """The wheels of a lock's packages: all at once, or one by one if some have to be built."""
    try:
        yield from _fetch(locked, target).iterdir() if locked.packages else ()
        return
    except _NoWheel:
        pass
    for package in locked.packages:
        one = PackageLock((package,), locked.options)
        try:
            yield from _fetch(one, target).iterdir()
        except _NoWheel:
            yield from _build_locked(one, target).iterdir()


class _NoWheel(ToolkitError):
    """The index has no wheel that fits."""


def _fetch(locked: PackageLock, target: Target) -> Path:
    try:
        return fetch_wheels(target, str(locked), ROOT, "--no-deps")
    except PipFailed as error:
        if found := DIFFERENT.search(str(error)):
            raise ToolkitError(
                f"{found[1]}: what the index has does not have a hash of the lock; it has sha256 "
                f"{found[2]}: find out why before you lock it again"
            ) from None
        if ABSENT.search(str(error)):
            raise _NoWheel(str(error)) from None
        raise


def _build_locked(one: PackageLock, target: Target) -> Path:
    """A folder with the wheel of a package, built here from its source unless that was done."""
    (package,) = one.packages
    key = hashlib.sha256(f"{target}{one}".encode()).hexdigest()[:16]
    folder = ROOT / ".cache" / "wheels" / f"built-{key}"
    with kept_wheels(folder):
        if not folder.exists():
            _build_wheel_of(package, one, target, folder)
    return folder


def _build_wheel_of(package: LockedPackage, one: PackageLock, target: Target, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        lock, made = Path(scratch, "requirements.txt"), Path(scratch, "wheels")
        lock.write_text(str(one))
        try:
            _run_pip_wheel(made, "--require-hashes", f"--no-binary={package.name}", "-r", str(lock))
        except PipFailed as error:
            if ABSENT.search(str(error)):
                raise HostFailed(
                    f"the index has neither a wheel of {package.name} {package.version} for "
                    f"{target} nor its source: lock a version that it has"
                ) from None
            raise
        _must_run_on(target, made)
        made.rename(folder)


def _build_project(project: Path, target: Target, release: Path) -> None:
    """The project's own wheel; its folder is left as it is."""
    with tempfile.TemporaryDirectory(dir=release) as scratch:
        copy, made = Path(scratch, "project"), Path(scratch, "wheels")
        shutil.copytree(project, copy, symlinks=True)
        _run_pip_wheel(made, str(copy))
        _must_run_on(target, made)
        for wheel in made.iterdir():
            wheel.rename(release / "wheels" / wheel.name)


def _run_pip_wheel(made: Path, *arguments: str) -> None:
    made.mkdir()
    run_pip("wheel", "--no-deps", "--wheel-dir", str(made), *arguments)


def _must_run_on(target: Target, made: Path) -> None:
    """Raises :class:`HostFailed` for a wheel that was built here, and is of no use there."""
    for wheel in made.iterdir():
        name, version, _, tags = parse_wheel_filename(wheel.name)
        native = any(tag.platform.startswith("linux_") for tag in tags)
        here = tuple(map(int, platform.libc_ver()[1].split(".")[:2]))
        if not tags & set(tags_of(target)) or (native and here > target.glibc):
            raise HostFailed(
                f"{name} {version} has no wheel for {target}, and one built on this machine is for "
                f"{wheel.stem.split('-', 2)[2]}: build its wheel on such a host, and put it where "
                "pip finds it (find-links)"
            )
