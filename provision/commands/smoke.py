"""Does it work, end to end? Jobs submitted on the client host, as an ordinary user would.

Every check goes the whole way: client host, job server, worker and back. The answer is
compared with one we know, and a picture that comes back is decoded, not trusted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic

from provision.commands.smoke_pages import Run, check_pages
from provision.commands.smoke_state import JobServers, server_hosts
from provision.errors import HostFailed, InventoryError, ToolkitError
from provision.fleet import pool
from provision.fleet.drained_hosts import find_drained
from provision.inventory import load as inventory
from provision.inventory.drained import DRAINED, mark_drained, serving_hosts
from provision.inventory.host import Host, Inventory
from provision.inventory.workers import WorkerDefinition, ping_function, workers
from provision.invoke_line import invoke_line
from provision.report.events import Checked
from provision.report.text import Report
from provision.resources.sample_jobs import PING, Sample, is_jpeg, make_picture, stated_sample
from provision.ssh import connection as transport

# A job without a worker waits without end; a person who waits for a smoke test does not.
JOB_TIMEOUT = 20  # seconds for each job
COMMAND_NOT_FOUND = 127  # of every POSIX shell
PINGED_CURE = "with a `check:` of the worker a job is, and its answer compared"


Gearman = Callable[..., bytes]
"""Submits a job on the client host: the function, a redirection or stdin's bytes; its answer."""


@dataclass(frozen=True)
class SmokeCheck:
    """What is checked, by a job for which function, and how."""

    name: str
    function: str
    check: Callable[[Gearman, Run], None]


@dataclass(frozen=True)
class Topology:
    """The names of the hosts that a job passes, to say which one to look at.

    ``names``: of the worker whose functions these are, see :func:`workers_of_functions`.
    """

    client: str
    job_servers: Sequence[str]
    workers: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)


class _CheckFailed(Exception):
    """A check failed: the function it used, and what was wrong with the answer."""

    def __init__(self, function: str, problem: str, *, status: int = 0) -> None:
        super().__init__(problem)
        self.function = function
        self.status = status


def smoke(folder: Path, patience: int = JOB_TIMEOUT, *, limit: str | None = None) -> int:
    """Check the topology of an inventory from its first client; returns an exit status.

    ``limit`` may name the client that submits, and workers to which alone jobs go.
    """
    if patience < 1:
        raise ToolkitError(f"--patience {patience}: say 1 second or more")
    known = inventory.load(folder, limit)
    known = mark_drained(known, find_drained(known, pool.connect))
    submitters = [host for host in known.group("client") if host in known.hosts]
    submitters = submitters or list(known.group("client"))
    servers = [host.name for host in serving_hosts(known)]
    worker_hosts = [host.name for host in known.group("worker")]
    if not submitters:
        raise InventoryError(f"{folder}: no host is in group client, to submit jobs from")
    client = submitters[0]
    report = Report([client.name])
    failed = False
    with transport.connect(client) as connection:
        if names := unchecked_programs(known):
            report.say(f"not checked: {', '.join(names)} (a program is asked by its check: alone)")
        if drained := [host.name for host in known.group(DRAINED)]:
            report.say(f"not checked: {', '.join(drained)} (drained)")
        if names := only_pinged(known):
            report.say(f"only pinged, no job is done: {', '.join(names)} ({PINGED_CURE})")
        topology = Topology(client.name, servers, worker_hosts, workers_of_functions(known))
        states = JobServers(connection.run, server_hosts(known))
        for checked in chain(
            run_checks(connection.run, topology, checks_of(known), states, patience, report.say),
            check_pages(known, client, connection.run),
        ):
            report.show(checked)
            failed = failed or checked.problem is not None
    return HostFailed.status if failed else 0


def checks_of(known: Inventory) -> list[SmokeCheck]:
    """A check of each bundled function that is served, then of every other worker."""
    found = _workers_meant(known)
    served = {name for _, one in found if one.kind == "functions" for name in one.functions}
    bundled = [check for function, check in BUNDLED_CHECKS.items() if function in served]
    own = [
        SmokeCheck(
            f"{served_by(worker)}: worker {instance} of {host.name} answers a ping",
            ping_function(host.name, instance),
            partial(_check_sample, ping_function(host.name, instance), PING),
        )
        for host, worker in found
        if worker.kind in ("command", "run")
        for instance in worker.instance_names
    ]
    stated = {
        worker.name: SmokeCheck(
            f"{worker.checked_function}: the check of worker {worker.name}",
            worker.checked_function,
            partial(_check_sample, worker.checked_function, stated_sample(dict(worker.check))),
        )
        for _, worker in found
        if worker.check
    }
    return [*bundled, *own, *stated.values()]


def only_pinged(known: Inventory) -> list[str]:
    """What is served by workers of which no job's answer is known: a ping reaches them."""
    found = _workers_meant(known)
    pinged = (one for _, one in found if one.kind in ("command", "run") and not one.check)
    return list(dict.fromkeys(map(served_by, pinged)))


def unchecked_programs(known: Inventory) -> list[str]:
    """The programs that no job can be submitted to: what their answer should be is not said."""
    found = (one for _, one in _workers_meant(known) if one.kind == "program" and not one.check)
    return list(dict.fromkeys(f"program {each.name}" for each in found))


def workers_of_functions(known: Inventory) -> dict[str, str]:
    """By function the name of the worker that serves it."""
    return {
        function: one.name
        for _, one in _workers_meant(known)
        for function in (*one.functions, *([one.checked_function] if one.check else []))
    }


