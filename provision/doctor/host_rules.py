"""What can be wrong with a host, and its cure: rules over what it answered.

Pure: no host, no clock. What a host should be comes from its resources, so a rule knows no
role and no unit by name. An answer that could not be had is a warning that says why. What is
between a host and the job servers is in provision/doctor/network_rules.py, what is wrong with
units in unit_rules.py.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Literal, TypeGuard

from gearman_py.config import format_size
from provision.doctor import network_rules as reach
from provision.doctor import unit_rules as units
from provision.doctor.subject import HostFacts, Unanswered, Verdict, is_running
from provision.doctor.unit_rules import LAST, SAID
from provision.errors import HostFailed
from provision.fleet.before_change import FOLDER
from provision.invoke_line import invoke_line
from provision.release.build import ON_HOSTS
from provision.release.target import target_of
from provision.remote.messages import Question
from provision.report.events import Finding
from provision.resources.account import FormerAccount
from provision.resources.base import Answers, Problem, Resource
from provision.resources.certificate import RENEWED, Certificate
from provision.resources.files import Directory, File
from provision.resources.former_files import FormerFiles
from provision.resources.former_units import FormerUnits
from provision.resources.health import ServerHealth
from provision.resources.release import Release
from provision.resources.requirement import FreePort, Systemd
from provision.resources.secret import SecretFile
from provision.resources.unit import Unit

AHEAD_WARNS, AHEAD_FAILS = 1.0, 60.0  # seconds
FREE_WARNS, FREE_FAILS = 2**30, 2**26  # bytes of a file system
INODES_WARN = 2000
MEMORY_WARNS = 0.05  # of all
SINCE = "-24h"
PLACES = ("/", "/opt", "/var", "/tmp", "/run")  # noqa: S108  # where what runs may write
ASKED = FreePort | Systemd | Certificate | FormerAccount | FormerUnits | FormerFiles
"""Resources whose own questions are asked."""


def questions_of_rules(resources: Sequence[Resource]) -> list[Question]:
    """What the rules need to know of a host, but for how job servers are seen from there."""
    asked: list[Question] = [("host",), ("machine",), ("oom", SINCE), ("firewall",)]
    asked += [("space", place) for place in _used_places(resources)]
    for each in resources:
        if isinstance(each, Release):
            asked.append(("releases", each.root))
        elif isinstance(each, Unit):
            asked += [("unit", each.name), ("said", each.name, SAID)]
        elif isinstance(each, ASKED) or _has_known_content(each):
            asked += each.questions()
    return asked


def _has_known_content(resource: Resource) -> TypeGuard[File | SecretFile]:
    """Whether it is a file that is the same with each release."""
    return type(resource) is File or isinstance(resource, SecretFile)


def _used_places(resources: Sequence[Resource]) -> list[str]:
    """Folders that may be file systems of their own."""
    folders = [each.path for each in resources if isinstance(each, Directory)]
    return list(dict.fromkeys([*PLACES, FOLDER, *folders]))


def further_questions(resources: Sequence[Resource], answers: Answers) -> list[Question]:
    """What is to be asked then, each alone as it may take its time.

    The last lines of units that should run, and do not; and whether job servers that are there can
    use their database.
    """
    units = (each.name for each in resources if isinstance(each, Unit))
    states = ((name, answers["unit", name]) for name in units)
    bad = [name for name, found in states if isinstance(found, dict) and not is_running(found)]
    checked = (
        each.queue_question
        for each in resources
        if isinstance(each, ServerHealth) and isinstance(answers["unit", each.unit], dict)
    )
    return [*(("lines", name, LAST) for name in bad), *filter(None, checked)]


def run_rules(facts: HostFacts) -> Iterator[Finding]:
    """All that the rules find, good and bad."""
    for check, rule in RULES:
        try:
            for state, text, cure in rule(facts):
                yield Finding(facts.host.name, state, check, text, cure)
        except Unanswered as error:
            yield Finding(facts.host.name, "warn", check, str(error), "")


# -- the host ---------------------------------------------------------------------------


def _check_system(facts: HostFacts) -> Iterator[Verdict]:
    system = facts.known_answer("host")
    wrong = list(facts.wanted(Systemd))
    problems = _problems_of(facts, wrong)
    try:
        target_of(system)
    except HostFailed as error:
        problems.append(("fail", str(error), ""))
    yield from problems
    name = system["os"].get("PRETTY_NAME", "its system")
    if not problems:
        python = ".".join(map(str, system["python"]))
        yield "ok", f"{name}, Python {python}, systemd {system['systemd']}", ""


def _check_clock(facts: HostFacts) -> Iterator[Verdict]:
    ahead, doubt = facts.clock.ahead, facts.clock.doubt
    off = max(abs(ahead) - doubt, 0)
    if off < AHEAD_WARNS:
        yield "ok", f"within {max(off, doubt, 0.001):.3f} s of this machine's", ""
        return
    way = "ahead of" if ahead > 0 else "behind"
    yield (
        "fail" if off >= AHEAD_FAILS else "warn",
        f"{abs(ahead):.1f} s {way} this machine's",
        f"{facts.on_host('timedatectl set-ntp true')}; here, if this machine's clock is wrong",
    )


def _check_disk(facts: HostFacts) -> Iterator[Verdict]:
    seen, free = set(), []
    for place in _used_places(facts.resources):
        space = facts.known_answer("space", place)
        # A folder may be mounted once more, and read-only.
        if (mount := (space["device"], space["readonly"])) in seen:
            continue
        seen.add(mount)
        left, inodes = space["free"], space["inodes"]
        little = space["size"] // 20  # of a small one that is enough
        if space["readonly"]:
            yield (
                "fail",
                f"{place} is read-only",
                facts.on_host("dmesg", f"mount -o remount,rw {place}"),
            )
        elif left < min(FREE_WARNS, little):
            state: Literal["warn", "fail"] = "fail" if left < min(FREE_FAILS, little) else "warn"
            text = f"{place} has {format_size(left)} of {format_size(space['size'])} left"
            yield state, text, facts.on_host(f"du -xh --max-depth=2 {place} | sort -h | tail")
        elif inodes is not None and inodes < INODES_WARN:
            cure = facts.on_host(f"du -x --inodes --max-depth=2 {place} | sort -n | tail")
            yield "fail", f"{place} has {inodes} inodes left", cure
        else:
            free.append(f"{place} {format_size(left)}")
    if free:
        yield "ok", f"{', '.join(free)} left", ""


def _check_memory(facts: HostFacts) -> Iterator[Verdict]:
    machine, killed = facts.known_answer("machine"), facts.known_answer("oom", SINCE)
    for unit in killed:
        yield (
            "fail",
            f"{unit} had a process killed within a day, as memory ran out",
            "raise gearman_memory or gearman_worker_memory in the inventory, or add memory",
        )
    left, whole = machine["available"], machine["memory"]
    text = f"{format_size(left)} of {format_size(whole)} available"
    if left < whole * MEMORY_WARNS:
        yield "warn", text, facts.on_host("systemd-cgtop -m -n 1 -b") + " shows which units use it"
    elif not killed:
        yield "ok", text, ""


# -- what runs there --------------------------------------------------------------------


def _check_release(facts: HostFacts) -> Iterator[Verdict]:
    for each in facts.wanted(Release):
        known = facts.known_answer("releases", each.root)
        current = known["current"]
        kept = known["kept"].get(current)
        old = [id for id in known["running"] if id != current]
        tree = facts.tree if each.root == ON_HOSTS else None
        if current is None:
            yield "fail", "no release is in use", invoke_line("deploy")
        elif kept is None:
            yield "fail", f"release {current} is not whole there", invoke_line("deploy")
        elif damaged := known["damaged"].get(current):
            yield "fail", f"release {current} is damaged: {damaged}", invoke_line("deploy")
        elif kept["bad"]:
            yield "fail", f"release {current} was given up: {kept['bad']}", invoke_line("rollback")
        elif old:
            running = ", ".join(old)
            yield "warn", f"{running} still runs, and {current} is in use", invoke_line("deploy")
        elif tree not in (None, current):
            why = known["given_up"].get(tree)
            bad, cure = (f", given up: {why}", "mend it, then ") if why else ("", "")
            text = f"{current} runs, and this tree is {tree}{bad}"
            yield "warn", text, f"{cure}{invoke_line('upgrade')}"
        else:
            yield "ok", f"{current}{'' if tree is None else ', as this tree'}", ""


def _check_port(facts: HostFacts) -> Iterator[Verdict]:
    for port in facts.wanted(FreePort):
        found = facts.known_answer("port", port.address, str(port.port))
        place = f"{port.address}:{port.port}"
        problems = _problems_of(facts, [port])
        yield from problems
        if found is None:
            yield "fail", f"nothing listens at {place}", invoke_line("deploy")
        elif not problems:
            yield "ok", f"{found['command']} listens at {place}", ""


def _problems_of(facts: HostFacts, resources: Sequence[Resource]) -> list[Verdict]:
    """What resources themselves have to say against a host."""
    for each in resources:
        for question in each.questions():
            facts.known_answer(*question)
    steps = [step for each in resources for step in each.plan_changes(facts.answers)]
    return [("fail", step.message, "") for step in steps if isinstance(step, Problem)]


def _check_certificate(facts: HostFacts) -> Iterator[Verdict]:
    deploy = invoke_line("deploy")
    for each in facts.wanted(Certificate):
        there = [facts.known_answer(*question) for question in each.questions()]
        if not all(there):
            yield "fail", f"{each.path}.pem or its key is missing", f"{deploy} issues one"
        elif why := each.why_wrong(facts.answers, timedelta(0)):
            yield "fail", f"{each.path}.pem: {why}", f"{deploy} issues another"
        elif why := each.why_wrong(facts.answers, timedelta(days=each.days) / RENEWED):
            yield "warn", f"{each.path}.pem: {why}", f"{deploy} renews it"
        else:
            yield "ok", f"{each.path}.pem is good, and not due to be renewed", ""


def _check_former_account(facts: HostFacts) -> Iterator[Verdict]:
    for each in facts.wanted(FormerAccount):
        for question in each.questions():
            facts.known_answer(*question)
        if not each.is_there(facts.answers):
            continue
        if traces := each.remaining_traces(facts.answers):
            text = f"user {each.name}, which nothing of ours needs, is kept: {'; '.join(traces)}"
            yield "warn", text, f"give that another account, then {invoke_line('deploy')}"
        else:
            yield "warn", f"user {each.name} is there, and nothing needs it", invoke_line("deploy")


def _check_files(facts: HostFacts) -> Iterator[Verdict]:
    used = (facts.known_answer("releases", each.root)["current"] for each in facts.wanted(Release))
    if any(used):  # else none of them is there yet
        yield from _check_content(facts)
    for each in facts.wanted(FormerFiles):
        for question in each.questions():
            facts.known_answer(*question)
        if paths := sorted(each.former_paths(facts.answers)):
            is_, it = ("is", "it") if len(paths) == 1 else ("are", "them")
            text = f"{', '.join(paths)} {is_} there, and nothing needs {it}"
            yield "warn", text, invoke_line("deploy")


def _check_content(facts: HostFacts) -> Iterator[Verdict]:
    changed = []
    for each in facts.resources:
        if _has_known_content(each):
            for question in each.questions():
                facts.known_answer(*question)
            changed += [each.path for _ in each.plan_changes(facts.answers)]
    if changed:
        verb = "is" if len(changed) == 1 else "are"
        cure = f"{invoke_line('plan')} shows the difference, and {invoke_line('deploy')} mends it"
        yield "warn", f"{', '.join(changed)} {verb} not as the inventory has it", cure


RULES: tuple[tuple[str, Callable[[HostFacts], Iterator[Verdict]]], ...] = (
    ("system", _check_system),
    ("clock", _check_clock),
    ("disk", _check_disk),
    ("memory", _check_memory),
    ("release", _check_release),
    ("units", units.check_units),
    ("denied", units.check_denials),
    ("port", _check_port),
    ("accounts", _check_former_account),
    ("files", _check_files),
    ("TLS", _check_certificate),
    ("firewall", reach.check_firewall),
    ("job server", reach.check_servers),
    ("workers", reach.check_registered),
    ("queue", reach.check_queue),
    ("database", reach.check_database),
)
