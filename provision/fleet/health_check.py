"""Does a release do its work on a host? Asked of it before the switch, and of the units after."""

import base64
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from provision.errors import HostFailed, ToolkitError
from provision.fleet.host_run import ChangeFailed, HostRun
from provision.remote.messages import Operation
from provision.report.denials import find_denials
from provision.report.events import Proved
from provision.resources.health import Health, Proof, ServerHealth, WorkerHealth
from provision.resources.program import ProgramHealth
from provision.resources.sample_jobs import earlier_checks
from provision.resources.unit import Unit

COMMAND_ENDED = re.compile(r"`.*` ended with \d+")
NO_SERVER = "` ended with 3"  # as the command `gearman` does that reaches none

OWN_SERVER = "the job server of the trial"  # as agent/program_trial.py says it
UNSERVED = ", which its check is for"  # as agent/trial.py says it
UNNAMED = ", which functions: names"  # as agent/program_trial.py says it
# As gearman-worker --only ends for a Worker that does not declare all of these.
UNDECLARED = re.compile(r"gearman-worker: error: unknown functions? (.+); declared: (.+)$")
OTHER_WORKER = "was answered by another worker"  # as agent/job_proof.py says it


class NoServer(HostFailed):
    """No proof could be had, as no job server was reached."""


class NotProved(HostFailed):
    """Another worker did the job, or no server gave it: not the fault of the release."""


class Unhealthy(HostFailed):
    """A proof failed: of which unit, and what to allow it if its words tell."""

    def __init__(self, problem: str, said: list[str], health: Health) -> None:
        cures = [f"try: {cure}" for _, cure in find_denials(health.unit, [problem, *said])]
        super().__init__("\n".join([problem, *(f"| {line}" for line in said), *cures]))
        self.health = health


class Unserved(Unhealthy):
    """The inventory names a function that the code does not serve: which is wrong is open."""

    def __init__(self, problem: str, said: list[str], health: Health) -> None:
        what = "functions:" if problem.endswith(UNNAMED) else "the check"
        cure = f"try: mend {what} in the inventory, or the code; the release is not marked as bad"
        super().__init__(problem, [*said], health)
        self.args = (f"{self}\n{cure}",)


def blames_release(error: HostFailed) -> bool:
    """Whether the release is why a host failed."""
    return isinstance(error, Unhealthy) and not isinstance(error, Unserved)


def check_staged(host_run: HostRun) -> None:
    """Have the staged release do a job of each kind. Raises :class:`HostFailed`.

    Programs that go on as they are need no trial. Job servers that are to move have not done so,
    unless an earlier run has begun with it.
    """
    former = at_former_servers(host_run)
    try:
        _try_staged(host_run, former)
    except NoServer:
        if former == health_resources(host_run):
            raise
        _try_staged(host_run, health_resources(host_run))


def _try_staged(host_run: HostRun, healths: Sequence[Health]) -> None:
    started = started_workers(host_run)
    for health in healths:
        if health.unit in started or not isinstance(health, ProgramHealth):
            _prove(host_run, health, lambda each: each.staged_proofs())
    try:
        _check_functions(host_run, healths)
    except Unhealthy as error:
        raise HostFailed(str(error)) from None  # the inventory's fault, and not the release's


def untried_functions(host_run: HostRun) -> tuple[str, ...]:
    """Those of programs that its plan starts and that find job servers in a way of their own."""
    started = started_workers(host_run)
    programs = (each for each in health_resources(host_run) if isinstance(each, ProgramHealth))
    left = (each.functions for each in programs if each.unit in started and not each.is_tried)
    return tuple(dict.fromkeys(function for functions in left for function in functions))


def check_changed(host_run: HostRun, healths: Sequence[Health]) -> None:
    """Have the workers that are to be started do a job as they will be. Raises :class:`HostFailed`.

    One that does not run has to answer a ping. So has one that runs and does not pass its check
    now, for the check is that of another release of its code; or that cannot be asked, as it serves
    other job servers. A program registers its functions instead.
    """
    started = started_workers(host_run)
    moved = at_former_servers(host_run) != list(healths)
    for health in healths:
        if not isinstance(health, WorkerHealth | ProgramHealth) or health.unit not in started:
            continue
        if isinstance(health, WorkerHealth) and started[health.unit] == "start":
            health = health.pinged or health
        try:
            _run_proofs(host_run, health, health.staged_proofs())
        except Unhealthy as error:
            if health.pinged is None or (not moved and _is_healthy(host_run, health)):
                raise
            _run_proofs(host_run, health.pinged, health.pinged.staged_proofs())
            told = str(error).splitlines()[0]
            host_run.report.say(f"{host_run.name}: {told}; it answers a ping, and goes on")
    _check_functions(host_run, healths)


