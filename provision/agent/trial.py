"""A job done by a worker that runs just for it, in a unit of its own with a worker's limits."""

from __future__ import annotations

import os
import signal
import tempfile
from typing import Any

from provision.agent.change import OPERATIONS, submit_job
from provision.agent.command import OUTPUT_LIMIT, run_command, try_command
from provision.agent.files import Content, Failure
from provision.agent.job_servers import listed_workers
from provision.agent.link import FrameLink

STATE = ("MainPID", "Result", "ExecMainCode", "ExecMainStatus")
CLD_EXITED = "1"
REGISTER_TIME = 1.0  # seconds in which a worker that answers registers its other functions
END_TIMEOUT = 30.0  # seconds after the job's time in which systemd ends what an agent left behind


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

    ``others``: see refuse_shared(); empty, if it is known what the worker serves.
    """
    unit = f"gearman-trial-{os.getpid()}.service"
    with tempfile.TemporaryDirectory(prefix="gearman-trial-", dir="/run") as folder:
        log = f"{folder}/log"
        wanted = [
            *properties,
            "OOMPolicy=kill",  # one process at the limit of memory is reason enough
            f"RuntimeMaxSec={seconds + END_TIMEOUT:.0f}",
            *(f"Standard{stream}=append:{log}" for stream in ("Output", "Error")),
        ]
        options = [f"--property={each}" for each in wanted]
        options += [f"--setenv={name}={text}" for name, text in environment.items()]
        words = [word.replace("$", "$$") for word in worker]  # which systemd would expand
        try:
            run_command(link, ["systemd-run", "--quiet", f"--unit={unit}", *options, "--", *words])
            pid = int(_state_of(link, unit)["MainPID"])
            answer = submit_job(
                link, content, seconds=seconds, **submitted, while_=lambda: _is_alive(pid)
            )
        except Failure as failure:
            why = _why_ended(link, unit, properties)
            said = _read_end(log)
            if why is None:
                raise Failure(str(failure), f"{failure.output}\n{said}".strip()) from failure
            last = f"{why}: {said.splitlines()[-1]}\n{said}" if said else ""
            raise Failure(why, last) from failure
        else:
            if others:
                link.wait(seconds=REGISTER_TIME)
                refuse_shared(environment["GEARMAN_SERVERS"], **others)
            return answer
        finally:
            try_command(link, ["systemctl", "kill", "--signal=SIGKILL", unit])
            try_command(link, ["systemctl", "stop", unit])
            try_command(link, ["systemctl", "reset-failed", unit])


def refuse_shared(
    server: str, prefix: str, worker: str, functions: dict[str, str], pings: dict[str, str]
) -> None:
    """Raise :class:`Failure` if a worker on trial serves what another worker of this host serves.

    ``prefix``: before the functions of ``worker``, which is on trial. Which other worker serves
    which of the ``functions``, as the inventory says; of workers of which it does not say it, the
    ``pings`` by which they are known to the job server.
    """
    try:
        _, rows = listed_workers(server)
    except (OSError, ValueError) as error:
        raise Failure(f"{server} does not tell what the worker serves: {error}") from error
    served = dict(functions)
    named = {who: pings[ping] for who, names in rows for ping in names & pings.keys()}
    for who, names in rows:
        if who in named:
            served.update((name, named[who]) for name in names if "@" not in name)
    everything = set().union(*(names for _, names in rows))
    tried = {name[len(prefix) :] for name in everything if name.startswith(prefix)}
    for function in sorted(tried & served.keys()):
        raise Failure(
            f"{function} is served by worker {served[function]} of this host too: leave it out "
            f"there, or give worker {worker} functions: without it"
        )


def _why_ended(link: FrameLink, unit: str, properties: list[str]) -> str | None:
    """How the worker of a trial ended; one that has not is made to write where it hangs."""
    pid = int(_state_of(link, unit)["MainPID"])
    if _is_alive(pid):
        os.kill(pid, signal.SIGUSR1)
        link.wait(seconds=1.0)
    if _is_alive(pid):
        return None
    state = _state_of(link, unit)
    status = int(state["ExecMainStatus"])
    if state["ExecMainCode"] == CLD_EXITED:
        return f"the worker ended with {status}"
    if status == signal.SIGUSR1:
        return None  # it had not come as far as to listen to it
    if state["Result"] == "oom-kill" or status == signal.SIGKILL:
        limits = [each for each in properties if each.startswith("MemoryMax=")]
        return f"the worker was killed, as at its limit of memory ({', '.join(limits)})"
    return f"the worker was ended by signal {status}"


def _state_of(link: FrameLink, unit: str) -> dict[str, str]:
    said = run_command(link, ["systemctl", "show", f"--property={','.join(STATE)}", unit])
    return dict(line.split("=", 1) for line in said.splitlines())


def _is_alive(pid: int) -> bool:
    return pid > 0 and os.path.exists(f"/proc/{pid}")


def _read_end(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read()[-OUTPUT_LIMIT:].decode(errors="backslashreplace").strip()
    except FileNotFoundError:
        return ""


OPERATIONS["trial"] = try_release
