"""What can be wrong with the units that a host should run, and the cure.

Pure, as provision/doctor/host_rules.py, which calls these rules.
"""

from collections.abc import Iterator
from typing import Any

from provision.doctor.subject import HostFacts, Verdict, is_running
from provision.fleet.kept_releases import worker_of
from provision.fleet.release_track import ReleaseTrack
from provision.invoke_line import invoke_line
from provision.release.app import app_workers
from provision.remote.messages import Unknown
from provision.report.denials import find_denials
from provision.resources.drained_server import DrainedServer
from provision.resources.former_units import FormerUnits
from provision.resources.unit import Unit
from provision.wording import format_count

LAST = "5"  # lines of a unit that failed
SAID = "200"  # lines in which a unit may say what it is not allowed


def check_units(facts: HostFacts) -> Iterator[Verdict]:
    well, deploy = [], invoke_line("deploy")
    for unit in facts.wanted(Unit):
        found = facts.known_answer("unit", unit.name)
        verdict = _judge_unit(facts, unit, found)
        if verdict is None:
            well.append(unit.name.removesuffix(".service"))
            continue
        state, text, cure = verdict
        last = facts.answers.get(("lines", unit.name, LAST), ())
        said = [f"| {line}" for line in (() if isinstance(last, Unknown) else last)]
        yield state, "\n".join([f"{unit.name} {text}", *(said if state == "fail" else ())]), cure
    for _ in facts.wanted(DrainedServer):
        yield "warn", "its job server is drained", invoke_line("undrain", facts.host.name)
    for former in facts.resources:
        if isinstance(former, FormerUnits):
            facts.known_answer(*former.question)
            for name, there in former.former_units(facts.answers).items():
                verb = "runs" if there["active"] else "is there"
                yield "warn", f"{name} {verb}, and the inventory does not have it", deploy
    if well:
        yield "ok", f"{', '.join(well)} {'run' if len(well) > 1 else 'runs'}", ""


def _judge_unit(facts: HostFacts, unit: Unit, found: dict[str, Any] | None) -> Verdict | None:
    """What is wrong with a unit."""
    name, deploy = unit.name, invoke_line("deploy")
    logs = invoke_line("logs", name, "--limit", facts.host.name)
    if found is None:
        return "fail", "is not there", deploy
    if found["load"] == "masked":
        return "fail", "is masked", f"{facts.on_host(f'systemctl unmask {name}')}; then {deploy}"
    if found["load"] != "loaded":
        status = facts.on_host(f"systemctl status {name}")
        return "fail", f"cannot be loaded ({found['load']})", status
    if found["sub"] == "auto-restart":
        times = format_count(found["restarts"], "time")
        return "fail", f"fails and is restarted, {times} by now", _code_cure(facts, name, logs)
    if found["active"] == "failed":
        return "fail", f"failed ({found['result']})", _code_cure(facts, name, logs)
    if not is_running(found):
        return "fail", f"is {found['active']}", deploy
    if found["stale"]:
        return "warn", "has a newer file than systemd knows", deploy
    if found["outdated"]:
        return "warn", f"runs, but {found['outdated']}", deploy
    if found["enabled"] != "enabled":
        return "warn", "would not start at boot", deploy
    if found["restarts"]:
        again = format_count(found["restarts"], "time")
        cure = f"{logs}; {facts.on_host(f'systemctl reset-failed {name}')} forgets it"
        return "warn", f"runs, and failed {again} before", cure
    return None


def _code_cure(facts: HostFacts, unit: str, logs: str) -> str:
    """What to do about a unit whose program ends; its code may be of an app's release."""
    apps = {worker.name: app.name for app, worker in app_workers(facts.host)}
    upgrade = ReleaseTrack(apps.get(worker_of(unit), "")).upgrade_line
    deploy = invoke_line("deploy")
    return f"{logs}; once the cause is mended: {deploy}, or {upgrade} if it was in the code"


def check_denials(facts: HostFacts) -> Iterator[Verdict]:
    for unit in facts.wanted(Unit):
        said = facts.known_answer("said", unit.name, SAID)
        for line, cure in find_denials(unit.name, said):
            yield "warn", f"{unit.name} said:\n| {line}", cure
