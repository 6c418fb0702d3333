"""The lock of a Python project: every package that it needs, pinned, with the hashes of its files.

A lock is a pylock.toml, or a requirements.txt with hashes; uv.lock and poetry.lock are exported to
that by the tools that made them. Which packages a host needs follows from its Python and machine.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from packaging.markers import Environment
from packaging.pylock import Pylock, PylockSelectError, PylockUnsupportedVersionError
from packaging.pylock import PylockValidationError as WrongPylock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name

from provision.errors import HostFailed, ToolkitError
from provision.invoke_line import invoke_line
from provision.release.target import Target

NAMES = ("pylock.toml", "uv.lock", "poetry.lock", "requirements.txt")  # the first that is there
PIP_HASHES = ("sha256", "sha384", "sha512")
OURS = canonicalize_name("gearman_py")
EXPORTS: Mapping[str, tuple[str, ...]] = {
    "uv.lock": (
        *("uv", "export", "--frozen", "--no-dev", "--no-emit-project", "--no-header"),
        *("--no-annotate", "--quiet", "--format", "requirements-txt"),
    ),
    "poetry.lock": ("poetry", "export", "--only", "main", "--format", "requirements.txt"),
}
TO_PIP = re.compile(r"--(index-url|extra-index-url|find-links|trusted-host|pre)\b|-i\b|-f\b")
ITSELF = re.compile(r"(-e\s+)?(\.|file:\S+)(\s|$)")  # the project, which is built, not downloaded


@dataclass(frozen=True)
class LockedPackage:
    """A package: its pin, and the hashes of the files that it may come as."""

    name: str  # as packaging normalizes it
    version: str
    hashes: tuple[str, ...]  # "sha256:..."

    def __str__(self) -> str:
        return " ".join((f"{self.name}=={self.version}", *(f"--hash={h}" for h in self.hashes)))


@dataclass(frozen=True)
class PackageLock:
    """What a lock says for one kind of host. ``options``: lines that are meant for pip."""

    packages: tuple[LockedPackage, ...]
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As pip reads it."""
        return "".join(f"{line}\n" for line in (*self.options, *map(str, self.packages)))


def find_lock(folder: Path) -> Path | None:
    """The lock in a project's folder."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read_lock(lock: Path, target: Target) -> PackageLock:
    """What a lock says for hosts of this kind. Raises :class:`ToolkitError`."""
    if lock.name in EXPORTS:
        return _read_requirements(_export(lock), lock, target)
    text = lock.read_text(errors="replace")
    if lock.suffix == ".toml":
        return PackageLock(tuple(_read_pylock(text, lock, target)))
    return _read_requirements(text, lock, target)


# -- pylock.toml ------------------------------------------------------------------------


def _read_pylock(text: str, lock: Path, target: Target) -> Iterator[LockedPackage]:
    try:
        pylock = Pylock.from_dict(tomllib.loads(text))
        chosen = list(
            pylock.select(
                environment=cast(Environment, environments(target)[0]), tags=tags_of(target)
            )
        )
    except PylockSelectError as error:
        raise HostFailed(f"{lock}: for {target}: {error}") from None
    except (ValueError, WrongPylock, PylockUnsupportedVersionError) as error:
        raise ToolkitError(f"{lock}: {error}") from None
    for package, _ in chosen:
        if package.version is None or not (package.wheels or package.sdist):
            if package.name == OURS or package.directory:
                continue  # this project itself, or gearman_py from a checkout
            raise ToolkitError(
                f"{lock}: {package.name} does not come from an index: build its wheel, and put it "
                "where pip finds it (find-links)"
            )
        files = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
        hashes = dict.fromkeys(
            f"{kind}:{value}"
            for file in files
            for kind, value in file.hashes.items()
            if kind in PIP_HASHES
        )
        yield LockedPackage(package.name, str(package.version), tuple(hashes))


# -- requirements.txt -------------------------------------------------------------------


def _read_requirements(text: str, lock: Path, target: Target) -> PackageLock:
    packages: dict[str, LockedPackage] = {}
    options: list[str] = []
    found = list(_parse_requirements(text, lock))
    for environment in environments(target):
        for requirement, hashes in found:
            if isinstance(requirement, str):
                options.append(requirement)
            elif requirement.marker is None or requirement.marker.evaluate(environment):
                name = canonicalize_name(requirement.name)
                (pin,) = requirement.specifier
                packages.setdefault(name, LockedPackage(name, pin.version, hashes))
    return PackageLock(tuple(packages.values()), tuple(dict.fromkeys(options)))


def _parse_requirements(
    text: str, lock: Path
) -> Iterator[tuple[Requirement | str, tuple[str, ...]]]:
    """Each requirement with its hashes; or an option for pip."""
    for number, line in _logical_lines(text):
        where = f"{lock}:{number}"
        if TO_PIP.match(line):
            yield line, ()
            continue
        words, *hashes = re.split(r"\s+--hash[=\s]\s*", line)
        if ITSELF.match(words):
            continue
        if words.startswith("-"):
            raise ToolkitError(f"{where}: `{words}` cannot be checked by a hash: leave it out")
        try:
            requirement = Requirement(words)
        except InvalidRequirement as error:
            raise ToolkitError(f"{where}: {str(error).splitlines()[0]}") from None
        pinned = [each.operator for each in requirement.specifier] == ["=="]
        if not (pinned and hashes):
            if canonicalize_name(requirement.name) == OURS:
                continue  # it comes from this checkout
            raise ToolkitError(
                f"{where}: {requirement.name} has no {'hash' if pinned else 'exact version'}: "
                f"`{invoke_line('lock', '--app', 'NAME')}` makes a lock that has"
            )
        yield requirement, tuple(each.strip() for each in hashes)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines joined where they go on, without comments; with the number of the first."""
    begun, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if begun else number
        begun += re.sub(r"(^|\s)#.*", "", line).strip()
        if begun.endswith("\\"):
            begun = begun[:-1].rstrip() + " "
        elif begun:
            yield first, begun.strip()
            begun = ""
    if begun.strip():
        yield first, begun.strip()


# -- locks of other tools ---------------------------------------------------------------


def _export(lock: Path) -> str:
    tool, *arguments = EXPORTS[lock.name]
    command = [find_tool(tool, f"{lock}: "), *arguments]
    done = subprocess.run(command, cwd=lock.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        why = said[-1].strip()
        if "command export does not exist" in said[0]:
            why = "it takes poetry-plugin-export (`poetry self add poetry-plugin-export`)"
        raise ToolkitError(f"{lock}: `{tool} export` failed: {why}")
    return done.stdout


def find_tool(name: str, before: str = "") -> str:
    """A tool beside this Python, or on PATH. Raises :class:`ToolkitError`."""
    if found := shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name):
        return found
    raise ToolkitError(f"{before}{name} is not installed here; `pipx install {name}`")


# -- kinds of hosts ---------------------------------------------------------------------


def environments(target: Target) -> list[dict[str, str]]:
    """What markers are asked about such a host: as the last patch of its Python, and the first."""
    short = ".".join(map(str, target.python))
    return [
        {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": target.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": short,
            "sys_platform": "linux",
        }
        for full in (f"{short}.99", f"{short}.0")
    ]


def tags_of(target: Target) -> list[Tag]:
    """The tags of wheels that such a host takes, best first."""
    platforms = [*target.platforms, f"linux_{target.machine}"]
    interpreter = f"cp{''.join(map(str, target.python))}"
    return [
        *cpython_tags(target.python, platforms=platforms),
        *compatible_tags(target.python, interpreter, platforms),
    ]
