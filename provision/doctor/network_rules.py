"""What can be wrong between a host and the job servers, as it is seen from that host."""

from collections.abc import Iterable, Iterator

from gearman_py.functions import BUNDLED
from provision.doctor.subject import HostFacts, Verdict, is_running
from provision.resources.health import ServerHealth, WorkerHealth, split_server
from provision.resources.program import ProgramHealth
from provision.wording import format_count


def check_servers(facts: HostFacts) -> Iterator[Verdict]:
    """Can each be reached, and does it answer?"""
    for server in facts.servers:
        host, port = split_server(server)
        found = facts.known_answer("server", host, port)
        if found["problem"] is None:
            took = f"{found['seconds'] * 1000:.1f} ms"
            yield "ok", f"{server} answers, version {found['version']} ({took})", ""
        else:
            drops = facts.known_answer("firewall") if found["problem"] == "forbidden" else ()
            text, cure = UNREACHED[found["problem"]]
            said = "".join(f"\n| {rule}" for rule in drops)
            detail = f" ({found['detail']})" if found["detail"] else ""
            yield "fail", f"{server} {text}{detail}{said}", cure.format(host=host, port=port)


UNREACHED = {
    "refused": (
        "refuses the connection: nothing listens there, or a firewall rejects it",
        "systemctl status gearmand.socket gearmand there; nft list ruleset",
    ),
    "silent": (
        "is silent: it is down, or a firewall between drops what is sent to it",
        "nft list ruleset on both hosts; let TCP {port} in on the job server",
    ),
    "no way": (
        "cannot be reached: no route to it, or a firewall rejects it",
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


def check_firewall(facts: HostFacts) -> Iterator[Verdict]:
    """On a job server: could a firewall be in the way?"""
    rules = facts.known_answer("firewall")
    if rules and any(facts.wanted(ServerHealth)):
        shown = "".join(f"\n| {rule}" for rule in rules[:3])
        text = f"{len(rules)} rules drop or reject something{shown}"
        unreached = [
            server
            for server in facts.servers
            if facts.known_answer("server", *split_server(server))["problem"] is not None
        ]
        yield ("warn" if unreached else "ok"), text, ("nft list ruleset" if unreached else "")


def check_queue(facts: HostFacts) -> Iterator[Verdict]:
    """On a job server: does anybody take what waits?"""
    own = [each.server for each in facts.wanted(ServerHealth)]
    for server in own:
        found = facts.known_answer("server", *split_server(server))
        if found["problem"] is not None:
            continue
        functions = found["functions"]
        stuck = {
            name: row for name, row in functions.items() if row["queued"] and not row["workers"]
        }
        for name, row in stuck.items():
            yield (
                "fail",
                f"{name}: {format_count(row['queued'], 'job')} waiting, and no worker serves it",
                _serving_cure(name),
            )
        if not stuck:
            named = {name: row for name, row in functions.items() if "@" not in name}
            sums = {key: sum(row[key] for row in named.values()) for key in ("queued", "running")}
            count, jobs = format_count(len(named), "function"), format_count(sums["queued"], "job")
            yield "ok", f"{count}, {jobs} waiting, {sums['running']} running", ""


def _serving_cure(function: str) -> str:
    """How a function gets a worker."""
    if function in BUNDLED:
        return "invoke doctor on the worker hosts; add it to gearman_functions of one"
    return (
        "invoke doctor on the worker hosts; or name a worker in gearman_workers whose functions: "
        f"has it; or, if its jobs are not wanted, gearadmin --purge {function}"
    )


def check_registered(facts: HostFacts) -> Iterator[Verdict]:
    """On a worker host: do the job servers know its workers?"""
    there: dict[str, list[str]] = {}
    for health in facts.resources:
        if isinstance(health, WorkerHealth):
            asked = [health.asked]
        elif isinstance(health, ProgramHealth):
            asked = list(health.functions)
        else:
            continue
        for server in health.servers:
            found = facts.known_answer("server", *split_server(server))
            if found["problem"] is not None:
                continue
            rows = [found["functions"].get(each) for each in asked]
            if all(row and row["workers"] for row in rows):
                there.setdefault(server, []).extend(health.functions or asked)
                continue
            unit = facts.known_answer("unit", health.unit)
            if not unit or not is_running(unit):
                continue  # which has been told
            text = f"{server} knows no worker for {_listed(health.functions or asked)} of this host"
            yield "fail", text, f"systemctl status {health.unit}; invoke logs {facts.host.name}"
    for server, functions in there.items():
        yield "ok", f"{_listed(functions)} at {server}", ""


def _listed(functions: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(functions))
