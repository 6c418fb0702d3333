"""Why is it not working? Everything that is known to go wrong, looked at on every host.

It only looks, and takes no lock. What a host should be is what its roles say; what is found
is judged in provision/doctor/host_rules.py and network_rules.py.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from provision.doctor import host_rules as checks
from provision.doctor.subject import ClockOffset, HostFacts
from provision.errors import HostFailed, ToolkitError
from provision.fleet.ask_all import AskAll
from provision.fleet.desired_state import DesiredState, Roles
from provision.fleet.drained_hosts import find_drained
from provision.fleet.past_runs import PAST_RUNS
from provision.fleet.run import Connect
from provision.fleet.unknown_workers import KnownWorkers
from provision.inventory.drained import mark_drained
from provision.inventory.host import Host, Inventory
from provision.inventory.workers import find_unencrypted
from provision.invoke_line import invoke_line
from provision.options import Options
from provision.release.app import apps_of, named_app
from provision.release.app_source import App
from provision.release.build import Artifact
from provision.remote.messages import Unknown
from provision.remote.session import Session
from provision.report.events import Finding
from provision.resources.base import Resource
from provision.resources.health import ServerHealth, split_server

NOTHING = Artifact("none", "", 0, None)  # when only names of units and servers are wanted


def doctor(folder: Path, roles: Roles, options: Options, *, problems: bool = False) -> int:
    """Show what is wrong, and how to mend it; with ``problems``, not what is right.

    Returns 0 unless something failed: 3, or 4 when a host cannot be reached.
    """
    asked = AskAll(folder, options, to_event=_host_unreachable)
    known = mark_drained(asked.inventory, find_drained(asked.inventory, asked.connect))
    asked.hosts = known.hosts
    desired = DesiredState(known, roles, options, asked.report)
    servers = _job_servers(known, roles, desired)
    began = time.monotonic()
    states: Counter[str] = Counter()

    def look(host: Host, connect: Connect) -> tuple[list[Finding], HostFacts]:
        return _examine_host(host, connect, desired, servers)

    seen: list[HostFacts] = []
    for _, (found, facts) in asked.answers(look):
        seen.append(facts)
        states.update(each.state for each in found)
        for each in found:
            if not problems or each.state != "ok":
                asked.report.show(each)
    for finding in _find_unknown_workers(known, desired, seen):
        states[finding.state] += 1
        asked.report.show(finding)
    states["fail"] += len(asked.failed)
    told = ", ".join(f"{states[each]} {each}" for each in ("ok", "warn", "fail") if states[each])
    asked.report.say(f"{told} ({time.monotonic() - began:.1f} s)")
    return max(asked.status, HostFailed.status if states["fail"] else 0)


def _current_apps(session: Session, apps: Iterable[App]) -> dict[str, Artifact]:
    """The releases of these apps that a host uses, by name."""
    questions = {app.name: ("releases", app.root) for app in apps}
    answers = session.ask(questions.values())
    known = {name: answers[question] for name, question in questions.items()}
    return {
        name: named_app(name, answer["current"])
        for name, answer in known.items()
        if not isinstance(answer, Unknown) and answer["current"]
    }


def _host_unreachable(host: Host, error: ToolkitError) -> Finding:
    return Finding(host.name, "fail", "ssh", str(error).removeprefix(f"{host.name}: "))


def _examine_host(
    host: Host, connect: Connect, desired: DesiredState, servers: list[str]
) -> tuple[list[Finding], HostFacts]:
    start = time.monotonic()
    with connect(host) as session:
        seconds = time.monotonic() - start
        root = host.become or host.user == "root"
        way = "and is root" if root else "and is not root: not all can be seen"
        text = f"{host.user} logs in at {host.address} {way} ({seconds:.1f} s)"
        login = Finding(host.name, "ok" if root else "warn", "ssh", text)
        apps = _current_apps(session, apps_of(host).values())
        resources = _wanted_resources(host, desired, apps)
        answers = session.survey([PAST_RUNS, *checks.questions_of_rules(resources)])
        for server in servers:  # each alone: one that is silent takes its time
            answers |= session.ask([("server", *split_server(server))])
        for question in checks.further_questions(resources, answers):
            answers |= session.ask([question])
        clock = _measure_clock(session)
    known = answers["host",]
    tree = None if isinstance(known, Unknown) else desired.known_tree(answers)
    facts = HostFacts(host, resources, answers, clock, tree, servers)
    told = facts.retirement or facts.departure
    leaves = [Finding(host.name, "warn", "retirement", told)] if told else []
    rules = () if facts.departure else checks.run_rules(facts)  # it is meant to have nothing
    wrong = [Finding(host.name, "fail", "inventory", text) for text in find_unencrypted(host)]
    return [login, *wrong, *leaves, *rules], facts


def _find_unknown_workers(
    known: Inventory, desired: DesiredState, seen: Sequence[HostFacts]
) -> Iterator[Finding]:
    """Workers at the job servers that are not the inventory's."""
    addresses = {
        facts.host.name: machine["addresses"]
        for facts in seen
        if isinstance(machine := facts.answers["machine",], dict)
    }
    workers = KnownWorkers(known, desired, addresses)
    for facts in seen:
        for server in (each.server for each in facts.wanted(ServerHealth)):
            answer = facts.answers["server", *split_server(server)]
            rows = answer.get("registered", ()) if isinstance(answer, dict) else ()
            for line in workers.strangers(facts.host.name, rows):
                text = f"{server} knows a worker that is not the inventory's: {line}"
                yield Finding(facts.host.name, "warn", "unknown", text, _unknown_cure())


def _unknown_cure() -> str:
    retire = invoke_line("retire", "HOST")
    return f"stop it there (`{retire}` does so, before a host leaves the inventory)"


def _measure_clock(session: Session) -> ClockOffset:
    """A question alone: half of how long it took is how wrong the answer may be."""
    before = time.time()
    there = session.ask([("clock",)])["clock",]
    after = time.time()
    return ClockOffset(there - (before + after) / 2, (after - before) / 2)


def _wanted_resources(
    host: Host, desired: DesiredState, apps: Mapping[str, Artifact] = MappingProxyType({})
) -> list[Resource]:
    """What a host should be that uses these releases of apps."""
    artifact = replace(NOTHING, apps=tuple(apps.items()))
    return list(dict.fromkeys(desired.resources_of(host, artifact)))


def _job_servers(known: Inventory, roles: Roles, desired: DesiredState) -> list[str]:
    """Every job server, also of hosts that are not to be looked at."""
    everyone = dict.fromkeys(host for group in roles for host in known.group(group))
    found = (one for host in everyone for one in _wanted_resources(host, desired))
    return list(dict.fromkeys(one.server for one in found if isinstance(one, ServerHealth)))
