"""What a host's agent can change. Only a deploy sends this file, after probe.py.

The lock comes first: a flock, which the kernel frees when this process ends, however it ends.
It ends when the operator's side closes, or says nothing for ``patience`` seconds; a command
that runs then is stopped. So no lock is ever stale and nothing goes on behind an operator's back.

Nothing is half done under its final name: files and links are made beside it, owned and moded
before they have content, synced, and renamed. The same rules as in probe.py: sent as source,
the standard library alone, Python 3.9. The operations are written in provision/messages.py.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from provision.agent.probe import COMMANDS, ENVIRONMENT, PIECE, Gone, Link

PREFIX = ".gp-"  # of what is not finished; swept when found under the lock
DEADLINE = 900.0  # seconds for one command
LAST_WORDS = 1 << 16  # bytes of a command's output that are kept
GRACE = 5.0  # seconds between asking a command to stop and stopping it

APT = (
    *("apt-get", "install", "--yes", "--no-install-recommends"),
    *("-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"),
)
IMPORT_ALL = (
    "import importlib, importlib.metadata as m\n"
    "for name in m.packages_distributions():\n"
    "    if name.isidentifier(): importlib.import_module(name)\n"
)

held: list[int] = []  # the lock's descriptor: open as long as this process lives
swept: set[str] = set()  # directories whose leftovers are gone


class Failure(Exception):
    """An operation failed: why, and the last that a command said."""

    def __init__(self, why: str, output: str = "") -> None:
        super().__init__(why)
        self.output = output


class Content:
    """What comes with an operation. A large one is only sent when it is asked for."""

    def __init__(self, link: Link, index: int, step: dict[str, Any], data: bytes) -> None:
        self._link = link
        self._index = index
        self._data = memoryview(data)
        self._later: bool = step["later"]  # not asked for yet
        self._left = 0  # of what was asked for
        self._digest = step["digest"]
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, none at the end: a file, as far as tarfile needs one."""
        if self._later:
            self._later = False
            self._link.send({"send": self._index})
            _, self._left = self._link.receive()
        if self._left:
            piece = self._link.read(min(size, self._left, PIECE))
            self._left -= len(piece)
        else:
            piece = bytes(self._data[:size])
            self._data = self._data[size:]
        self._hash.update(piece)
        return piece

    def verify(self, digest: str | None = None) -> None:
        """Read what is left. Raises :class:`Failure` unless all is what was sent, or wanted."""
        digest = digest or self._digest
        for _ in iter(lambda: self.read(PIECE), b""):
            pass
        if self._hash.hexdigest() != digest:
            raise Failure(
                f"its content arrived as sha256 {self._hash.hexdigest()[:12]}..., and should be "
                f"{digest[:12]}...: nothing was changed; try again"
            )

    def drain(self) -> None:
        """Read what is left of what was asked for, or the next frame would not be one."""
        while self._left:
            self.read(self._left)


# -- commands of the operator's side ----------------------------------------------------


