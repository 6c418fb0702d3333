"""What can be wrong with a host, and its cure: rules over what it answered.

Pure: no host, no clock. What a host should be comes from its resources, so a rule knows no
role and no unit by name. Each rule yields (state, text, cure); an answer that could not be
had is a warning that says why.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from provision import release
from provision.errors import HostFailed
from provision.events import Finding
from provision.inventory import Host
from provision.messages import Question, Unknown
from provision.resources.base import Answers, Problem, Resource
from provision.resources.health import ServerHealth, WorkerHealth
from provision.resources.release import Release
from provision.resources.requirement import FreePort, Systemd
from provision.resources.unit import Unit

GB = 2**30
AHEAD_WARNS, AHEAD_FAILS = 1.0, 60.0  # seconds
FREE_WARNS, FREE_FAILS = 1 * GB, GB // 16  # bytes of a file system
INODES = 2000
MEMORY = 0.05  # of all
SINCE = "-24h"
LAST = "5"  # lines of a unit that failed
PLACES = ("/", "/opt", "/var", "/tmp", "/run")  # noqa: S108  # where what runs may write

Found = tuple[Literal["ok", "warn", "fail"], str, str]


@dataclass(frozen=True)
class Clock:
    """A host's, in seconds: how far it is ahead of ours, and how wrong that may be."""

    ahead: float
    doubt: float


@dataclass(frozen=True)
class Patient:
    """A host, what it should be, and what it answered."""

    host: Host
    resources: Sequence[Resource]
    answers: Answers
    clock: Clock
    tree: str | None  # the release that this machine's tree makes for it, if that is known
    servers: Sequence[str]  # all job servers, as HOST:PORT

    def known(self, *question: str) -> Any:
        """An answer. Raises :class:`_Unanswered`."""
        answer = self.answers[question]
        if isinstance(answer, Unknown):
            raise _Unanswered(f"its {' '.join(question)} cannot be known: {answer.reason}")
        return answer


class _Unanswered(Exception):
    """A rule needs what could not be had."""


def questions(resources: Sequence[Resource]) -> list[Question]:
    """What the rules need to know of a host, but for how job servers are seen from there."""
    asked: list[Question] = [("host",), ("machine",), ("oom", SINCE), ("firewall",)]
    asked += [("space", place) for place in PLACES]
    for each in resources:
        if isinstance(each, Release):
            asked.append(("releases", each.root))
        elif isinstance(each, Unit):
            asked.append(("unit", each.name))
        elif isinstance(each, FreePort | Systemd):
            asked += each.questions()
    return asked


def parted(server: str) -> tuple[str, str]:
    """HOST:PORT or [HOST]:PORT, in two."""
    host, _, port = server.rpartition(":")
    return host.strip("[]"), port


def last_lines(resources: Sequence[Resource], answers: Answers) -> list[Question]:
    """What is to be asked then: the last lines of units that should run, and do not."""
    units = (each.name for each in resources if isinstance(each, Unit) and each.wanted)
    states = ((name, answers["unit", name]) for name in units)
    bad = [name for name, found in states if isinstance(found, dict) and not _runs(found)]
    return [("lines", name, LAST) for name in bad]


def findings(patient: Patient) -> Iterator[Finding]:
    """All that the rules find, good and bad."""
    for check, rule in RULES:
        try:
            for state, text, cure in rule(patient):
                yield Finding(patient.host.name, state, check, text, cure)
        except _Unanswered as error:
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
        runs = found is not None and found["active"] == "active"
        return ("warn", "runs, and the inventory does not want it", deploy) if runs else None
    if found is None:
        return "fail", "is not there", deploy
    if found["load"] == "masked":
        return "fail", "is masked", f"systemctl unmask {name}, then {deploy}"
    if found["load"] != "loaded":
        return "fail", f"cannot be loaded ({found['load']})", f"systemctl status {name}"
    if found["sub"] == "auto-restart":
        times = _count(found["restarts"], "time")
        return "fail", f"fails and is restarted, {times} by now", f"journalctl -u {name}"
    if found["active"] == "failed":
        return "fail", f"failed ({found['result']})", f"journalctl -u {name}, then {deploy}"
    if not _runs(found):
        return "fail", f"is {found['active']}", deploy
    if found["stale"]:
        return "warn", "has a newer file than systemd knows", deploy
    if found["outdated"]:
        return "warn", f"runs, but {found['outdated']}", deploy
    if found["enabled"] != "enabled":
        return "warn", "would not start at boot", deploy
    if found["restarts"]:
        again = _count(found["restarts"], "time")
        cure = f"journalctl -u {name}; systemctl reset-failed {name} forgets it"
        return "warn", f"runs, and failed {again} before", cure
    return None


def _runs(found: dict[str, Any]) -> bool:
    return bool(found["active"] in ("active", "reloading"))


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
            yield "fail", f"nobody listens at {place}", "invoke deploy"
        elif not problems:
            yield "ok", f"{found['command']} listens at {place}", ""


