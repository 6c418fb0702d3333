"""What a host's agent can change, under a lock.

The lock is a flock, which the kernel frees when this process ends, however it ends. It ends
when the operator's side closes, or says nothing for ``patience`` seconds; a command that runs
then is stopped. So no lock is ever stale, and nothing goes on behind an operator's back. The
operations are written in provision/remote/operations.py.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import glob
import grp
import json
import os
import pwd
import shutil
import tarfile
import time
from collections.abc import Callable
from typing import Any

from provision.agent.command import end_units, run_briefly, run_command, try_command
from provision.agent.credentials import write_secret
from provision.agent.files import (
    Content,
    Failure,
    copy_content,
    make_directory,
    make_link,
    remove_path,
    set_attributes,
    write_file,
)
from provision.agent.link import CHUNK_SIZE, COMMANDS, FrameLink
from provision.agent.release import mark_bad, remove_release, unmark_bad, unpack_release
from provision.agent.signed import accept_signature, write_signers

INSTALL = {
    "apt-get": (
        *("apt-get", "install", "--yes", "--no-install-recommends"),
        *("-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"),
    ),
    "dnf": ("dnf", "install", "--assumeyes", "--setopt=install_weak_deps=False"),
    "zypper": ("zypper", "--non-interactive", "install", "--no-recommends"),
}
# A killed one may be half done; the lists of what there is may be old, or not there yet.
REPAIR = {
    "apt-get": (("dpkg", "--configure", "-a"), ("apt-get", "update")),
    "dnf": (("dnf", "makecache", "--refresh"),),
    "zypper": (("zypper", "--non-interactive", "refresh"),),
}
COMMENT = "gearman_py"  # by which a user that a deploy made is known
NOBODY_GID = 65534  # the group's number on every system
LOOKUP_TIMEOUT = 10.0  # seconds for a command that only looks

JOB_LATE = "` ended with 4"  # as the command `gearman` does if a job is not done in time
SYSTEMD = "/run/systemd/system"  # is there, if systemd runs
TRANSIENT = "/run/systemd/transient"  # a unit's file is there for as long as systemd lists the unit
TRIALS = "gearman-trial*-*"  # units of transient_unit.py, and folders of theirs

held: list[int] = []  # the lock's descriptor: open as long as this process lives


# -- commands of the operator's side ----------------------------------------------------


def take_lock(link: FrameLink, header: dict[str, Any], size: int) -> None:
    """Take the lock, or tell who has it. ``patience`` counts from then on."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(header["path"], flags, 0o600)
    except OSError as error:
        link.send({"refused": _explain_error(error)})
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.read(descriptor, CHUNK_SIZE).decode(errors="replace")
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
    _sweep_trials()
    link.send({"holder": None})


def _sweep_trials() -> None:
    """End what a killed agent left on trial; else systemd goes on listing one that failed."""
    if glob.glob(f"{TRANSIENT}/{TRIALS}.service"):
        end_units(f"{TRIALS}.service")
    if os.path.isdir(SYSTEMD):
        for folder in glob.glob(f"/run/{TRIALS}"):
            shutil.rmtree(folder, ignore_errors=True)


def apply_operations(link: FrameLink, header: dict[str, Any], size: int) -> None:
    """Carry out operations in order, up to the first that fails; tell of each."""
    steps = []
    for _ in range(header["count"]):
        step, size = link.receive()
        steps.append((step, link.read(size)))
    for index, (step, data) in enumerate(steps):
        content = Content(link, index, step, data)
        outcome = _carry_out(link, content, step)
        content.drain_rest()
        link.send({"outcome": outcome})
        if outcome["error"] is not None:
            return


