"""Releases on a host: unpacked as they come, whole before they have their name, removed."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from typing import Any, cast

from provision.agent.command import run
from provision.agent.files import Content, Failure, copy, file, remove, sync
from provision.agent.installed import damage, listing
from provision.agent.link import PIECE, Link
from provision.agent.processes import began, pids, program

IMPORT_ALL = (
    "import importlib, importlib.metadata as m\n"
    "for name in m.packages_distributions():\n"
    "    if name.isidentifier(): importlib.import_module(name)\n"
)


def release(link: Link, content: Content, root: str, id: str, digest: str) -> None:
    """Unpack a release as it comes, rename it when it came whole, and make its venv in place.

    One that is whole is left alone: a plan is older than the lock, and another deploy may have
    staged it since. By now it may be what runs. One that is not gives way to the new one, which
    notes what ran from it.
    """
    folder = _place(root, id)
    if os.path.exists(f"{folder}/.complete") and not damage(folder):
        return
    half = partial = f"{folder}.partial"
    for name in os.listdir(f"{root}/releases"):
        if _is_left(f"{root}/releases/{name}"):
            shutil.rmtree(f"{root}/releases/{name}", ignore_errors=True)
    try:
        _folder(partial)
        _unpack(content, partial)
        content.verify(digest)
        if os.path.isdir(f"{folder}/units"):
            shutil.copytree(f"{folder}/units", f"{partial}/units")
        else:
            _folder(f"{partial}/units")
        _note(f"{partial}/.before", [f"{pid} {began(pid)}" for pid in _running(folder)])
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
        half = folder
        _venv(link, folder)
        run(link, ["sync", "--file-system", folder])
        _note(f"{folder}/.complete", listing(folder))
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    sync(folder)
    sync(f"{root}/releases")


def prune(link: Link, content: Content, root: str, id: str) -> None:
    """Remove a release that nothing runs. Its mark goes first: half of one is none."""
    folder = _place(root, id)
    remove(link, content, f"{folder}/.complete")
    shutil.rmtree(folder)
    sync(f"{root}/releases")


def condemn(link: Link, content: Content, root: str, id: str) -> None:
    """Mark a release as bad; the content says why."""
    path = f"{_place(root, id)}/.bad"
    file(link, content, path, owner="root", group="root", mode="0644")


def acquit(link: Link, content: Content, root: str, id: str) -> None:
    """Take the mark away: somebody wants to try it again."""
    remove(link, content, f"{_place(root, id)}/.bad")


def _place(root: str, id: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", id):
        raise Failure(f"{id!r} is not a valid release name")
    return f"{root}/releases/{id}"


def _running(folder: str) -> list[int]:
    return [pid for pid in pids() if program(pid).startswith(f"{folder}/")]


def _is_left(folder: str) -> bool:
    """Whether a killed deploy left this half made."""
    ours = os.path.exists(f"{folder}/MANIFEST.json")
    half = ours and not os.path.exists(f"{folder}/.complete") and not _running(folder)
    return half or folder.endswith(".partial")


def _note(path: str, lines: list[str]) -> None:
    with open(path, "wb") as mark:
        mark.write(os.fsencode("\n".join(lines)))
        mark.flush()
        os.fsync(mark.fileno())


def _unpack(content: Content, folder: str) -> None:
    with tarfile.open(fileobj=cast(Any, content), mode="r|", bufsize=PIECE) as archive:
        for member in archive:
            parts = member.name.split("/")
            if not member.isreg() or not all(re.fullmatch(r"\w[\w.+-]*", part) for part in parts):
                raise Failure(
                    f"{member.name!r} in the release is not a regular file with a plain name"
                )
            path = folder
            for part in parts[:-1]:
                path = f"{path}/{part}"
                if not os.path.isdir(path):
                    _folder(path)
            with open(f"{path}/{parts[-1]}", "xb", buffering=0) as target:
                os.fchmod(target.fileno(), 0o644)
                copy(archive.extractfile(member), target)


def _folder(path: str) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103  # services that are not root read it


def _venv(link: Link, folder: str) -> None:
    python = f"{folder}/venv/bin/python"
    wheels = f"{folder}/wheels"
    pip = next((name for name in os.listdir(wheels) if name.startswith("pip-")), None)
    if pip is None:
        raise Failure("the release brings no pip")
    run(link, ["/usr/bin/python3", "-I", "-m", "venv", "--without-pip", f"{folder}/venv"])
    offline = ["--no-index", "--no-deps", "--require-hashes", "--find-links", wheels]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    requirements = ["--requirement", f"{folder}/requirements.txt"]
    run(link, [python, f"{wheels}/{pip}/pip", "install", *quiet, *offline, *requirements])
    try:
        run(link, [python, "-I", "-c", IMPORT_ALL])
    except Failure as failure:
        raise Failure("what it brings cannot be imported there", failure.output) from None
