"""What takes a part of a host's installation away, once nothing needs it."""

from __future__ import annotations

import os
import pwd
import shutil

from provision.agent.change import OPERATIONS
from provision.agent.command import run_command, try_command
from provision.agent.files import Content, Failure, sync_folder
from provision.agent.link import FrameLink
from provision.agent.processes import is_run_from, own_pids, program_of
from provision.agent.queue_file import QUEUE, ask_server, count_jobs

INSTALLED = (
    "current",
    "apps",
    "releases",
    "bad",
    "release_signers",
    ".release_signatures",
)  # what deploys put below a root
MOVE_TIMEOUT = 24 * 3600.0  # seconds for the jobs that run to end
UNITS = ("gearmand.socket", "gearmand.service")


def close_server(
    link: FrameLink, content: Content, folder: str, admin: str, command: list[str]
) -> str:
    """Stop and disable the job server: after ``command`` has moved its jobs, if there is one.

    Without it, one that holds jobs goes on.
    """
    moved = ""
    if command:
        moved = _move_jobs(link, folder, admin, command)
    else:
        _refuse_jobs(folder, admin)
    run_command(link, ["systemctl", "stop", *UNITS])
    try:
        _refuse_jobs(folder, admin)
    except Failure:  # they came meanwhile
        run_command(link, ["systemctl", "start", *UNITS])
        raise
    for unit in UNITS:
        try_command(link, ["systemctl", "disable", unit])
        try_command(link, ["systemctl", "reset-failed", unit])
    return moved


def _move_jobs(link: FrameLink, folder: str, admin: str, command: list[str]) -> str:
    """Run the command that moves all jobs and stops the server; what it said."""
    socket, service = UNITS
    if ask_server(admin) is None:
        found = count_jobs(folder, "")
        if not found or not found["jobs"]:
            return ""
        run_command(link, ["systemctl", "start", service])
    # Otherwise the next connection would start it again. The service keeps the port open so long.
    run_command(link, ["systemctl", "stop", "--job-mode=ignore-dependencies", socket])
    return run_command(link, command, MOVE_TIMEOUT)


def remove_queue(link: FrameLink, content: Content, folder: str) -> None:
    """Remove the folder of a queue in which no job is; what else is there stays."""
    _refuse_jobs(folder, "")
    for name in os.listdir(folder):
        if name.startswith(QUEUE):
            os.unlink(f"{folder}/{name}")
    if not os.listdir(folder):
        os.rmdir(folder)
    sync_folder(os.path.dirname(folder))


def remove_state(link: FrameLink, content: Content, folder: str, user: str) -> None:
    """Remove a folder with all that is in it, if it is this user's."""
    if os.path.islink(folder) or pwd.getpwuid(os.lstat(folder).st_uid).pw_name != user:
        raise Failure(f"{folder} does not belong to {user}")
    run_command(link, ["rm", "-r", "-f", "--", folder])  # shutil's gives up a thousand levels down
    sync_folder(os.path.dirname(folder))


def remove_installation(link: FrameLink, content: Content, root: str) -> None:
    """Remove all releases, unless something still runs from one; what else is there stays."""
    running = [pid for pid in own_pids() if is_run_from(pid, root)]
    if running:
        told = ", ".join(f"{program_of(pid)} (pid {pid})" for pid in running[:3])
        raise Failure(f"this still runs from {root}: {told}")
    for name in INSTALLED:
        path = f"{root}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
    if not os.listdir(root):
        os.rmdir(root)
    sync_folder(os.path.dirname(root))


def _refuse_jobs(folder: str, admin: str) -> None:
    try:
        found = count_jobs(folder, admin)
    except (OSError, ValueError) as error:
        raise Failure(f"whether jobs are queued cannot be told: {error}") from None
    count = sum(found["jobs"].values()) if found else 0
    if count:
        raise Failure(f"{count} {'job is' if count == 1 else 'jobs are'} queued there")


OPERATIONS.update(
    {
        "close_server": close_server,
        "drain_server": close_server,
        "remove_queue": remove_queue,
        "remove_state": remove_state,
        "remove_installation": remove_installation,
    }
)