def _problems(patient: Patient, resources: Sequence[Resource]) -> list[Found]:
    """What resources themselves have to say against a host."""
    for each in resources:
        for question in each.questions():
            patient.known(*question)
    steps = [step for each in resources for step in each.steps(patient.answers)]
    return [("fail", step.message, "") for step in steps if isinstance(step, Problem)]


# -- the job servers, as they are seen from there ---------------------------------------


def _servers(patient: Patient) -> Iterator[Found]:
    for server in patient.servers:
        host, port = parted(server)
        found = patient.known("server", host, port)
        if found["problem"] is None:
            took = f"{found['seconds'] * 1000:.1f} ms"
            yield "ok", f"{server} answers, version {found['version']} ({took})", ""
        else:
            drops = patient.known("firewall") if found["problem"] == "forbidden" else ()
            text, cure = UNREACHED[found["problem"]]
            said = "".join(f"\n| {rule}" for rule in drops)
            detail = f" ({found['detail']})" if found["detail"] else ""
            yield "fail", f"{server} {text}{detail}{said}", cure.format(host=host, port=port)


UNREACHED = {
    "refused": (
        "refuses the connection: nobody listens there, or a firewall rejects it",
        "systemctl status gearmand.socket gearmand there; nft list ruleset",
    ),
    "silent": (
        "is silent: it is down, or a firewall between drops what is sent to it",
        "nft list ruleset on both hosts; let TCP {port} in on the job server",
    ),
    "no way": (
        "cannot be reached: there is no route to it, or a firewall rejects it",
        "ip route get {host}; nft list ruleset",
    ),
    "forbidden": (
        "may not be reached: this host's own firewall forbids it",
        "nft list ruleset; let TCP {port} out",
    ),
    "no name": (
        "has a name that cannot be resolved here",
        "getent hosts {host}; use an address as ansible_host, or mend DNS",
    ),
    "no answer": (
        "is connected to, and does not answer as a job server",
        "systemctl status gearmand on the job server; is it Gearman that listens there?",
    ),
}


def _firewall(patient: Patient) -> Iterator[Found]:
    rules = patient.known("firewall")
    if rules and any(isinstance(each, ServerHealth) for each in patient.resources):
        shown = "".join(f"\n| {rule}" for rule in rules[:3])
        text = f"{len(rules)} rules drop or reject something{shown}"
        unreached = [
            server
            for server in patient.servers
            if patient.known("server", *parted(server))["problem"] is not None
        ]
        yield ("warn" if unreached else "ok"), text, ("nft list ruleset" if unreached else "")


def _queue(patient: Patient) -> Iterator[Found]:
    """On a job server: does anybody take what waits?"""
    own = [each.server for each in patient.resources if isinstance(each, ServerHealth)]
    for server in own:
        found = patient.known("server", *parted(server))
        if found["problem"] is not None:
            continue
        functions = found["functions"]
        stuck = {
            name: row for name, row in functions.items() if row["queued"] and not row["workers"]
        }
        for name, row in stuck.items():
            yield (
                "fail",
                f"{name}: {_count(row['queued'], 'job')} waiting, and no worker serves it",
                "invoke doctor on the worker hosts; add it to gearman_functions of one",
            )
        if not stuck:
            named = {name: row for name, row in functions.items() if "@" not in name}
            sums = {key: sum(row[key] for row in named.values()) for key in ("queued", "running")}
            jobs = _count(sums["queued"], "job")
            text = f"{_count(len(named), 'function')}, {jobs} waiting, {sums['running']} running"
            yield "ok", text, ""


def _registered(patient: Patient) -> Iterator[Found]:
    """On a worker host: do the job servers know its workers?"""
    there: dict[str, list[str]] = {}
    for health in patient.resources:
        if not isinstance(health, WorkerHealth):
            continue
        for server in health.servers:
            found = patient.known("server", *parted(server))
            if found["problem"] is not None:
                continue
            row = found["functions"].get(f"{health.function}@{health.address}")
            if row and row["workers"]:
                there.setdefault(server, []).append(health.function)
                continue
            unit = patient.known("unit", health.unit)
            if not unit or not _runs(unit):
                continue  # which has been told
            text = f"{server} knows no worker for {health.function} of this host"
            yield "fail", text, f"systemctl status {health.unit}; invoke logs {patient.host.name}"
    for server, functions in there.items():
        yield "ok", f"{', '.join(functions)} at {server}", ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


RULES: tuple[tuple[str, Callable[[Patient], Iterator[Found]]], ...] = (
    ("system", _system),
    ("clock", _clock),
    ("disk", _disk),
    ("memory", _memory),
    ("release", _release),
    ("units", _units),
    ("port", _port),
    ("firewall", _firewall),
    ("job server", _servers),
    ("workers", _registered),
    ("queue", _queue),
)
