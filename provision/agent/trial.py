"""A job done by a worker that runs just for it, in a unit of its own with a worker's limits."""

from __future__ import annotations

from typing import Any

from provision.agent.change import OPERATIONS
from provision.agent.files import Content, Failure
from provision.agent.job_proof import submit_proved
from provision.agent.job_servers import listed_workers
from provision.agent.link import FrameLink
from provision.agent.transient_unit import running_unit

REGISTER_TIME = 1.0  # seconds in which a worker that answers registers its other functions


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
    with running_unit(link, "trial", worker, properties, environment, seconds) as unit:
        try:
            proved = {**submitted, "unit": unit.name, "while_": unit.is_alive}
            answer = submit_proved(link, content, seconds=seconds, **proved)
        except Failure as failure:
            raise unit.explain(failure) from failure
        if others:
            link.wait(seconds=REGISTER_TIME)
            refuse_shared(environment["GEARMAN_SERVERS"], **others)
        return answer


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
