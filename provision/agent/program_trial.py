"""A program that speaks Gearman itself serves a job server of its own, before it joins others."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from provision.agent.change import OPERATIONS, submit_job
from provision.agent.files import Content, Failure
from provision.agent.job_servers import CERTIFICATES, TLS, listed_workers
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
    names: list[str],
) -> str:
    """Have a program register ``functions`` at a private job server, and do a job there.

    ``server``: the command of a job server. ``command`` submits the job; none does with an empty
    one. ``seconds``: for either. ``names``: those of this host's certificate, at one of which
    ``server`` speaks TLS; none, and it speaks plain text.
    """
    address, listening, reading = choose_place(names)
    known = {**environment, "GEARMAN_SERVERS": address}
    most = 2 * seconds
    with ExitStack() as units:
        try:
            allowed = [*SERVER_PROPERTIES, *reading]
            command_line = [*server, *listening]
            server_unit = running_unit(link, "trial-server", command_line, allowed, {}, most)
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


def choose_place(names: list[str]) -> tuple[str, list[str], list[str]]:
    """A job server's address, the options with which it listens there, and what its unit needs.

    By TLS it is known by one of its ``names``, and may read the key of its host.
    """
    for name in names or [LOOPBACK]:
        try:
            family, *_, place = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as probe:
                probe.bind(place)
                host, port = probe.getsockname()[:2]
        except OSError:
            continue
        listening = ["--listen", str(host), "--port", str(port)]
        if not names:
            return f"{name}:{port}", listening, []
        shown = f"[{name}]" if ":" in name else name
        return f"{TLS}{shown}:{port}", listening, [f"SupplementaryGroups={_key_readers()}"]
    raise Failure(
        f"{OWN_SERVER} does not start: its host has none of the addresses that its certificate is "
        f"for, {', '.join(names)}: name one by gearman_listen, or say trial: false"
    )


def _key_readers() -> int:
    """The group that may read the key of this host."""
    path = f"{CERTIFICATES}/host.key"
    try:
        return os.stat(path).st_gid
    except OSError as error:
        raise Failure(f"{OWN_SERVER} does not start: {path}: {error.strerror}") from error


OPERATIONS["trial_program"] = try_program
