"""A program that speaks Gearman itself serves a job server of its own, before it joins others."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from provision.agent.change import OPERATIONS, submit_job
from provision.agent.files import Content, Failure
from provision.agent.job_servers import listed_workers
from provision.agent.link import FrameLink
from provision.agent.transient_unit import running_unit

OWN_SERVER = "the job server of the trial"
LOOPBACK = "127.0.0.1"
POLL_INTERVAL = 0.1  # seconds between two questions to the job server
SERVER_PROPERTIES = ["Type=notify", "DynamicUser=yes", "MemoryMax=256M"]


def try_program(
    link: FrameLink,
    content: Content,
    server: list[str],
    program: list[str],
    properties: list[str],
    environment: dict[str, str],
    functions: list[str],
    command: list[str],
    seconds: float,
) -> str:
    """Have a program register ``functions`` at a private job server, and do a job there.

    ``server``: the command of a job server. ``command`` submits the job; none does with an empty
    one. ``seconds``: for either.
    """
    port = _free_port()
    address = f"{LOOPBACK}:{port}"
    listening = [*server, "--listen", LOOPBACK, "--port", str(port)]
    known = {**environment, "GEARMAN_SERVERS": address}
    most = 2 * seconds
    with ExitStack() as units:
        try:
            server_unit = running_unit(link, "trial-server", listening, SERVER_PROPERTIES, {}, most)
            units.enter_context(server_unit)
        except Failure as failure:  # another process may have taken the port
            raise Failure(f"{OWN_SERVER} does not start: {failure}", failure.output) from failure
        wanted = [*properties, "Type=exec"]
        unit = units.enter_context(running_unit(link, "trial", program, wanted, known, most))
        try:
            await_functions(link, unit.is_alive, address, functions, seconds)
            if not command:
                return ""
            asked = [*command, "-h", address]
            return submit_job(link, content, asked, seconds, while_=unit.is_alive)
        except Failure as failure:
            raise unit.explain(failure) from failure


def await_functions(
    link: FrameLink,
    is_alive: Callable[[], bool],
    address: str,
    functions: list[str],
    seconds: float,
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            _, rows = listed_workers(address)
        except (OSError, ValueError) as error:
            raise Failure(f"{OWN_SERVER} does not answer: {error}") from error
        if any(names.issuperset(functions) for _, names in rows):
            return
        if time.monotonic() > deadline or not is_alive():
            served = max((names for _, names in rows), key=len, default=set())
            if served:
                raise Failure(_describe_served(served, functions))
            raise Failure(
                f"after {seconds:.0f} s it does not serve {', '.join(functions)} at the job server "
                f"of its trial, $GEARMAN_SERVERS={address}: if it finds job servers in another "
                "way, say trial: false",
                late=True,
            )
        link.wait(seconds=POLL_INTERVAL)


def _describe_served(served: set[str], functions: list[str]) -> str:
    missing = ", ".join(each for each in functions if each not in served)
    return f"it serves {', '.join(sorted(served))}, and not {missing}, which functions: names"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


OPERATIONS["trial_program"] = try_program