def _check_functions(host_run: HostRun, healths: Iterable[Health]) -> None:
    """See that what units begin to serve is served by no other worker of their host."""
    started = started_workers(host_run)
    started_ones = [each for each in healths if each.unit in started]
    checks = {each.function_check: each for each in started_ones if each.function_check}
    for check, health in checks.items():
        _run_proofs(host_run, health, [check.proof])


def _is_healthy(host_run: HostRun, health: Health) -> bool:
    try:
        _run_proofs(host_run, health, health.running_proofs())
    except HostFailed:
        return False
    return True


def check_running(
    host_run: HostRun, settle: float, *, alone: bool = False, put_back: bool = False
) -> None:
    """See that the units run on, and do their work. Raises :class:`HostFailed`.

    ``settle``: seconds that a unit must go on running after it was started. ``alone``: without jobs
    that another host may do, which runs something else meanwhile. A program that was tried is asked
    none either, unless it is ``put_back``; then what is killed for its memory may still be of the
    release that leaves.
    """
    before = _find_units(host_run)
    if before:
        host_run.stopping.wait(settle)
    host_run.make_plan()
    for name, found in _find_units(host_run).items():
        if found["restarts"] != before[name]["restarts"]:
            raise HostFailed(f"{name} does not stay up: systemd has restarted it")
        if not put_back and found["oom_kills"] > before[name]["oom_kills"]:
            raise HostFailed(f"{name} needs more memory: a process of it was killed at its limit")
    for change in host_run.plan.changes:
        raise HostFailed(f"{change.summary} is due again: {change.reason}")
    for health in health_resources(host_run):
        if isinstance(health, ProgramHealth) and (alone or (health.is_tried and not put_back)):
            continue
        _prove(host_run, health, lambda each: each.running_proofs())


def _prove(host_run: HostRun, health: Health, proofs: Callable[[Health], Iterable[Proof]]) -> None:
    """That a worker passes its check, or an earlier one that is kept with its release."""
    try:
        _run_proofs(host_run, health, proofs(health))
    except Unhealthy:
        for each in health.earlier or _with_kept_checks(host_run, health):
            with suppress(Unhealthy):
                return _run_proofs(host_run, each, proofs(each))
        raise


def _with_kept_checks(host_run: HostRun, health: Health) -> Iterator[Health]:
    """The same with the earlier checks that its host keeps: of code that stays as it is.

    The check that the inventory has by now may be that of a later release of it.
    """
    if not health.check_file:
        return
    wanted = health.check_file.content.decode()
    for check in earlier_checks(wanted, health.check_file.current_text(host_run.answers)):
        yield health.with_check(*check)


def _run_proofs(host_run: HostRun, health: Health, proofs: Iterable[Proof]) -> None:
    for proof in proofs:
        host_run.go_on()
        (outcome,) = host_run.session.apply([proof.operation])
        if outcome.error:
            first, *more = _told_lines(outcome.error, outcome.output)
            first = _as_unnamed(first)
            if outcome.error.endswith(NO_SERVER):
                raise NoServer(f"{proof.summary}: {first}")  # not the release's fault
            if OTHER_WORKER in outcome.error or outcome.error.startswith(OWN_SERVER):
                raise NotProved(f"{proof.summary}: {outcome.error}")
            kind = Unserved if first.endswith((UNSERVED, UNNAMED)) else Unhealthy
            raise kind(f"{proof.summary}: {first}", more, health)
        if problem := proof.judge(base64.b64decode(outcome.output)):
            raise Unhealthy(f"{proof.summary}: {problem}", [], health)
        host_run.report.show(Proved(host_run.name, proof.summary, outcome.seconds))


