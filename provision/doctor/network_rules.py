"""What can be wrong between a host and the job servers, as it is seen from that host."""

import shlex
from collections.abc import Iterable, Iterator

from gearman_py.functions import BUNDLED
from provision.distributions import opening_advice
from provision.doctor.subject import HostFacts, Verdict, is_running
from provision.inventory.schedules import ADMIN_SOCKET
from provision.invoke_line import invoke_line
from provision.remote.answers import ServerAnswer
from provision.resources.health import ServerHealth, WorkerHealth, split_server
from provision.resources.program import ProgramHealth
from provision.wording import format_count, format_pause


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
            name = host.rpartition("/")[2]  # without gearmans://
            cure = cure.format(host=name, port=port, sudo=facts.as_root(""), here=facts.host.name)
            yield "fail", f"{server} {text}{detail}{said}", cure


LET_IN = f"on {{host}}: {opening_advice('{port}')}"
UNREACHED = {
    "refused": (
        "refuses the connection: nothing listens there, or a firewall rejects it",
        "on {host}: {sudo}systemctl status gearmand.socket gearmand; {sudo}nft list ruleset",
    ),
    "silent": (
        "is silent: it is down, or a firewall between drops what is sent to it",
        f"on both hosts: {{sudo}}nft list ruleset; {LET_IN}",
    ),
    "no way": (
        "cannot be reached: no route to it, or a firewall rejects it",
        f"on {{here}}: ip route get {{host}}; {{sudo}}nft list ruleset; {LET_IN}",
    ),
    "forbidden": (
        "may not be reached: this host's own firewall forbids it",
        "on {here}: {sudo}nft list ruleset shows the rule; let TCP {port} out",
    ),
    "no name": (
        "has a name that cannot be resolved here",
        "on {here}: getent hosts {host}; use an address as ansible_host, or mend DNS",
    ),
    "no certificate": (
        "is to speak TLS, and this host has no certificate for it",
        "./invoke deploy issues one",
    ),
    "no answer": (
        "accepts the connection, but does not answer as a job server",
        "on {host}: {sudo}systemctl status gearmand; is it Gearman that listens there?",
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
        yield (
            ("warn" if unreached else "ok"),
            text,
            (facts.on_host("nft list ruleset") if unreached else ""),
        )


def check_queue(facts: HostFacts) -> Iterator[Verdict]:
    """On a job server: does it take jobs, and does a worker take what waits?"""
    for server in (each.server for each in facts.wanted(ServerHealth)):
        found = facts.known_answer("server", *split_server(server))
        if found["problem"] is not None:
            continue
        functions = found["functions"]
        kept = _why_kept(facts, found)
        if kept:
            yield kept
        stuck = {
            name: row for name, row in functions.items() if row["queued"] and not row["workers"]
        }
        for pause in found.get("pauses", ()):
            if name := pause["function"]:
                text = f"{name} is paused{format_pause(pause['since'], pause['by'])}: its jobs wait"
                yield "warn", text, _admin_command(facts, "--resume", name)
        for name, row in {} if found["moving"] else stuck.items():
            yield (
                "fail",
                f"{name}: {format_count(row['queued'], 'job')} waiting, and no worker serves it",
                f"{invoke_line('retire', facts.host.name)} moves them"
                if facts.retirement
                else _serving_cure(facts, server, name, is_kept=bool(kept)),
            )
        if not stuck and not kept:
            named = {name: row for name, row in functions.items() if "@" not in name}
            sums = {key: sum(row[key] for row in named.values()) for key in ("queued", "running")}
            count, jobs = format_count(len(named), "function"), format_count(sums["queued"], "job")
            yield "ok", f"{count}, {jobs} waiting, {sums['running']} running", ""


def _why_kept(facts: HostFacts, found: ServerAnswer) -> Verdict | None:
    """Why a job server takes no jobs, or gives none to its workers."""
    if why := found["refuses"]:
        logs = invoke_line("logs", "gearmand", "--limit", facts.host.name)
        return (
            "fail",
            f"its job server refuses jobs: {why}",
            f"mend the cause, and it goes on by itself; {logs} shows since when",
        )
    if found["moving"]:
        text = "its jobs are being moved to other job servers, and it assigns none"
        return "warn", text, "wait for the drain or retire; if it was interrupted, run it again"
    if found["paused"]:
        own = [each for each in found.get("pauses", ()) if not each["function"]]
        told = format_pause(own[0]["since"], own[0]["by"]) if own else ""
        text = f"its job server is paused{told}: it assigns no jobs"
        return "warn", text, _admin_command(facts, "--resume-server")
    return None


def _admin_command(facts: HostFacts, *words: str) -> str:
    """How the job server of this host is steered: it takes commands on its admin socket alone."""
    return facts.on_host(shlex.join(["gearadmin", "-h", f"unix:{ADMIN_SOCKET}", *words]))


def _other_servers(facts: HostFacts, server: str, function: str) -> list[str]:
    """The other job servers where a worker serves a function."""
    answers = {each: facts.answers["server", *split_server(each)] for each in facts.servers}
    return [
        each
        for each, found in answers.items()
        if each != server
        and isinstance(found, dict)
        and found.get("functions", {}).get(function, {}).get("workers")
    ]


def _serving_cure(facts: HostFacts, server: str, function: str, *, is_kept: bool) -> str:
    """How a function gets a worker. Jobs are not to be purged that only cannot come to theirs."""
    name = facts.host.name
    if others := _other_servers(facts, server, function):
        return (
            f"it is served at {', '.join(others)}: {invoke_line('deploy')} tells the workers all "
            f"job servers; if this one is to leave, {invoke_line('retire', name)} or "
            f"{invoke_line('drain', name)} moves its jobs"
        )
    if function in BUNDLED:
        return "mend what doctor says of the worker hosts; or add it to gearman_functions of one"
    cure = (
        "mend what doctor says of the worker hosts; or name a worker in gearman_workers whose "
        "functions: has it"
    )
    if is_kept:
        return cure
    return f"{cure}; or, if its jobs are not wanted, {_admin_command(facts, '--purge', function)}"


def check_database(facts: HostFacts) -> Iterator[Verdict]:
    """On a job server: can it use the database of its queue?"""
    questions = (each.queue_question for each in facts.wanted(ServerHealth))
    for question in filter(None, questions):
        if question not in facts.answers:
            continue  # it is not there, which has been told
        found = facts.known_answer(*question)
        problem = found["problem"]
        if problem is None:
            lines = [line.partition(" ") for line in found["facts"]]
            told = {state: [t.strip() for s, _, t in lines if s == state] for state, *_ in lines}
            for text in told.get("warn", ()):
                yield "warn", text, "what it must be like: docs/durable-queue.md"
            yield "ok", "; ".join(told.get("ok", ())), ""
        elif UNKNOWN_OPTION not in problem:
            first, *more = problem.removeprefix("gearmand: ").splitlines()
            said = "".join(f"\n| {line}" for line in more)
            yield (
                "fail",
                f"jobs cannot be stored: {first}{said}",
                DATABASE_CURE + invoke_line("deploy"),
            )


UNKNOWN_OPTION = "unrecognized arguments: --check-queue"  # to an older release
DATABASE_CURE = (
    "start or mend the database; if the job server asks it wrongly: gearman_database, "
    "gearman_database_user, _password and _ca in the inventory, then "
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
            logs = invoke_line("logs", health.unit, "--limit", facts.host.name)
            yield "fail", text, f"{facts.on_host(f'systemctl status {health.unit}')}; {logs}"
    for server, functions in there.items():
        yield "ok", f"{_listed(functions)} at {server}", ""


def _listed(functions: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(functions))
