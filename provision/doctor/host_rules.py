"""What can be wrong with a host, and its cure: rules over what it answered.

Pure: no host, no clock. What a host should be comes from its resources, so a rule knows no
role and no unit by name. An answer that could not be had is a warning that says why. What is
between a host and the job servers is in provision/doctor/network_rules.py.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal

from provision import build as release
from provision.doctor import network_rules as reach
from provision.doctor.subject import Found, Patient, Unanswered, runs
from provision.errors import HostFailed
from provision.remote.messages import Question, Unknown
from provision.report.events import Finding
from provision.resources.account import FormerAccount
from provision.resources.base import Answers, Problem, Resource
from provision.resources.certificate import RENEWED, Certificate
from provision.resources.release import Release
from provision.resources.requirement import FreePort, Systemd
from provision.resources.unit import Unit
from provision.wording import format_count

GB = 2**30
AHEAD_WARNS, AHEAD_FAILS = 1.0, 60.0  # seconds
FREE_WARNS, FREE_FAILS = 1 * GB, GB // 16  # bytes of a file system
INODES = 2000
MEMORY = 0.05  # of all
SINCE = "-24h"
LAST = "5"  # lines of a unit that failed
PLACES = ("/", "/opt", "/var", "/tmp", "/run")  # noqa: S108  # where what runs may write


def questions(resources: Sequence[Resource]) -> list[Question]:
    """What the rules need to know of a host, but for how job servers are seen from there."""
    asked: list[Question] = [("host",), ("machine",), ("oom", SINCE), ("firewall",)]
    asked += [("space", place) for place in PLACES]
    for each in resources:
        if isinstance(each, Release):
            asked.append(("releases", each.root))
        elif isinstance(each, Unit):
            asked.append(("unit", each.name))
        elif isinstance(each, FreePort | Systemd | Certificate | FormerAccount):
            asked += each.questions()
    return asked


def last_lines(resources: Sequence[Resource], answers: Answers) -> list[Question]:
    """What is to be asked then: the last lines of units that should run, and do not."""
    units = (each.name for each in resources if isinstance(each, Unit) and each.wanted)
    states = ((name, answers["unit", name]) for name in units)
    bad = [name for name, found in states if isinstance(found, dict) and not runs(found)]
    return [("lines", name, LAST) for name in bad]


def findings(patient: Patient) -> Iterator[Finding]:
    """All that the rules find, good and bad."""
    for check, rule in RULES:
        try:
            for state, text, cure in rule(patient):
                yield Finding(patient.host.name, state, check, text, cure)
        except Unanswered as error:
            yield Finding(patient.host.name, "warn", check, str(error), "")


# -- the host ---------------------------------------------------------------------------


def _system(patient: Patient) -> Iterator[Found]:
    system = patient.known("host")
    wrong = [each for each in patient.resources if isinstance(each, Systemd)]
    problems = _problems(patient, wrong)
    try:
        release.target(system)
    except HostFailed as error:
        problems.append(("fail", str(error), ""))
    yield from problems
    name = system["os"].get("PRETTY_NAME", "its system")
    if not problems:
        python = ".".join(map(str, system["python"]))
        yield "ok", f"{name}, Python {python}, systemd {system['systemd']}", ""


def _clock(patient: Patient) -> Iterator[Found]:
    ahead, doubt = patient.clock.ahead, patient.clock.doubt
    off = max(abs(ahead) - doubt, 0)
    if off < AHEAD_WARNS:
        yield "ok", f"within {max(off, doubt, 0.001):.3f} s of this machine's", ""
        return
    way = "ahead of" if ahead > 0 else "behind"
    yield (
        "fail" if off >= AHEAD_FAILS else "warn",
        f"{abs(ahead):.1f} s {way} this machine's",
        "timedatectl set-ntp true there, or here if here it is wrong",
    )


def _disk(patient: Patient) -> Iterator[Found]:
    seen, free = set(), []
    for place in PLACES:
        space = patient.known("space", place)
        if space["device"] in seen:
            continue
        seen.add(space["device"])
        left, inodes = space["free"], space["inodes"]
        little = space["size"] // 20  # of a small one that is enough
        if space["readonly"]:
            yield "fail", f"{place} is read-only", f"dmesg says why; mount -o remount,rw {place}"
        elif left < min(FREE_WARNS, little):
            state: Literal["warn", "fail"] = "fail" if left < min(FREE_FAILS, little) else "warn"
            size = space["size"] / 2**20
            text = f"{place} has {left / 2**20:.0f} of {size:.0f} MB left"
            yield state, text, f"du -xh --max-depth=2 {place} | sort -h | tail"
        elif inodes is not None and inodes < INODES:
            cure = f"du -x --inodes --max-depth=2 {place} | sort -n | tail"
            yield "fail", f"{place} has {inodes} inodes left", cure
        else:
            free.append(f"{place} {left / GB:.1f} GB")
    if free:
        yield "ok", f"{', '.join(free)} left", ""


def _memory(patient: Patient) -> Iterator[Found]:
    machine, killed = patient.known("machine"), patient.known("oom", SINCE)
    for unit in killed:
        yield (
            "fail",
            f"{unit} had a process killed for want of memory within a day",
            "raise gearman_memory or gearman_worker_memory in the inventory, or add memory",
        )
    left, whole = machine["available"], machine["memory"]
    text = f"{left / GB:.1f} of {whole / GB:.1f} GB available"
    if left < whole * MEMORY:
        yield "warn", text, "systemd-cgtop -m -n 1 -b shows who has it"
    elif not killed:
        yield "ok", text, ""


# -- what runs there --------------------------------------------------------------------


def _units(patient: Patient) -> Iterator[Found]:
    well = []
    for unit in patient.resources:
        if not isinstance(unit, Unit):
            continue
        found = patient.known("unit", unit.name)
        verdict = _unit(unit, found)
        if verdict is None:
            well += [unit.name.removesuffix(".service")] if unit.wanted else []
            continue
        state, text, cure = verdict
        last = patient.answers.get(("lines", unit.name, LAST), ())
        said = [f"| {line}" for line in (() if isinstance(last, Unknown) else last)]
        yield state, "\n".join([f"{unit.name} {text}", *(said if state == "fail" else ())]), cure
    if well:
        yield "ok", f"{', '.join(well)} {'run' if len(well) > 1 else 'runs'}", ""


def _unit(unit: Unit, found: dict[str, Any] | None) -> Found | None:
    """What is wrong with a unit."""
    name, deploy = unit.name, "invoke deploy"
    if not unit.wanted:
        if found is not None and runs(found):
            return "warn", "runs, and the inventory does not want it", deploy
        return None
    if found is None:
        return "fail", "is not there", deploy
    if found["load"] == "masked":
        return "fail", "is masked", f"systemctl unmask {name}, then {deploy}"
    if found["load"] != "loaded":
        return "fail", f"cannot be loaded ({found['load']})", f"systemctl status {name}"
    if found["sub"] == "auto-restart":
        times = format_count(found["restarts"], "time")
        return "fail", f"fails and is restarted, {times} by now", f"journalctl -u {name}"
    if found["active"] == "failed":
        return "fail", f"failed ({found['result']})", f"journalctl -u {name}, then {deploy}"
    if not runs(found):
        return "fail", f"is {found['active']}", deploy
    if found["stale"]:
        return "warn", "has a newer file than systemd knows", deploy
    if found["outdated"]:
        return "warn", f"runs, but {found['outdated']}", deploy
    if found["enabled"] != "enabled":
        return "warn", "would not start at boot", deploy
    if found["restarts"]:
        again = format_count(found["restarts"], "time")
        cure = f"journalctl -u {name}; systemctl reset-failed {name} forgets it"
        return "warn", f"runs, and failed {again} before", cure
    return None


def _release(patient: Patient) -> Iterator[Found]:
    for each in patient.resources:
        if not isinstance(each, Release):
            continue
        known = patient.known("releases", each.root)
        current = known["current"]
        kept = known["kept"].get(current)
        old = [id for id in known["running"] if id != current]
        if current is None:
            yield "fail", "no release is in use", "invoke deploy"
        elif kept is None:
            yield "fail", f"release {current} is not whole there", "invoke deploy"
        elif damaged := known["damaged"].get(current):
            yield "fail", f"release {current} is damaged: {damaged}", "invoke deploy"
        elif kept["bad"]:
            yield "fail", f"release {current} was given up: {kept['bad']}", "invoke rollback"
        elif old:
            running = ", ".join(old)
            yield "warn", f"{running} still runs, and {current} is in use", "invoke deploy"
        elif patient.tree not in (None, current):
            yield "warn", f"{current} runs, and this tree is {patient.tree}", "invoke upgrade"
        else:
            yield "ok", f"{current}{'' if patient.tree is None else ', as this tree'}", ""


def _port(patient: Patient) -> Iterator[Found]:
    for port in patient.resources:
        if not isinstance(port, FreePort):
            continue
        found = patient.known("port", port.address, str(port.port))
        place = f"{port.address}:{port.port}"
        problems = _problems(patient, [port])
        yield from problems
        if found is None:
            yield "fail", f"nothing listens at {place}", "invoke deploy"
        elif not problems:
            yield "ok", f"{found['command']} listens at {place}", ""


def _problems(patient: Patient, resources: Sequence[Resource]) -> list[Found]:
    """What resources themselves have to say against a host."""
    for each in resources:
        for question in each.questions():
            patient.known(*question)
    steps = [step for each in resources for step in each.steps(patient.answers)]
    return [("fail", step.message, "") for step in steps if isinstance(step, Problem)]


def _certificate(patient: Patient) -> Iterator[Found]:
    for each in patient.resources:
        if not isinstance(each, Certificate):
            continue
        there = [patient.known(*question) for question in each.questions()]
        if not all(there):
            yield "fail", f"{each.path}.pem or its key is missing", "invoke deploy issues one"
        elif why := each.wrong(patient.answers, timedelta(0)):
            yield "fail", f"{each.path}.pem: {why}", "invoke deploy issues another"
        elif why := each.wrong(patient.answers, timedelta(days=each.days) / RENEWED):
            yield "warn", f"{each.path}.pem: {why}", "invoke deploy renews it"
        else:
            yield "ok", f"{each.path}.pem is good, and not due to be renewed", ""


def _former(patient: Patient) -> Iterator[Found]:
    for each in patient.resources:
        if not isinstance(each, FormerAccount):
            continue
        for question in each.questions():
            patient.known(*question)
        if not each.is_there(patient.answers):
            continue
        if traces := each.traces(patient.answers):
            text = f"user {each.name} of an earlier version is kept: {'; '.join(traces)}"
            yield "warn", text, "give that another account, then invoke deploy"
        else:
            text = f"user {each.name} is of an earlier version, which ran everything as one account"
            yield "warn", text, "invoke deploy"


RULES: tuple[tuple[str, Callable[[Patient], Iterator[Found]]], ...] = (
    ("system", _system),
    ("clock", _clock),
    ("disk", _disk),
    ("memory", _memory),
    ("release", _release),
    ("units", _units),
    ("port", _port),
    ("accounts", _former),
    ("TLS", _certificate),
    ("firewall", reach.firewall),
    ("job server", reach.servers),
    ("workers", reach.registered),
    ("queue", reach.queue),
)