def lock(link: Link, header: dict[str, Any], size: int) -> None:
    """Take the lock, or tell who has it. ``patience`` counts from then on."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(header["path"], flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.read(descriptor, PIECE).decode(errors="replace")
        os.close(descriptor)
        link.send({"holder": json.loads(told or "{}")})
        return
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(header["holder"]).encode(), 0)
    held.append(descriptor)
    link.patience = header["patience"]
    link.send({"holder": None})


def apply(link: Link, header: dict[str, Any], size: int) -> None:
    """Carry out operations in order, up to the first that fails; tell of each."""
    steps = []
    for _ in range(header["count"]):
        step, size = link.receive()
        steps.append((step, link.read(size)))
    for index, (step, data) in enumerate(steps):
        content = Content(link, index, step, data)
        outcome = _outcome(link, content, step)
        content.drain()
        link.send({"outcome": outcome})
        if outcome["error"] is not None:
            return


def _outcome(link: Link, content: Content, step: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    error, output = None, ""
    try:
        if not held:
            raise Failure("the host is not locked")
        OPERATIONS[step["kind"]](link, content, **step["arguments"])
    except Failure as failure:
        error, output = str(failure), failure.output
    except (OSError, tarfile.TarError, KeyError) as wrong:
        error = _explained(wrong)
    return {"seconds": time.monotonic() - start, "error": error, "output": output}


def _explained(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = error.filename2 or error.filename
        said = f"{error.strerror}: {os.fsdecode(place)}" if place else error.strerror
        return "the disk is full" if error.errno == errno.ENOSPC else said
    return f"{type(error).__name__}: {error}"


# -- files ------------------------------------------------------------------------------


@contextmanager
def _beside(path: str) -> Iterator[tuple[int, str, str]]:
    """The descriptor of a path's directory, a free name in it, and the path's own name.

    What is left at the free name afterwards is removed; the directory is synced.
    """
    folder, name = os.path.split(path)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    temporary = f"{PREFIX}{secrets.token_hex(8)}"
    try:
        mode = os.fstat(directory).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise Failure(f"everybody may write in {folder}: nothing of ours is safe there")
        _sweep(directory, folder)
        yield directory, temporary, name
        os.fsync(directory)
    finally:
        try:
            os.unlink(temporary, dir_fd=directory)
        except FileNotFoundError:
            pass
        os.close(directory)


def _sweep(directory: int, folder: str) -> None:
    """Remove what a killed deploy left: nobody else works here, for we have the lock."""
    if folder in swept:
        return
    swept.add(folder)
    for name in os.listdir(directory):
        if re.fullmatch(re.escape(PREFIX) + r"[0-9a-f]{16}", name):
            os.unlink(name, dir_fd=directory)


def _own(descriptor: int, owner: str, group: str, mode: str) -> None:
    # In this order: a change of owner takes the set-id bits away.
    try:
        os.fchown(descriptor, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise Failure(f"there is no user {owner}, or no group {group}") from None
    os.fchmod(descriptor, int(mode, 8))


def file(link: Link, content: Content, path: str, **attributes: str) -> None:
    with _beside(path) as (directory, temporary, name):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        with open(descriptor, "wb", buffering=0) as target:
            _own(descriptor, **attributes)
            _copy(content, target)
            content.verify()
            os.fsync(descriptor)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _copy(content: Any, target: Any) -> None:
    for piece in iter(lambda: content.read(PIECE), b""):
        left = memoryview(piece)
        while left:
            left = left[target.write(left) :]


def directory(link: Link, content: Content, path: str, **attributes: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    _attributes(path, os.O_DIRECTORY, attributes)
    _sync(os.path.dirname(path))


def attributes(link: Link, content: Content, path: str, **wanted: str) -> None:
    _attributes(path, os.O_NONBLOCK, wanted)


def _attributes(path: str, flag: int, wanted: dict[str, str]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flag)
    try:
        _own(descriptor, **wanted)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def symlink(link: Link, content: Content, path: str, target: str) -> None:
    with _beside(path) as (directory, temporary, name):
        os.symlink(target, temporary, dir_fd=directory)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def remove(link: Link, content: Content, path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    _sync(os.path.dirname(path))


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- a release --------------------------------------------------------------------------


def release(link: Link, content: Content, root: str, id: str, digest: str) -> None:
    """Unpack a release as it comes, rename it when it came whole, and make its venv in place."""
    if not re.fullmatch(r"\w[\w.+-]*", id):
        raise Failure(f"{id!r} is no name for a release")
    folder = f"{root}/releases/{id}"
    partial = f"{folder}.partial"
    for leftover in (folder, partial):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        _folder(partial)
        _unpack(content, partial)
        content.verify(digest)
        os.rename(partial, folder)
        _venv(link, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    os.sync()
    with open(f"{folder}/.complete", "wb") as mark:
        os.fsync(mark.fileno())
    _sync(folder)
    _sync(f"{root}/releases")


def _unpack(content: Content, folder: str) -> None:
    with tarfile.open(fileobj=cast(Any, content), mode="r|", bufsize=PIECE) as archive:
        for member in archive:
            parts = member.name.split("/")
            if not member.isreg() or not all(re.fullmatch(r"\w[\w.+-]*", part) for part in parts):
                raise Failure(f"{member.name!r} in the release is no plain file with a plain name")
            path = folder
            for part in parts[:-1]:
                path = f"{path}/{part}"
                if not os.path.isdir(path):
                    _folder(path)
            with open(f"{path}/{parts[-1]}", "xb", buffering=0) as target:
                os.fchmod(target.fileno(), 0o644)
                _copy(archive.extractfile(member), target)


def _folder(path: str) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103  # services that are not root read it


def _venv(link: Link, folder: str) -> None:
    python = f"{folder}/venv/bin/python"
    wheels = f"{folder}/wheels"
    pip = next((name for name in os.listdir(wheels) if name.startswith("pip-")), None)
    if pip is None:
        raise Failure("the release brings no pip")
    run(link, ["/usr/bin/python3", "-m", "venv", "--without-pip", f"{folder}/venv"])
    offline = ["--no-index", "--no-deps", "--require-hashes", "--find-links", wheels]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    requirements = ["--requirement", f"{folder}/requirements.txt"]
    run(link, [python, f"{wheels}/{pip}/pip", "install", *quiet, *offline, *requirements])
    run(link, [python, "-I", "-c", IMPORT_ALL])


# -- the system -------------------------------------------------------------------------


def packages(link: Link, content: Content, names: list[str]) -> None:
    try:
        run(link, [*APT, *names])
    except Failure:  # the lists of what there is may be old, or not there yet
        run(link, ["apt-get", "update"])
        run(link, [*APT, *names])


def group(link: Link, content: Content, name: str) -> None:
    run(link, ["groupadd", "--system", name])


def user(link: Link, content: Content, name: str, group: str, home: str, shell: str) -> None:
    wanted = ["--gid", group, "--home-dir", home, "--shell", shell, name]
    try:
        pwd.getpwnam(name)
    except KeyError:
        run(link, ["useradd", "--system", "--no-create-home", *wanted])
    else:
        run(link, ["usermod", *("--home" if each == "--home-dir" else each for each in wanted)])


def daemon_reload(link: Link, content: Content) -> None:
    run(link, ["systemctl", "daemon-reload"])


def unit(link: Link, content: Content, name: str, enabled: bool | None, action: str | None) -> None:
    if enabled is not None:
        run(link, ["systemctl", "enable" if enabled else "disable", name])
    if action in ("start", "restart"):
        # One that failed too often is not started again until this is forgotten.
        try:
            run(link, ["systemctl", "reset-failed", name])
        except Failure:
            pass
    if action is not None:
        try:
            run(link, ["systemctl", "--no-ask-password", action, name])
        except Failure as failure:
            journal = ["journalctl", "--unit", name, "--lines=10", "--output=cat", "--no-pager"]
            raise Failure(str(failure), run(link, journal) or failure.output) from failure


OPERATIONS: dict[str, Callable[..., None]] = {
    "packages": packages,
    "group": group,
    "user": user,
    "directory": directory,
    "file": file,
    "attributes": attributes,
    "link": symlink,
    "remove": remove,
    "release": release,
    "daemon_reload": daemon_reload,
    "unit": unit,
}


# -- commands of the host ---------------------------------------------------------------


def run(link: Link, argv: list[str], seconds: float = DEADLINE) -> str:
    """The last that a command said. Raises :class:`Failure` unless it ended well and in time.

    It is stopped, with all it started, when the operator's side is gone.
    """
    deadline = time.monotonic() + seconds
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        cwd="/",
        umask=0o022,
        start_new_session=True,
    )
    assert process.stdout  # noqa: S101  # for mypy: it is a pipe
    try:
        said = _listen(link, process, process.stdout.fileno(), deadline)
    except (Gone, subprocess.TimeoutExpired) as error:
        _stop(process)
        if isinstance(error, Gone):
            raise
        raise Failure(f"`{' '.join(argv[:3])}` was stopped after {seconds:.0f} s") from error
    finally:
        process.stdout.close()
    if process.returncode:
        raise Failure(f"`{' '.join(argv[:3])}` ended with {process.returncode}", said)
    return said


def _listen(link: Link, process: Any, output: int, deadline: float) -> str:
    """What it says until it ends: a service it started may keep its output open for ever."""
    said = b""
    open_ = True
    while process.poll() is None or open_:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, 0)
        if not open_:
            link.wait(seconds=0.01)
        elif link.wait(output, 0.5):
            piece = os.read(output, PIECE)
            said = (said + piece)[-LAST_WORDS:]
            open_ = bool(piece)
        else:
            open_ = process.poll() is None
    return said.decode(errors="backslashreplace").rstrip()


def _stop(process: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(GRACE)
            return
        except subprocess.TimeoutExpired:
            continue


COMMANDS.update({"lock": lock, "apply": apply})
