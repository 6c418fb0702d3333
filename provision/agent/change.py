"""What a host's agent can change, under a lock.

The lock is a flock, which the kernel frees when this process ends, however it ends. It ends
when the operator's side closes, or says nothing for ``patience`` seconds; a command that runs
then is stopped. So no lock is ever stale, and nothing goes on behind an operator's back. The
operations are written in provision/messages.py.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from typing import Any, cast

from provision.agent.files import (
    Content,
    Failure,
    attributes,
    copy,
    directory,
    file,
    remove,
    symlink,
    sync,
)
from provision.agent.link import COMMANDS, ENVIRONMENT, PIECE, Gone, Link

DEADLINE = 900.0  # seconds for one command
LAST_WORDS = 1 << 16  # bytes of a command's output that are kept, and
LAST_LINES = 20  # how many lines of them
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


# -- commands of the operator's side ----------------------------------------------------


def lock(link: Link, header: dict[str, Any], size: int) -> None:
    """Take the lock, or tell who has it. ``patience`` counts from then on."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(header["path"], flags, 0o600)
    except OSError as error:
        link.send({"refused": _explained(error)})
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.read(descriptor, PIECE).decode(errors="replace")
        os.close(descriptor)
        try:
            link.send({"holder": json.loads(told)})
        except ValueError:  # it has not been written yet
            link.send({"holder": {}})
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


# -- a release --------------------------------------------------------------------------


def release(link: Link, content: Content, root: str, id: str, digest: str) -> None:
    """Unpack a release as it comes, rename it when it came whole, and make its venv in place.

    One that is complete is left alone: a plan is older than the lock, and another deploy may
    have staged it since. By now it may be what runs.
    """
    if not re.fullmatch(r"\w[\w.+-]*", id):
        raise Failure(f"{id!r} is no name for a release")
    folder = f"{root}/releases/{id}"
    if os.path.exists(f"{folder}/.complete"):
        return
    partial = f"{folder}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    for name in os.listdir(f"{root}/releases"):
        if name.endswith(".partial"):  # what a killed deploy left
            shutil.rmtree(f"{root}/releases/{name}", ignore_errors=True)
    try:
        _folder(partial)
        _unpack(content, partial)
        content.verify(digest)
        os.rename(partial, folder)
        _venv(link, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    run(link, ["sync", "--file-system", folder])
    with open(f"{folder}/.complete", "wb") as mark:
        os.fsync(mark.fileno())
    sync(folder)
    sync(f"{root}/releases")


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
        _try(link, ["systemctl", "reset-failed", name])
    if action is not None:
        try:
            run(link, ["systemctl", "--no-ask-password", action, name])
        except Failure as failure:
            journal = ["journalctl", "--unit", name, "--lines=10", "--output=cat", "--no-pager"]
            raise Failure(str(failure), _try(link, journal) or failure.output) from failure


def _try(link: Link, argv: list[str]) -> str:
    """What a command said that may fail."""
    try:
        return run(link, argv)
    except Failure:
        return ""


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
    lines = said.decode(errors="backslashreplace").rstrip().splitlines()
    return "\n".join(lines[-LAST_LINES:])


def _stop(process: Any) -> None:
    """End a command and all that it started: some of these may outlive it, so kill them too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


COMMANDS.update({"lock": lock, "apply": apply})
