"""Releases on a host: unpacked as they come, whole before they have their name, removed."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator
from typing import Any

from provision.agent.bytecode import note_bytecode, take_bytecode
from provision.agent.command import run_command, try_command
from provision.agent.files import (
    Content,
    Failure,
    copy_content,
    remove_path,
    sync_folder,
    write_file,
)
from provision.agent.installed import find_damage, list_files, why_bad
from provision.agent.link import CHUNK_SIZE, FrameLink
from provision.agent.processes import began_at, is_run_from, own_pids
from provision.agent.signed import must_be_signed, received_whole

MARKS_KEPT = 50
SELINUX = "/sys/fs/selinux/enforce"  # is there where SELinux is on
IMPORT_ALL = (
    "import importlib, importlib.metadata as m\n"
    "names = [name for name in m.packages_distributions() if name.isidentifier()]\n"
    "late = []\n"
    "for name in names:\n"
    "    try: importlib.import_module(name)\n"
    "    except ImportError: late.append(name)  # such as psycopg_binary, before psycopg\n"
    "for name in late: importlib.import_module(name)\n"
)
# Installs wheels into a venv as `python -m installer` of that venv would. It is run with the host's
# Python, without site: that of the venv would run what the .pth files in it say.
INSTALL = (
    "import runpy, sys\n"
    "venv, installer = sys.argv[1:3]\n"
    "del sys.argv[1:3]\n"
    "sys.path.insert(0, installer)\n"
    "sys.prefix = sys.exec_prefix = venv\n"
    "sys.executable = f'{venv}/bin/python'\n"
    "runpy.run_module('installer', run_name='__main__', alter_sys=True)\n"
)


def unpack_release(link: FrameLink, content: Content, root: str, id: str, digest: str) -> None:
    """Unpack a release as it comes, rename it when it came whole, and make its venv in place.

    One that is whole is left alone: a plan is older than the lock, and another deploy may have
    staged it since. By now it may be what runs. One that is not gives way to the new one, which
    notes what ran from it.
    """
    folder = _release_folder(root, id)
    if os.path.exists(f"{folder}/.complete") and not find_damage(folder):
        return
    signed = must_be_signed(root, id, digest)
    half = partial = f"{folder}.partial"
    for name in os.listdir(f"{root}/releases"):
        if _is_left(f"{root}/releases/{name}"):
            shutil.rmtree(f"{root}/releases/{name}", ignore_errors=True)
    try:
        if signed:
            with received_whole(content, f"{root}/releases", digest) as tar:
                _make_folder(partial)
                _unpack_tar(tar, partial)
        else:
            _make_folder(partial)
            _unpack_tar(content, partial)
            content.verify_digest(digest)
        if os.path.isdir(f"{folder}/units"):
            shutil.copytree(f"{folder}/units", f"{partial}/units")
        else:
            _make_folder(f"{partial}/units")
        _write_lines(
            f"{partial}/.before", [f"{pid} {began_at(pid)}" for pid in _running_from(folder)]
        )
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
        half = folder
        if os.path.isdir(f"{folder}/wheels") or not os.path.isdir(f"{folder}/app"):
            _make_venv(link, folder, root)
        if os.path.exists(SELINUX):  # where programs of units need the context of programs
            run_command(link, ["restorecon", "-R", folder])
        run_command(link, ["sync", "--file-system", folder])
        _write_lines(f"{folder}/.complete", list_files(folder))
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    sync_folder(folder)
    sync_folder(f"{root}/releases")


def remove_release(link: FrameLink, content: Content, root: str, id: str) -> None:
    """Remove a release that nothing runs, but not that it is bad.

    The mark of a whole one goes first: half of one is none.
    """
    folder = _release_folder(root, id)
    remove_path(link, content, f"{folder}/.complete")
    if why_bad(folder) is None:
        shutil.rmtree(folder)
    else:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name != ".bad":
                os.unlink(entry.path)
        _limit_marks(f"{root}/releases")
    sync_folder(f"{root}/releases")


def _limit_marks(folder: str) -> None:
    """Of bad releases that are removed remember the latest."""
    found = (each.path for each in os.scandir(folder) if each.is_dir(follow_symlinks=False))
    marks = [each for each in found if os.listdir(each) == [".bad"]]
    marks.sort(key=lambda each: os.stat(f"{each}/.bad").st_mtime)
    for oldest in marks[:-MARKS_KEPT]:
        shutil.rmtree(oldest)


def mark_bad(link: FrameLink, content: Content, root: str, id: str) -> None:
    """Mark a release as bad; the content says why."""
    path = f"{_release_folder(root, id)}/.bad"
    write_file(link, content, path, owner="root", group="root", mode="0644")


def unmark_bad(link: FrameLink, content: Content, root: str, id: str) -> None:
    """Take the mark away: someone wants to try it again."""
    remove_path(link, content, f"{_release_folder(root, id)}/.bad")


def _release_folder(root: str, id: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", id):
        raise Failure(f"{id!r} is not a valid release name")
    return f"{root}/releases/{id}"


def _running_from(folder: str) -> list[int]:
    return [pid for pid in own_pids() if is_run_from(pid, folder)]


def _is_left(folder: str) -> bool:
    """Whether a killed deploy left this half made."""
    ours = os.path.exists(f"{folder}/MANIFEST.json")
    half = ours and not os.path.exists(f"{folder}/.complete") and not _running_from(folder)
    return half or folder.endswith(".partial")


def _write_lines(path: str, lines: list[str]) -> None:
    with open(path, "wb") as mark:
        mark.write(os.fsencode("\n".join(lines)))
        mark.flush()
        os.fsync(mark.fileno())


def _unpack_tar(content: Any, folder: str) -> None:
    with tarfile.open(fileobj=content, mode="r|", bufsize=CHUNK_SIZE) as archive:
        for member in archive:
            parts = member.name.split("/")
            if parts[0] == "app":
                _check_app_member(member)
            elif not member.isreg() or not all(re.fullmatch(r"\w[\w.+-]*", part) for part in parts):
                raise Failure(
                    f"{member.name!r} in the release is not a regular file with a plain name"
                )
            path = folder
            for part in parts[:-1]:
                path = f"{path}/{part}"
                if os.path.islink(path):
                    raise Failure(f"{member.name!r} in the release is reached through a link")
                if not os.path.isdir(path):
                    _make_folder(path)
            if member.issym():
                os.symlink(member.linkname, f"{path}/{parts[-1]}")
                continue
            with open(f"{path}/{parts[-1]}", "xb", buffering=0) as target:
                os.fchmod(target.fileno(), 0o755 if member.mode & 0o100 else 0o644)
                copy_content(archive.extractfile(member), target)


def _check_app_member(member: tarfile.TarInfo) -> None:
    """A file of an app may have any name, and be a link to another one of it."""
    parts = member.name.split("/")
    place = os.path.normpath(f"{os.path.dirname(member.name)}/{member.linkname}")
    inside = not os.path.isabs(member.linkname) and place.split("/")[0] == "app"
    kind = member.isreg() or (member.issym() and inside)
    if not kind or len(parts) < 2 or {"", ".", ".."} & set(parts):
        raise Failure(
            f"{member.name!r} in the release is neither a file of the app nor a link to one"
        )


def _make_folder(path: str) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103  # services that are not root read it


@contextlib.contextmanager
def _no_links(folder: str) -> Iterator[None]:
    """Meanwhile a folder has none of its links, or a wheel's program would go where they lead.

    That is to the Python of the host. Raises Failure if there is a program of the same name.
    """
    paths = [each.path for each in os.scandir(folder) if each.is_symlink()]
    links = {path: os.readlink(path) for path in paths}
    for path in links:
        os.unlink(path)
    yield
    for path, target in links.items():
        if os.path.lexists(path):
            raise Failure(f"a wheel brings {os.path.basename(path)}, which is the venv's own")
        os.symlink(target, path)


def _make_venv(link: FrameLink, folder: str, root: str) -> None:
    """Install the wheels of a release. Nothing that an app brings runs here, as root."""
    venv = f"{folder}/venv"
    installer = glob.glob(f"{folder}/installer/installer-*.whl")
    if not installer:
        raise Failure("the release has no installer: an older toolkit built it; build it again")
    run_command(link, [sys.executable, "-I", "-m", "venv", "--without-pip", venv])
    isolated = [sys.executable, "-I", "-S"]
    install = ["-c", INSTALL, venv, installer[0], "--no-compile-bytecode", "--overwrite-existing"]
    wheels = sorted(glob.glob(f"{folder}/wheels/*.whl"))
    with _no_links(f"{venv}/bin"):
        run_command(link, [*isolated, *install, *wheels])
    take_bytecode(folder, root)
    try_command(link, [*isolated, "-m", "compileall", "-q", f"{venv}/lib"])  # the others
    note_bytecode(folder)
    if os.path.isdir(f"{folder}/app"):  # its worker is tried as a whole; its own files are found
        (site,) = glob.glob(f"{venv}/lib/python3*/site-packages")
        with open(f"{site}/app.pth", "w", encoding="utf-8") as path:
            os.fchmod(path.fileno(), 0o644)
            path.write(f"{folder}/app\n")
        return
    try:
        run_command(link, [f"{venv}/bin/python", "-I", "-c", IMPORT_ALL])
    except Failure as failure:
        raise Failure("its packages cannot be imported there", failure.output) from None