def _carry_out(link: FrameLink, content: Content, step: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    error, output = None, ""
    try:
        if not held:
            raise Failure("the host is not locked")
        output = OPERATIONS[step["kind"]](link, content, **step["arguments"]) or ""
    except Failure as failure:
        error, output = str(failure), failure.output
    except (OSError, tarfile.TarError, KeyError) as wrong:
        error = _explain_error(wrong)
    return {"seconds": time.monotonic() - start, "error": error, "output": output}


def _explain_error(error: Exception) -> str:
    if not (isinstance(error, OSError) and error.strerror):
        return f"{type(error).__name__}: {error}"
    place = error.filename2 or error.filename
    said = f"{error.strerror}: {os.fsdecode(place)}" if place else error.strerror
    if error.errno == errno.ENOSPC:
        return "the disk is full: make room there (df, df -i)"
    if error.errno == errno.EROFS:
        return f"{said}; look at its mount and at the disk (findmnt, dmesg)"
    if error.errno == errno.EPERM:
        return f"{said}; not even root may: is it immutable (lsattr)?"
    return said


# -- the system -------------------------------------------------------------------------


def install_packages(link: FrameLink, content: Content, names: list[str], manager: str) -> None:
    install = [*INSTALL[manager], *names]
    try:
        run_command(link, install)
    except Failure:
        for command in REPAIR[manager]:
            run_command(link, list(command))
        run_command(link, install)


def add_group(link: FrameLink, content: Content, name: str) -> None:
    run_briefly(["groupadd", "--system", name])


def set_user(
    link: FrameLink,
    content: Content,
    name: str,
    group: str,
    home: str,
    shell: str,
    groups: list[str],
) -> None:
    wanted = ["--gid", group, "--home-dir", home, "--shell", shell, name]
    if groups:
        wanted = ["--groups", ",".join(groups), *wanted]
    try:
        pwd.getpwnam(name)
    except KeyError:
        run_briefly(["useradd", "--system", "--no-create-home", "--comment", COMMENT, *wanted])
    else:
        mend = ["usermod", *("--home" if each == "--home-dir" else each for each in wanted)]
        mend += ["--append"] if groups else []
        try:
            run_briefly(mend)
        except Failure:
            # It notes no other home while the user's processes run. They do not mind, so it is
            # run where it sees none.
            run_briefly(["unshare", "--pid", "--fork", "--mount-proc", *mend])


def forget_user(link: FrameLink, content: Content, name: str, group: bool) -> None:
    """Remove a user; userdel refuses while a process runs as it."""
    if not group:
        # Else userdel takes the group along that has no other member.
        run_briefly(["usermod", "--gid", str(NOBODY_GID), name])
    run_briefly(["userdel", name])
    try:
        grp.getgrnam(name)
    except KeyError:
        return
    if group:  # login.defs may say that userdel leaves it
        run_briefly(["groupdel", name])


def forget_group(link: FrameLink, content: Content, name: str) -> None:
    run_briefly(["groupdel", name])


def daemon_reload(link: FrameLink, content: Content) -> None:
    run_command(link, ["systemctl", "daemon-reload"])


def control_unit(
    link: FrameLink, content: Content, name: str, enabled: bool | None, action: str | None
) -> None:
    if enabled is not None:
        run_command(link, ["systemctl", "enable" if enabled else "disable", name])
    if action in ("start", "restart"):
        # One that failed too often is not started again until this is forgotten.
        try_command(link, ["systemctl", "reset-failed", name])
    if action is not None:
        try:
            run_command(link, ["systemctl", "--no-ask-password", action, name])
        except Failure as failure:
            journal = ["journalctl", "--unit", name, "--lines=10", "--output=cat", "--no-pager"]
            raise Failure(str(failure), try_command(link, journal) or failure.output) from failure
    if action == "stop":  # what failed in the meantime is not left behind as failed
        try_command(link, ["systemctl", "reset-failed", name])


# -- does it work? ----------------------------------------------------------------------


def submit_job(
    link: FrameLink,
    content: Content,
    command: list[str],
    seconds: float,
    while_: Callable[[], bool] = lambda: True,
) -> str:
    """Run a command that submits a job: what it answered, in base64."""
    answer, _ = run_job(link, content, command, seconds, while_)
    return base64.b64encode(answer).decode()


def run_job(
    link: FrameLink, workload: Any, command: list[str], seconds: float, while_: Callable[[], bool]
) -> tuple[bytes, str]:
    """The same with a ``workload`` to be read: its answer, and what the command said besides."""
    with open_memory() as given, open_memory() as answer:
        copy_content(workload, given)
        given.seek(0)
        try:
            said = run_command(link, command, seconds, given.fileno(), answer.fileno(), while_)
        except Failure as failure:
            failure.late = failure.late or str(failure).endswith(JOB_LATE)
            raise
        answer.seek(0)
        return answer.read(), said


def open_memory() -> Any:
    return open(os.memfd_create("gearman"), "w+b", buffering=0)


def run_lookups(link: FrameLink, content: Content, commands: list[list[str]]) -> str:
    """What these commands say: why something does not work."""
    said = ((argv, try_command(link, argv, LOOKUP_TIMEOUT)) for argv in commands)
    return "\n".join(f"$ {' '.join(argv)}\n{text}" for argv, text in said)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "packages": install_packages,
    "group": add_group,
    "user": set_user,
    "forget_user": forget_user,
    "forget_group": forget_group,
    "directory": make_directory,
    "file": write_file,
    "secret": write_secret,
    "attributes": set_attributes,
    "link": make_link,
    "remove": remove_path,
    "signature": accept_signature,
    "signers": write_signers,
    "release": unpack_release,
    "prune": remove_release,
    "condemn": mark_bad,
    "acquit": unmark_bad,
    "daemon_reload": daemon_reload,
    "unit": control_unit,
    "job": submit_job,
    "look": run_lookups,
}

COMMANDS.update({"lock": take_lock, "apply": apply_operations})
