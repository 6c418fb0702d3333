"""A program that speaks Gearman itself is begun beside the one that it takes the place of."""

from __future__ import annotations

import time
from typing import Any

from provision.agent.change import OPERATIONS, control_unit
from provision.agent.command import run_command, try_briefly, try_command
from provision.agent.files import Content, Failure
from provision.agent.job_servers import workers_here
from provision.agent.link import FrameLink

POLL_INTERVAL = 0.2  # seconds between two questions to a job server
LEAVE_TIMEOUT = 5.0  # seconds in which job servers forget one that was stopped


def begin_program(
    link: FrameLink,
    content: Content,
    name: str,
    enabled: bool | None,
    action: str,
    functions: list[str],
    servers: list[str],
    seconds: float,
) -> None:
    """Start a unit, and wait until each job server that answers knows one more such worker.

    One that they do not come to know, or that does not stay up, is stopped and disabled. Those
    that restart do so one by one: the next waits until this one is known again.
    """
    before = _known_workers(servers, functions)
    if not before:
        raise Failure(f"no job server can be asked: {', '.join(servers)}")
    if action == "restart":
        run_command(link, ["systemctl", "stop", name])
        before = _await_leaving(link, functions, before)
    try:
        control_unit(link, content, name, enabled, "start")
        _await_workers(link, name, functions, before, time.monotonic() + seconds)
    except BaseException as error:
        if action == "start":
            stop = ["systemctl", "disable", "--now"]
            if isinstance(error, Failure):
                try_command(link, [*stop, name])
            else:  # the operator's side is gone
                try_briefly([*stop, "--no-block", name])
        if isinstance(error, Failure):
            journal = ["journalctl", "--unit", name, "--lines=10", "--output=cat", "--no-pager"]
            raise Failure(str(error), try_command(link, journal)) from error
        raise


def _await_leaving(link: FrameLink, functions: list[str], before: dict[str, int]) -> dict[str, int]:
    """The workers that job servers know when they have forgotten one, or do not."""
    deadline = time.monotonic() + LEAVE_TIMEOUT
    while True:
        now = _known_workers(list(before), functions)
        if all(now[each] < before[each] for each in now) or time.monotonic() > deadline:
            return now
        link.wait(seconds=POLL_INTERVAL)


def _await_workers(
    link: FrameLink, name: str, functions: list[str], before: dict[str, int], deadline: float
) -> None:
    left = dict(before)
    while left:
        state = run_command(
            link, ["systemctl", "show", "--property=ActiveState,NRestarts", name]
        ).split()
        if "ActiveState=failed" in state or "NRestarts=0" not in state:
            raise Failure("it does not stay up")
        for server, count in _count_workers(list(left), functions):
            if count is not None and count > before[server]:
                del left[server]
        if left and time.monotonic() > deadline:
            served = ", ".join(functions)
            raise Failure(f"no worker of this host registered with {', '.join(left)} for {served}")
        if left:
            link.wait(seconds=POLL_INTERVAL)


def _known_workers(servers: list[str], functions: list[str]) -> dict[str, int]:
    """Of each server that can be asked its number of such workers."""
    found = _count_workers(servers, functions)
    return {server: count for server, count in found if count is not None}


def _count_workers(servers: list[str], functions: list[str]) -> list[tuple[str, Any]]:
    """Of each server its number of such workers; None of one that cannot be asked."""
    found: list[tuple[str, Any]] = []
    for server in servers:
        try:
            found.append((server, workers_here(server, functions)))
        except (OSError, ValueError):
            found.append((server, None))
    return found


OPERATIONS["program"] = begin_program
