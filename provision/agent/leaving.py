"""What takes a part of a host's installation away, once nothing needs it."""

from __future__ import annotations

import os
import shutil

from provision.agent.change import OPERATIONS
from provision.agent.command import run_command, try_command
from provision.agent.files import Content, Failure, sync_folder
from provision.agent.link import FrameLink
from provision.agent.processes import all_pids, is_run_from, program_of
from provision.agent.queue_file import QUEUE, count_jobs

INSTALLED = ("current", "apps", "releases", "bad")  # what deploys put below a root
UNITS = ("gearmand.socket", "gearmand.service")


def close_server(link: FrameLink, content: Content, folder: str, admin: str) -> None:
    """Stop and disable the job server, unless it holds jobs: then it goes on."""
    _refuse_jobs(folder, admin)
    run_command(link, ["systemctl", "stop", *UNITS])
    try:
        _refuse_jobs(folder, admin)
    except Failure:  # they came meanwhile
        run_command(link, ["systemctl", "start", *UNITS])
        raise
    for unit in UNITS:
        try_command(link, ["systemctl", "disable", unit])


def remove_queue(link: FrameLink, content: Content, folder: str) -> None:
    """Remove the folder of a queue in which no job is; what else is there stays."""
    _refuse_jobs(folder, "")
    for name in os.listdir(folder):
        if name.startswith(QUEUE):
            os.unlink(f"{folder}/{name}")
    os.rmdir(folder)
    sync_folder(os.path.dirname(folder))


def remove_installation(link: FrameLink, content: Content, root: str) -> None:
    """Remove all releases, unless something still runs from one; what else is there stays."""
    running = [pid for pid in all_pids() if is_run_from(pid, root)]
    if running:
        told = ", ".join(f"{program_of(pid)} (pid {pid})" for pid in running[:3])
        raise Failure(f"this still runs from {root}: {told}")
    for name in INSTALLED:
        path = f"{root}/{name}"
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)
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
        "remove_queue": remove_queue,
        "remove_installation": remove_installation,
    }
)
