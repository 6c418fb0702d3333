"""A job done by a worker that runs just for it, in a unit of its own with a worker's limits."""

from __future__ import annotations

import time
from typing import Any

from provision.agent.change import OPERATIONS
from provision.agent.files import Content, Failure
from provision.agent.job_proof import submit_proved
from provision.agent.job_servers import listed_workers
from provision.agent.link import FrameLink
from provision.agent.transient_unit import running_unit

REGISTER_TIME = 1.0  # seconds in which a worker that answers registers its other functions
LOOK_INTERVAL = 1.0  # seconds between two looks at what the worker serves
UNSERVED_TIME = 2.0  # seconds after which one that serves others does not come to serve this


def try_release(
    link: FrameLink,
    content: Content,
    worker: list[str],
    properties: list[str],
    environment: dict[str, str],
    seconds: float,
    others: dict[str, Any],
    **submitted: Any,
) -> str:
    """Have a job done by a worker in a transient unit with these ``properties``.

    ``others``: see refuse_shared(); empty, if it is known what the worker serves. ``submitted``:
    see submit_proved().
    """
    asked = AskedFunction(submitted["function"], environment["GEARMAN_SERVERS"])
    with running_unit(link, "trial", worker, properties, environment, seconds) as unit:
        try:
            proved = {
                **submitted,
                "unit": unit.name,
                "while_": lambda: unit.is_alive() and asked.may_be_served(),
            }
            answer = submit_proved(link, content, seconds=seconds, **proved)
        except Failure as failure:
            told = Failure(asked.problem) if asked.problem else failure
            raise unit.explain(told) from failure
        if others:
            link.wait(seconds=REGISTER_TIME)
            refuse_shared(environment["GEARMAN_SERVERS"], **others)
        return answer


class AskedFunction:
    """The function of a job, PREFIX/NAME: a worker that serves others of this prefix alone is told.

    The job waits for a worker of it, and the job server knows what the worker on trial serves.
    """

    def __init__(self, function: str, server: str) -> None:
        self._function = function
        self._server = server
        self._next = time.monotonic() + LOOK_INTERVAL
        self._unserved_since = 0.0
        self.problem = ""

    def may_be_served(self) -> bool:
        """Called while the job waits; the job server is not asked each time."""
        now = time.monotonic()
        if now < self._next:
            return True
        self._next = now + LOOK_INTERVAL
        prefix = self._function[: self._function.index("/") + 1]
        try:
            _, rows = listed_workers(self._server)
        except (OSError, ValueError):
            return True  # the job tells
        known = {name for _, names in rows for name in names if name.startswith(prefix)}
        if not known or self._function in known:
            self._unserved_since = 0.0
            return True
        self._unserved_since = self._unserved_since or now
        if now - self._unserved_since < UNSERVED_TIME:
            return True
        others = ", ".join(sorted(name[len(prefix) :] for name in known))
        asked = self._function[len(prefix) :]
        self.problem = f"it serves {others}, not {asked}, which its check is for"
        return False


def refuse_shared(
    server: str, prefix: str, worker: str, functions: dict[str, str], pings: dict[str, str]
) -> None:
    """Raise :class:`Failure` if a worker on trial serves what another worker of this host serves.

    ``prefix``: before the functions of ``worker``, which is on trial. Which other worker serves
    which of the ``functions``, as the inventory says; of workers of which it does not say it, the
    ``pings`` by which they are known to the job server.
    """
    rows, by_code = find_served(server, pings)
    everything = set().union(*(names for _, names in rows))
    tried = {name[len(prefix) :] for name in everything if name.startswith(prefix)}
    _refuse_any(worker, tried, {**functions, **by_code})


def check_functions(
    link: FrameLink,
    content: Content,
    server: str,
    worker: str,
    functions: list[str],
    pings: dict[str, str],
) -> None:
    """Raise :class:`Failure` if one of the ``functions`` that ``worker`` is to serve is served by
    another worker of this host, of which only the job server knows it; see refuse_shared().
    """
    _refuse_any(worker, set(functions), find_served(server, pings)[1])


def find_served(
    server: str, pings: dict[str, str]
) -> tuple[list[tuple[tuple[str, str], set[str]]], dict[str, str]]:
    """Who serves what at ``server``, and of each function of these workers which of them does."""
    try:
        _, rows = listed_workers(server)
    except (OSError, ValueError) as error:
        raise Failure(f"{server} does not tell what its workers serve: {error}") from error
    named = {who: pings[ping] for who, names in rows for ping in names & pings.keys()}
    served = {
        name: named[who] for who, names in rows if who in named for name in names if "@" not in name
    }
    return rows, served


def _refuse_any(worker: str, functions: set[str], served: dict[str, str]) -> None:
    for function in sorted(functions & served.keys()):
        raise Failure(
            f"{function} is served by worker {served[function]} of this host too: leave it out "
            f"there, or give worker {worker} functions: without it"
        )


OPERATIONS["trial"] = try_release
OPERATIONS["check_functions"] = check_functions
