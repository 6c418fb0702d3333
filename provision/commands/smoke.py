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
from provision.errors import HostFailed, InventoryError, ToolkitError
from provision.fleet import pool
from provision.fleet.drained_hosts import find_drained
from provision.inventory import load as inventory
from provision.inventory.drained import DRAINED, mark_drained, serving_hosts
from provision.inventory.host import Host, Inventory
from provision.inventory.workers import WorkerDefinition, ping_function, workers
from provision.report.events import Checked
from provision.report.text import Report
from provision.resources.sample_jobs import PING, Sample, is_jpeg, make_picture, stated_sample
from provision.ssh import connection as transport

# A job without a worker waits without end; a person who waits for a smoke test does not.
JOB_TIMEOUT = 20  # seconds for each job
COMMAND_NOT_FOUND = 127  # of every POSIX shell
NOT_ALL_ANSWERED = 5  # gearadmin


Gearman = Callable[..., bytes]
"""Submits a job on the client host: the function, a redirection or stdin's bytes; its answer."""

SmokeCheck = tuple[str, Callable[[Gearman, Run], None]]
"""What is checked, and how."""


@dataclass(frozen=True)
class Topology:
    """The names of the hosts that a job passes, to say which one to look at; see units_of()."""

    client: str
    job_servers: Sequence[str]
    workers: Sequence[str]
    units: Mapping[str, str] = field(default_factory=dict)


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
        topology = Topology(client.name, servers, worker_hosts, units_of(known))
        for checked in chain(
            run_checks(connection.run, topology, checks_of(known), patience),
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
        (
            f"{served_by(worker)}: worker {instance} of {host.name} answers",
            partial(_check_sample, ping_function(host.name, instance), PING),
        )
        for host, worker in found
        if worker.kind in ("command", "run")
        for instance in worker.instance_names
    ]
    stated = {
        f"{worker.checked_function}: the check of worker {worker.name}": partial(
            _check_sample,
            worker.checked_function,
            stated_sample(dict(worker.check)),
        )
        for _, worker in found
        if worker.check
    }
    return [*bundled, *own, *stated.items()]


def unchecked_programs(known: Inventory) -> list[str]:
    """The programs that no job can be submitted to: what their answer should be is not said."""
    found = (one for _, one in _workers_meant(known) if one.kind == "program" and not one.check)
    return list(dict.fromkeys(f"program {each.name}" for each in found))


def units_of(known: Inventory) -> dict[str, str]:
    """By function the unit that serves it, as a command of systemd takes it.

    That of a program is a pattern: its name ends with a digest.
    """
    return {
        function: f"'gearman-worker@{one.name}*'"
        if one.kind == "program"
        else f"gearman-worker@{one.name}"
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
    run: Run, topology: Topology, wanted: Sequence[SmokeCheck], patience: int = JOB_TIMEOUT
) -> Iterator[Checked]:
    """Run the checks one after the other, each as it ends."""
    for name, check in wanted:
        start = monotonic()
        try:
            check(partial(_submit_job, run, patience), run)
        except _CheckFailed as wrong:
            seconds = monotonic() - start
            yield Checked(name, seconds, str(wrong), _where_to_look(run, topology, wrong))
        else:
            yield Checked(name, monotonic() - start)


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
    "wc": ("wc: the lines of /etc/passwd", _check_wc),
    "reverse": ("reverse: Hello World!", _check_reverse),
    "resize": ("resize: a JPEG of 900x1200 to 450x600", _check_resize),
}


def _where_to_look(run: Run, topology: Topology, wrong: _CheckFailed) -> str:
    """Which host to look at, and with what: asked of the topology itself."""
    client = topology.client
    if wrong.status == COMMAND_NOT_FOUND:
        return f"{client}: no `gearman` on its PATH; has it been deployed?"
    listing = run("sh -lc 'gearadmin --workers'", b"")
    if listing.status not in (0, NOT_ALL_ANSWERED):
        servers = ", ".join(topology.job_servers)
        return f"{servers}: journalctl -u gearmand ({client} cannot reach the job server)"
    names = ", ".join(topology.workers)
    worker, _, instance = wrong.function.removeprefix("ping@").partition("/")
    names = worker if instance else names
    unit = f"gearman-worker@{instance or wrong.function}"
    unit = unit if instance else topology.units.get(wrong.function, unit)
    registered = any(
        wrong.function.encode() in functions.split()
        for _, _, functions in (line.partition(b" :") for line in listing.stdout.splitlines())
    )
    if not registered:
        return f"{names}: systemctl status {unit} (the job server knows no worker for it)"
    return f"{names}: journalctl -u {unit} (it is registered, so the job itself went wrong)"