def _as_unnamed(problem: str) -> str:
    """Of a worker of `run:` with `functions:`, in the words that a program's trial has for it."""
    if not (found := UNDECLARED.search(problem)):
        return problem
    missing = found[1].replace("'", "")
    return f"it serves {found[2]}, and not {missing}{UNNAMED}"


def _told_lines(error: str, output: str) -> list[str]:
    """The lines about a proof that failed: what a command said, and not how it ended."""
    said = output.splitlines()
    if said and (COMMAND_ENDED.fullmatch(error) or said[0].startswith(error)):
        return said
    return [*said, error]


def with_evidence(host_run: HostRun, error: ToolkitError) -> ToolkitError:
    """The same error with what the host's own tools say of the unit that does not work."""
    named = error.health if isinstance(error, Unhealthy) else None
    known = health_resources(host_run)
    concerned = [each for each in known if each == named or each.unit in str(error)]
    commands = [command for health in concerned[:1] for command in health.evidence_commands()]
    if isinstance(error, ChangeFailed):  # which has said it
        commands = [command for command in commands if command[0] != "journalctl"]
    if not commands:
        return error
    try:
        (outcome,) = host_run.session.apply([Operation("look", {"commands": commands})])
    except ToolkitError:
        return error  # it is out of reach, as the error says
    said = (f"| {line}" for line in outcome.output.splitlines())
    told = HostFailed("\n".join([str(error), *said]))
    told.status = error.status
    return told


def check_queue(host_run: HostRun) -> None:
    """Have the database of a queue asked as the job server will. Raises :class:`HostFailed`."""
    for health in health_resources(host_run):
        if isinstance(health, ServerHealth):
            _run_proofs(host_run, health, health.queue_proofs())


def started_workers(host_run: HostRun) -> dict[str, str]:
    """The units of workers that its plan starts, and how: start, restart or reload."""
    return _started_units(host_run, worker_units(host_run))


def server_units(host_run: HostRun) -> dict[str, str]:
    """The units of job servers that its plan starts, and how."""
    healths = health_resources(host_run)
    return _started_units(host_run, {e.unit for e in healths if isinstance(e, ServerHealth)})


def _started_units(host_run: HostRun, names: Container[str]) -> dict[str, str]:
    operations = (change.operation for change in host_run.plan.changes)
    return {
        each.arguments["name"]: each.arguments["action"]
        for each in operations
        if each.kind in ("unit", "program")
        and each.arguments["action"] in ("start", "restart", "reload")
        and each.arguments["name"] in names
    }


def worker_units(host_run: HostRun) -> set[str]:
    healths = health_resources(host_run)
    return {each.unit for each in healths if isinstance(each, WorkerHealth | ProgramHealth)}


def health_resources(host_run: HostRun) -> list[Health]:
    return [each for each in host_run.resources if isinstance(each, Health)]


def at_former_servers(host_run: HostRun) -> list[Health]:
    """The same at the job servers that its units serve, where other ones are to come."""
    units = {each.name: each for each in host_run.resources if isinstance(each, Unit)}
    started = started_workers(host_run)

    def at_former(health: Health) -> Health:
        if not isinstance(health, WorkerHealth) or health.unit not in units:
            return health
        if started.get(health.unit) == "start":  # it does not run, perhaps for want of its files
            return health
        text = units[health.unit].file.current_text(host_run.answers)
        earlier = tuple(map(at_former, health.earlier))
        return replace(health.at_servers_of(text), earlier=earlier)

    known = health_resources(host_run)
    moved = [at_former(each) for each in known]
    former = [
        new.servers[0]
        for old, new in zip(known, moved, strict=True)
        if isinstance(new, WorkerHealth) and new != old
    ]
    return [_asking(former[0], each) for each in moved] if former else moved


def _asking(server: str, health: Health) -> Health:
    """The same where ``server`` is asked for other workers: a program's file tells of none."""
    check = health.function_check
    return replace(health, function_check=check and replace(check, server=server))


def _find_units(host_run: HostRun) -> dict[str, dict[str, Any]]:
    """What a host says of its units that are there."""
    units = (each.name for each in host_run.resources if isinstance(each, Unit))
    found = {name: host_run.answers["unit", name] for name in units}
    return {name: one for name, one in found.items() if one}
