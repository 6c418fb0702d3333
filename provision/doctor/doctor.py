"""Why is it not working? Everything that is known to go wrong, looked at on every host.

It only looks, and takes no lock. What a host should be is what its roles say; what is found
is judged in provision/doctor/host_rules.py and network_rules.py.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from provision import build as release
from provision.build import Artifact
from provision.doctor import host_rules as checks
from provision.doctor.subject import Clock, Patient, parted
from provision.errors import HostFailed, ToolkitError
from provision.fleet import pool as hosts
from provision.fleet.run import Roles
from provision.inventory import load as inventory
from provision.inventory.host import Host, Inventory
from provision.options import Options
from provision.remote.messages import Unknown
from provision.remote.session import Session
from provision.report.events import Finding
from provision.report.reporter import reporter
from provision.resources.base import Resource
from provision.resources.health import ServerHealth

NOTHING = Artifact("none", "", 0, None)  # when only names of units and servers are wanted


def doctor(folder: Path, roles: Roles, options: Options) -> int:
    """Show what is wrong, and how to mend it.

    Returns 0 unless something failed: 3, or 4 when a host cannot be reached.
    """
    known = inventory.load(folder, options.limit)
    report = reporter(options, [host.name for host in known.hosts])
    servers = _servers(known, roles)
    began, status = time.monotonic(), 0
    states: Counter[str] = Counter()
    with hosts.sessions() as connect:

        def look(host: Host) -> list[Finding]:
            return list(_look(connect, host, known, roles, servers))

        results = dict(hosts.each(known.hosts, look, options.parallel))
        for host in known.hosts:
            result = results[host]
            if isinstance(result, ToolkitError):
                status = max(status, result.status)
                problem = str(result).removeprefix(f"{host.name}: ")
                found = [Finding(host.name, "fail", "ssh", problem)]
            else:
                found = result
            states.update(each.state for each in found)
            for each in found:
                report.show(each)
    if states["fail"]:
        status = max(status, HostFailed.status)
    told = ", ".join(f"{states[each]} {each}" for each in ("ok", "warn", "fail") if states[each])
    report.say(f"{told} ({time.monotonic() - began:.1f} s)")
    return status


def _look(
    connect: Callable[[Host], Session],
    host: Host,
    known: Inventory,
    roles: Roles,
    servers: list[str],
) -> Iterator[Finding]:
    start = time.monotonic()
    with connect(host) as session:
        seconds = time.monotonic() - start
        root = host.become or host.user == "root"
        way = "and is root" if root else "and is not root: not all can be seen"
        text = f"{host.user} logs in at {host.address} {way} ({seconds:.1f} s)"
        yield Finding(host.name, "ok" if root else "warn", "ssh", text)
        resources = _resources(host, known, roles)
        answers = session.survey(checks.questions(resources))
        for server in servers:  # each alone: one that is silent takes its time
            answers |= session.ask([("server", *parted(server))])
        answers |= session.ask(checks.last_lines(resources, answers))
        clock = _clock(session)
    tree = _tree(answers["host",])
    patient = Patient(host, resources, answers, clock, tree, servers)
    yield from checks.findings(patient)


def _clock(session: Session) -> Clock:
    """A question alone: half of how long it took is how wrong the answer may be."""
    before = time.time()
    there = session.ask([("clock",)])["clock",]
    after = time.time()
    return Clock(there - (before + after) / 2, (after - before) / 2)


def _tree(facts: object) -> str | None:
    """The id of this tree's release for a host, if it was built."""
    if isinstance(facts, Unknown) or not isinstance(facts, dict):
        return None
    try:
        found = release.built(release.target(facts))
    except HostFailed:
        return None
    return found.id if found else None


def _resources(host: Host, known: Inventory, roles: Roles) -> list[Resource]:
    """What a host should be."""
    own = (each for group, each in roles.items() if group in host.groups)
    found = (one for group in own for role in group for one in role(host, known, NOTHING))
    return list(dict.fromkeys(found))


def _servers(known: Inventory, roles: Roles) -> list[str]:
    """Every job server, also of hosts that are not to be looked at."""
    everyone = dict.fromkeys(host for group in roles for host in known.group(group))
    found = (one for host in everyone for one in _resources(host, known, roles))
    return list(dict.fromkeys(one.server for one in found if isinstance(one, ServerHealth)))