def _workers_meant(known: Inventory) -> list[tuple[Host, WorkerDefinition]]:
    """Those of the hosts that the run is limited to, if workers are among them; else all."""
    meant = [host for host in known.group("worker") if host in known.hosts]
    return [(host, one) for host in meant or known.group("worker") for one in workers(host)]


def served_by(worker: WorkerDefinition) -> str:
    """What to call what it serves."""
    return ", ".join(worker.functions) or worker.name


def run_checks(
    run: Run,
    topology: Topology,
    wanted: Sequence[SmokeCheck],
    states: JobServers,
    patience: int = JOB_TIMEOUT,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Checked]:
    """Run the checks one after the other, each as it ends.

    Those of functions that no worker serves come last, and wait for one at the same time; a
    paused function fails without a job.
    """
    states.ask()
    if states.unreached:
        names = ", ".join(each.name.partition(":")[0] for each in wanted)
        yield Checked(names, 0.0, states.unreached, _no_server_cure(topology))
        return
    yield from states.pauses
    paused = {each.function: states.pauses_of(each.function) for each in wanted}
    paused |= {each: states.pauses_of(each) for each in topology.names}
    yield from chain.from_iterable(paused.values())
    if states.pauses:  # a job would wait there
        return
    wanted = [each for each in wanted if not paused[each.function]]
    missing = states.unserved([each.function for each in wanted])
    for each in wanted:
        if each.function not in missing:
            yield _run_check(run, topology, each, patience)
    start = monotonic()
    states.await_workers(missing, start + patience, tell)
    waited = monotonic() - start
    left = states.unserved(missing)
    for each in wanted:
        if each.function in left:
            problem = f"no worker serves {each.function} at the job server"
            yield Checked(each.name, waited, problem, _unserved_cure(topology, each.function))
        elif each.function in missing:
            yield _run_check(run, topology, each, patience)


def _run_check(run: Run, topology: Topology, each: SmokeCheck, patience: int) -> Checked:
    start = monotonic()
    try:
        each.check(partial(_submit_job, run, patience), run)
    except _CheckFailed as wrong:
        return Checked(each.name, monotonic() - start, str(wrong), _cure_of(topology, wrong))
    return Checked(each.name, monotonic() - start)


def _submit_job(
    run: Run, patience: int, function: str, redirect: str = "", stdin: bytes = b""
) -> bytes:
    """A job's answer."""
    # A login shell: what is on its PATH and in its environment is what the client role promises.
    line = f"gearman -t {patience * 1000} -f {function} {redirect}".rstrip()
    done = run(f"sh -lc '{line}'", stdin)
    if done.status:
        said = done.stderr.decode(errors="replace").strip() or "it said nothing"
        raise _CheckFailed(
            function, f"`{line}` ended with {done.status}: {said}", status=done.status
        )
    return done.stdout


def _check_wc(gearman: Gearman, run: Run) -> None:
    expected = run("wc -l < /etc/passwd", b"").stdout
    answer = gearman("wc", "< /etc/passwd")
    if answer.strip() != expected.strip():
        raise _CheckFailed("wc", f"expected {expected!r}, got {answer[:80]!r}")


def _check_reverse(gearman: Gearman, run: Run) -> None:
    answer = gearman("reverse", stdin=b"Hello World!")
    if answer != b"!dlroW olleH":
        raise _CheckFailed("reverse", f"expected b'!dlroW olleH', got {answer[:80]!r}")


def _check_resize(gearman: Gearman, run: Run) -> None:
    if problem := is_jpeg(450, 600)(gearman("resize", stdin=make_picture(900, 1200))):
        raise _CheckFailed("resize", problem)


def _check_sample(function: str, sample: Sample, gearman: Gearman, run: Run) -> None:
    if problem := sample.judge(gearman(function, stdin=sample.workload())):
        raise _CheckFailed(function, problem)


BUNDLED_CHECKS: dict[str, SmokeCheck] = {
    "wc": SmokeCheck("wc: the lines of /etc/passwd", "wc", _check_wc),
    "reverse": SmokeCheck("reverse: Hello World!", "reverse", _check_reverse),
    "resize": SmokeCheck("resize: a JPEG of 900x1200 to 450x600", "resize", _check_resize),
}


def _cure_of(topology: Topology, wrong: _CheckFailed) -> str:
    """What to try where a job was not done, or not as it should be, though it is served."""
    if wrong.status == COMMAND_NOT_FOUND:
        return f"{invoke_line('deploy')} (no `gearman` on the PATH of {topology.client})"
    worker, hosts = _worker_of(topology, wrong.function)
    logs = invoke_line("logs", worker, "--limit", hosts)
    return f"{logs} (a worker serves it, so the job itself went wrong)"


def _unserved_cure(topology: Topology, function: str) -> str:
    worker, hosts = _worker_of(topology, function)
    doctor = invoke_line("doctor", "--problems", "--limit", hosts)
    return f"{doctor} (why worker {worker} is not connected)"


def _no_server_cure(topology: Topology) -> str:
    doctor = invoke_line("doctor", "--problems")
    return f"{doctor} ({topology.client} cannot reach {', '.join(topology.job_servers)})"


def _worker_of(topology: Topology, function: str) -> tuple[str, str]:
    """The name of the worker that is to serve a function, and its hosts as --limit takes them."""
    host, _, instance = function.removeprefix("ping@").partition("/")
    if instance:
        return instance.partition(":")[0], host
    return topology.names.get(function, function), ",".join(topology.workers)
