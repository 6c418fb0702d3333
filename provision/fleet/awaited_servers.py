"""Whether workers that are to start find a job server.

systemd counts a worker as started once a job server knows it. Where none can be reached it waits
until the unit's time limit, which says nothing of the reason; so that is asked before.
"""

from collections.abc import Container
from time import monotonic, sleep

from provision.errors import HostFailed
from provision.fleet.ask_all import ask_each
from provision.fleet.health_check import health_resources, started_workers
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.inventory.drained import DRAINED
from provision.invoke_line import invoke_line
from provision.remote.messages import Question, Unknown
from provision.report.folding import fold_names
from provision.resources.health import ServerHealth, WorkerHealth, split_server
from provision.resources.program import ProgramHealth

SERVER_TIMEOUT = 10.0  # seconds for a job server to come up that the same run has started
ASK_INTERVAL = 1.0  # seconds
UNREACHED = "no job server can be reached from it"
PROBLEMS = {
    "refused": "refuses connections: it does not run, or a firewall rejects them",
    "silent": "is silent: it is down, or a firewall drops what is sent to it",
    "no way": "has no route from here",
    "no name": "has a name that is not known here",
    "forbidden": "may not be connected to: this host's own firewall forbids it",
}
"""What is said of a job server to which no connection comes about, by the survey's answer."""


def refuse_unreached(run: Run) -> None:
    """Fail hosts whose workers would find no job server that is up or that this run starts."""
    coming = {
        health.server
        for host_run in run.host_runs
        if run.is_well(host_run)
        for health in health_resources(host_run)
        if isinstance(health, ServerHealth)
    }
    waiting = [each for each in run.host_runs if run.is_well(each) and _is_waiting(each, coming)]
    without = "without one its workers do not start:"
    for name, problem in ask_each(run, waiting, find_problem).items():
        if problem:
            run.fail(name, HostFailed(f"{UNREACHED}: {problem}; {without} {_find_cure(run)}"))


def await_server(host_run: HostRun) -> None:
    """Wait for a job server, which may just have been started. Raises :class:`HostFailed`."""
    own = {e.server for e in health_resources(host_run) if isinstance(e, ServerHealth)}
    if not _is_waiting(host_run, own):
        return
    until, is_told = monotonic() + SERVER_TIMEOUT, False
    while problem := find_problem(host_run):
        host_run.go_on()
        if monotonic() >= until:
            cure = invoke_line("doctor", "--limit", host_run.name)
            left = "its workers were left as they are"
            raise HostFailed(f"{UNREACHED}: {problem}; {left}\ntry: {cure}")
        if not is_told:
            told = f"waiting up to {SERVER_TIMEOUT:.0f} s for a job server: {problem}"
            host_run.report.say(f"{host_run.name}: {told}")
        is_told = True
        sleep(ASK_INTERVAL)


def find_problem(host_run: HostRun) -> str:
    """Why a host reaches none of the job servers that its workers are to serve; "" if it does."""
    servers = _servers_of(host_run)
    found = host_run.session.survey([_ask(each) for each in servers])
    told = list[str]()
    for server in servers:
        answer = found[_ask(server)]
        if isinstance(answer, Unknown) or answer["problem"] not in PROBLEMS:
            return ""  # with TLS it may have no certificate yet
        told.append(f"{server} {PROBLEMS[answer['problem']]}")
    return "; ".join(told)


def _is_waiting(host_run: HostRun, coming: Container[str]) -> bool:
    """Whether it is to start workers, and none of their job servers is among these."""
    servers = _servers_of(host_run)
    return bool(servers) and not any(each in coming for each in servers)


def _servers_of(host_run: HostRun) -> list[str]:
    """The job servers of the workers that its plan starts, or restarts."""
    started = {name for name, how in started_workers(host_run).items() if how != "reload"}
    healths = (each for each in health_resources(host_run) if each.unit in started)
    known = (e.servers for e in healths if isinstance(e, WorkerHealth | ProgramHealth))
    return list(dict.fromkeys(server for servers in known for server in servers))


def _ask(server: str) -> Question:
    return ("server", *split_server(server))


def _find_cure(run: Run) -> str:
    servers = run.inventory.group("job_server")
    if drained := [host.name for host in servers if DRAINED in host.groups]:
        return f"`{invoke_line('undrain', ','.join(drained))}` first"
    planned = {each.name for each in run.inventory.hosts}
    if left_out := [host.name for host in servers if host.name not in planned]:
        them = "it" if len(left_out) == 1 else "them"
        return f"deploy {fold_names(left_out)} first, or add {them} to --limit"
    names = ",".join(host.name for host in servers)
    return f"`{invoke_line('doctor', '--limit', names)}` says what is wrong"
