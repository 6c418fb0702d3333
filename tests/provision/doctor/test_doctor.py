"""What the doctor's rules find in what a host answers, and what a survey of this machine tells."""

import ast
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gearman_py import AdminClient
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from provision.doctor import host_rules as checks
from provision.doctor.host_rules import SINCE
from provision.doctor.subject import ClockOffset, HostFacts
from provision.doctor.unit_rules import LAST, SAID, check_units
from provision.fleet.desired_state import DesiredState
from provision.fleet.unknown_workers import KnownWorkers
from provision.inventory import load as inventory
from provision.invoke_line import same_hosts
from provision.options import Options
from provision.pki import authority_of
from provision.release.build import ON_HOSTS, Artifact
from provision.remote.messages import Question, Unknown
from provision.remote.session import AGENT, Session
from provision.report.events import Finding
from provision.report.text import Report
from provision.resources.account import PLACES
from provision.resources.certificate import Certificate
from provision.resources.files import File
from provision.resources.health import split_server
from provision.resources.unit import Unit
from provision.wording import format_pause
from roles import ROLES
from roles.former import DATA, OWNED, SERVERS
from roles.former import PLACES as OURS
from tests.attacks import attack
from tests.job_servers import C_GEARMAND, GearmandProcess, running_server
from tests.provision.local import session
from tests.waiting import await_true

LAB = Path(__file__).resolve().parents[3] / "inventory" / "lab"
SERVER, OTHER = "198.18.10.247:4730", "198.18.10.249:4730"
GIB = 2**30
RELEASE = Artifact("1.0-abc", "", 0, None)
FUNCTIONS = ("reverse", "resize", "wc")
SERVES = {"queued": 0, "running": 0, "workers": 1}
RUNS = {
    "load": "loaded",
    "active": "active",
    "sub": "running",
    "enabled": "enabled",
    "stale": False,
    "pid": 7,
    "restarts": 0,
    "oom_kills": 0,
    "result": "success",
    "reload_key": None,
    "room_for_two": True,
    "outdated": None,
}
LISTENS = {"pid": 9, "command": "gearmand", "unit": "gearmand.service"}
RIGHT = ClockOffset(0, 0.001)
HOST = {
    "os": {"PRETTY_NAME": "Debian"},
    "python": [3, 11, 2],
    "systemd": 252,
    "machine": "x86_64",
    "libc": "glibc 2.36",
}
SPACE = {"size": 100 * GIB, "free": 50 * GIB, "inodes": 10**6, "readonly": False, "device": 1}
MACHINE = {"available": 4 * GIB, "memory": 8 * GIB}


def well(host: str) -> dict[Question, Any]:
    """What a host of the lab answers when all is as it should be."""
    functions = {f"{name}@worker1": SERVES for name in FUNCTIONS} | dict.fromkeys(FUNCTIONS, SERVES)
    answers: dict[Question, Any] = {
        ("host",): HOST,
        ("machine",): MACHINE,
        ("oom", SINCE): [],
        ("firewall",): [],
        ("releases", ON_HOSTS): {
            "current": RELEASE.id,
            "running": [RELEASE.id],
            "damaged": {},
            "given_up": {},
            "kept": {RELEASE.id: {"at": 0, "bad": None}},
        },
        ("port", "198.18.10.247", "4730"): LISTENS,
        ("port", "198.18.10.247", "9418"): LISTENS,
        ("server", "198.18.10.247", "4730"): {
            "problem": None,
            "detail": "",
            "seconds": 0.001,
            "version": "1.0",
            "functions": functions,
            "refuses": "",
            "moving": False,
            "paused": False,
        },
        ("units", "gearman-worker@*"): {},
        ("units", "gearman-firewall.*"): {},
        ("units", "gearmand.*"): {},
        ("units", "gearman-web.*"): {},
        ("marked", *OURS): {},
    }
    units = ("gearmand.service", *(f"gearman-worker@{name}.service" for name in FUNCTIONS))
    answers |= dict.fromkeys((("unit", name) for name in units), RUNS)
    answers |= {("said", name, SAID): [] for name in units}
    return answers


def found(
    host: str,
    answers: Mapping[Question, Any] | None = None,
    clock: ClockOffset = RIGHT,
    servers: Sequence[str] = (SERVER,),
) -> list[Finding]:
    """The findings that are not well, of a host that is well but for these answers."""
    known = inventory.load(LAB)
    (one,) = (each for each in known.hosts if each.name == host)
    resources = [
        resource
        for group, roles in ROLES.items()
        if group in one.groups
        for role in roles
        for resource in role(one, known, RELEASE)
    ]
    seen = [("server", *split_server(each)) for each in servers]
    asked = [*checks.questions_of_rules(resources), *seen]
    no_user = {each: None for each in asked if each[0] in ("user", "traces", "queue")}
    files = [_as_wanted(each) for each in resources if type(each) is File]
    spaces = {each: SPACE for each in asked if each[0] == "space"}
    told = well(host) | no_user | dict(files) | spaces | dict(answers or {})
    facts = HostFacts(
        one, resources, {each: told[each] for each in asked}, clock, RELEASE.id, servers
    )
    return [finding for finding in checks.run_rules(facts) if finding.state != "ok"]


def _as_wanted(file: File) -> tuple[Question, Any]:
    """The question about a file, and its answer when it is as the inventory has it."""
    (question,) = file.questions()
    found = {"kind": "file", "digest": question[2], "acl": False, "content": None}
    return question, found | {"owner": file.owner, "group": file.group, "mode": file.mode}


@pytest.mark.parametrize("host", ["client1", "server1", "worker1"])
def test_nothing_is_found_when_all_is_well(host: str) -> None:
    assert found(host) == []


def server(**answer: Any) -> dict[Question, Any]:
    question = ("server", "198.18.10.247", "4730")
    return {question: well("worker1")[question] | answer}


def releases(**answer: Any) -> dict[Question, Any]:
    return {("releases", ON_HOSTS): well("worker1")["releases", ON_HOSTS] | answer}


def unit(**answer: Any) -> dict[Question, Any]:
    return {("unit", "gearman-worker@wc.service"): RUNS | answer}


def space(**answer: Any) -> dict[Question, Any]:
    return {("space", "/var"): SPACE | {"device": 2} | answer}


def environment(**answer: Any) -> dict[Question, Any]:
    """Of the file that names the job servers on client1, which the inventory decides."""
    known = inventory.load(LAB)
    (one,) = (each for each in known.hosts if each.name == "client1")
    roles = (role(one, known, RELEASE) for role in ROLES["client"])
    files = (each for found in roles for each in found if type(each) is File)
    question, wanted = next(_as_wanted(e) for e in files if e.path == "/etc/gearman/environment")
    return {question: wanted | answer}


FORMER = {"group": "gearman", "home": "/nonexistent", "shell": "/usr/sbin/nologin"}
TRACES = ("traces", "gearman", *PLACES, *DATA, *OWNED)
NONE: dict[str, list[Any]] = {"processes": [], "units": [], "files": [], "group": []}
MINE = [{"pid": 3, "command": "mine", "unit": "mine.service"}]
PROD = "--hosts inventory/prod"
OLD_WORKER = {"gearman-worker@old.service": {"ours": True, "file": True, "active": False}}

WRONG = (
    (
        *("client1", {("user", "gearman"): FORMER, (*TRACES, *SERVERS): NONE}),
        *("warn", "accounts", "user gearman is there, and nothing needs it"),
    ),
    (
        *("server1", {("user", "gearman"): FORMER, TRACES: NONE | {"processes": MINE}}),
        *("warn", "accounts", "is kept: mine (pid 3, mine.service) runs as it"),
    ),
    (
        *("client1", {("marked", *OURS): {"/etc/gearman/tls/host.key": "file"}}),
        *("warn", "files", "/etc/gearman/tls/host.key is there, and nothing needs it"),
    ),
    (
        *("worker1", {("units", "gearman-worker@*"): OLD_WORKER}),
        *("warn", "units", "gearman-worker@old.service is there, and the inventory does not"),
    ),
    (
        *(
            "worker1",
            releases(
                current="old",
                kept={"old": {"at": 0, "bad": None}},
                running=[],
                given_up={RELEASE.id: "rolled back by ana"},
            ),
        ),
        *("warn", "release", f"old runs, and this tree is {RELEASE.id}, given up: rolled back by"),
    ),
    (
        *("client1", environment(digest="0" * 64)),
        *("warn", "files", "/etc/gearman/environment is not as the inventory has it"),
    ),
    (
        *("client1", {("space", "/opt/gearman"): SPACE | {"readonly": True}}),
        *("fail", "disk", "/opt/gearman is read-only"),  # mounted there once more
    ),
    ("worker1", {("machine",): MACHINE | {"available": 1}}, "warn", "memory", "1 B of 8 GiB"),
    ("worker1", {("oom", SINCE): ["x.service"]}, "fail", "memory", "x.service had a process kill"),
    ("worker1", space(free=GIB // 32), "fail", "disk", "/var has 32 MiB of 100 GiB left"),
    ("worker1", space(free=GIB // 2), "warn", "disk", "/var has 512 MiB of 100 GiB left"),
    ("worker1", space(inodes=3), "fail", "disk", "/var has 3 inodes left"),
    ("worker1", space(readonly=True), "fail", "disk", "/var is read-only"),
    ("worker1", releases(current=None), "fail", "release", "no release is in use"),
    ("worker1", releases(kept={}), "fail", "release", "not whole"),
    ("worker1", releases(damaged={RELEASE.id: "/x"}), "fail", "release", "damaged: /x"),
    ("worker1", releases(running=["old", RELEASE.id]), "warn", "release", "old still runs"),
    ("worker1", unit(load="masked", active="inactive"), "fail", "units", "wc.service is masked"),
    ("worker1", unit(active="failed", result="oom-kill"), "fail", "units", "failed (oom-kill)"),
    ("worker1", unit(active="inactive"), "fail", "units", "is inactive"),
    (
        *("worker1", unit(active="activating", sub="auto-restart", restarts=4)),
        *("fail", "units", "fails and is restarted, 4 times by now"),
    ),
    ("worker1", unit(stale=True), "warn", "units", "newer file than systemd knows"),
    ("worker1", unit(outdated="it is old"), "warn", "units", "it is old"),
    ("worker1", unit(enabled="disabled"), "warn", "units", "would not start at boot"),
    ("worker1", unit(restarts=1), "warn", "units", "failed 1 time before"),
    ("worker1", server(problem="refused"), "fail", "job server", "refuses the connection"),
    ("worker1", server(problem="silent"), "fail", "job server", "is silent"),
    ("worker1", server(problem="no name"), "fail", "job server", "cannot be resolved"),
    (
        *("worker1", server(problem="forbidden") | {("firewall",): ["tcp dport 4730 drop"]}),
        *("fail", "job server", "| tcp dport 4730 drop"),
    ),
    (
        *("server1", server(functions={"x": SERVES | {"queued": 3, "workers": 0}})),
        *("fail", "queue", "x: 3 jobs waiting, and no worker serves it"),
    ),
    (
        *("server1", server(refuses="background jobs cannot be stored: it is full")),
        *("fail", "queue", "refuses jobs: background jobs cannot be stored: it is full"),
    ),
    (
        *("server1", server(moving=True, functions={"x": SERVES | {"queued": 3, "workers": 0}})),
        *("warn", "queue", "being moved to other job servers"),
    ),
    ("server1", server(paused=True), "warn", "queue", "its job server is paused: it assigns"),
    (
        "server1",
        server(paused=True, pauses=[{"function": "", "since": 0.9e9, "by": "ann"}]),
        *("warn", "queue", f"its job server is paused{format_pause(0.9e9, 'ann')}: it assigns"),
    ),
    (
        "server1",
        server(pauses=[{"function": "x", "since": 0.9e9, "by": "ann"}]),
        *("warn", "queue", f"x is paused{format_pause(0.9e9, 'ann')}: its jobs wait"),
    ),
    (
        *("server1", {("port", "198.18.10.247", "4730"): None}),
        *("fail", "port", "nothing listens at 198.18.10.247:4730"),
    ),
    (
        "server1",
        {("port", "198.18.10.247", "4730"): {"pid": 3, "command": "nc", "unit": "x.service"}},
        *("fail", "port", "is taken by nc (pid 3, x.service)"),
    ),
    (
        "server1",
        {("host",): HOST | {"systemd": 240}},
        *("fail", "system", "systemd 240"),
    ),
    ("client1", {("host",): HOST | {"python": [3, 9, 2]}}, "fail", "system", "3.9.2 (Debian) is"),
    ("client1", {("oom", SINCE): Unknown("no journal")}, "warn", "memory", "no journal"),
)


@pytest.mark.parametrize("host, answers, state, check, text", WRONG)
def test_what_is_wrong_is_found_and_nothing_else(
    host: str, answers: dict[Question, Any], state: str, check: str, text: str
) -> None:
    (finding,) = found(host, answers)
    assert (finding.host, finding.state, finding.check) == (host, state, check)
    assert text in finding.text


def test_a_function_that_left_and_has_no_jobs_is_no_fault() -> None:
    """A job server goes on to list it, as one that clients alone named, until it is dropped."""
    served = {"wc": SERVES, "left": {"queued": 0, "running": 0, "workers": 0}}
    assert found("server1", server(functions=served)) == []


@pytest.mark.parametrize(
    "days, name, state, text",
    [
        (90, "worker1", "ok", "is good"),
        (25, "worker1", "warn", "it ends in 24 days"),
        (0, "worker1", "fail", "it has ended"),
        (90, "other", "fail", "not for worker1"),
        (90, "", "fail", "is missing"),
    ],
)
def test_certificates_are_looked_at(
    tmp_path: Path, days: int, name: str, state: str, text: str
) -> None:
    known = authority_of(tmp_path)
    wanted = Certificate("/etc/gearman/tls/host", ("worker1",), 90, "root", "gearman", known)
    pem, key = known.issue((name or "nobody",), days)
    digest = hashlib.sha256(key).hexdigest()
    content = f"# of the key {digest}\n{pem.decode()}"
    there: list[Any] = [{"kind": "file", "content": content}, {"kind": "file", "digest": digest}]
    asked = checks.questions_of_rules([wanted])
    answers: dict[Question, Any] = dict.fromkeys(asked, Unknown("nobody asks"))
    answers |= dict(zip(wanted.questions(), there if name else (None, None), strict=True))
    (host, *_) = inventory.load(LAB).hosts
    facts = HostFacts(host, [wanted], answers, RIGHT, None, [])
    (finding,) = (each for each in checks.run_rules(facts) if each.check == "TLS")
    assert finding.state == state
    assert text in finding.text


def test_a_worker_that_runs_and_is_not_registered_is_found() -> None:
    only = {f"{name}@worker1": SERVES for name in ("reverse", "wc")}
    (finding,) = found("worker1", server(functions=only))
    assert "knows no worker for resize of this host" in finding.text
    stopped = unit(active="inactive") | server(functions={})
    assert [each.text for each in found("worker1", stopped)] == [
        "gearman-worker@wc.service is inactive",
        f"{SERVER} knows no worker for reverse of this host",
        f"{SERVER} knows no worker for resize of this host",
    ]


@pytest.mark.parametrize(
    "ahead, doubt, states",
    [
        (0.5, 0.001, []),
        (1.5, 0.001, ["warn"]),
        (-1.5, 0.001, ["warn"]),
        (1.5, 1.0, []),
        (3600.0, 1.0, ["fail"]),
    ],
)
def test_a_clock_is_wrong_as_far_as_can_be_told(
    ahead: float, doubt: float, states: list[str]
) -> None:
    assert [each.state for each in found("client1", clock=ClockOffset(ahead, doubt))] == states


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("mprotect() failed [1] Operation not permitted", "jit: true of worker wc, "),
        ("preg_match(): Allocation of JIT memory failed, PCRE JIT will be ", "jit: true of wo"),
        ("MemoryError: Cannot allocate write+execute memory for ffi.callback()", "jit: true"),
        ("/usr/bin/sh: 1: cannot create /srv/out/x: Read-only file system", "writes: [/srv/out] "),
        ("OSError: [Errno 30] Read-only file system: '/opt/pictures/a.jpg'", "writes: [/opt/pic"),
        (
            "sh: 1: cannot create /etc/x: Read-only file system",
            "have worker wc write elsewhere: /etc is the system's",
        ),
        (
            "mkdir: cannot create directory \u2018/srv/y\u2019: Read-only file system",
            "writes: [/srv] of",
        ),
        ("fopen: Read-only file system", "writes: [FOLDER] of worker wc"),
        ("nice: cannot set niceness: Operation not permitted", "the unit of worker wc forbids "),
        ("socket: Address family not supported by protocol", "the unit of worker wc has IPv4"),
    ],
)
def test_what_a_unit_forbids_is_told_with_the_setting_that_allows_it(line: str, cure: str) -> None:
    said = ["it begins", line, line]
    (told,) = found("worker1", {("said", "gearman-worker@wc.service", SAID): said})
    assert (told.state, told.check) == ("warn", "denied")
    assert told.text == f"gearman-worker@wc.service said:\n| {line}"
    assert told.cure.startswith(cure)


def test_the_last_lines_are_asked_of_units_that_do_not_run_alone() -> None:
    known = inventory.load(LAB)
    worker = known.group("worker")[0]
    resources = [one for role in ROLES["worker"] for one in role(worker, known, RELEASE)]
    answers = well("worker1") | unit(active="failed")
    name = "gearman-worker@wc.service"
    assert checks.further_questions(resources, answers) == [("lines", name, LAST)]


ON_DATABASE = """
all:
  children:
    job_server:
      vars:
        gearman_queue: postgres
        gearman_database: postgresql://gearman@198.18.10.1/jobs
      hosts: {server1: {ansible_host: 198.18.10.247}}
"""


@pytest.mark.parametrize(
    ("problem", "lines", "findings"),
    [
        (None, ["ok    PostgreSQL 15", "ok    durable"], [("ok", "PostgreSQL 15; durable")]),
        (
            *(None, ["ok    PostgreSQL 15", "warn  fsync is off"]),
            [("warn", "fsync is off"), ("ok", "PostgreSQL 15")],
        ),
        (
            *("gearmand: PostgreSQL: it is\nfull", []),
            [("fail", "jobs cannot be stored: PostgreSQL: it is\n| full")],
        ),
        ("gearmand: error: unrecognized arguments: --check-queue", [], []),
    ],
)
def test_whether_the_database_of_a_queue_can_be_used_is_told(
    tmp_path: Path, problem: str | None, lines: list[str], findings: list[tuple[str, str]]
) -> None:
    (tmp_path / "hosts.yml").write_text(ON_DATABASE)
    known = inventory.load(tmp_path)
    (host,) = known.hosts
    resources = [one for role in ROLES["job_server"] for one in role(host, known, RELEASE)]
    units = [one.name for one in resources if isinstance(one, Unit)]
    there: dict[Question, Any] = {("unit", name): RUNS for name in units}
    (question,) = checks.further_questions(resources, there)
    assert question[2:4] == (f"{ON_HOSTS}/current/venv/bin/gearmand", "--check-queue")
    assert "User=gearmand" in question[1].splitlines()
    asked = [*checks.questions_of_rules(resources), ("server", *split_server(SERVER))]
    answers = dict.fromkeys(asked, Unknown("not asked"))
    told_by_it = {question: {"problem": problem, "facts": lines}}
    facts = HostFacts(host, resources, answers | told_by_it, RIGHT, None, [])
    told = [each for each in checks.run_rules(facts) if each.check == "database"]
    assert [(each.state, each.text) for each in told] == findings
    assert all(each.cure for each in told if each.state != "ok")


def test_jobs_whose_worker_is_elsewhere_are_not_to_be_purged() -> None:
    """As those of a job server whose retirement was interrupted."""
    waiting = {"x": {"queued": 1, "running": 0, "workers": 0}}
    (finding,) = found("server1", server(functions=waiting))
    admin = "on server1: sudo gearadmin -h unix:/run/gearmand/admin.sock"
    assert finding.cure.endswith(f"{admin} --purge x")
    refused, stuck = found("server1", server(functions=waiting, refuses="its disk is full"))
    assert "refuses jobs: its disk is full" in refused.text
    assert "--purge" not in stuck.cure
    there = server()["server", *split_server(SERVER)] | {"functions": {"x": SERVES}}
    other = {("server", *split_server(OTHER)): there}
    (finding,) = found("server1", server(functions=waiting) | other, servers=(SERVER, OTHER))
    assert finding.cure.startswith(f"it is served at {OTHER}: ")
    assert "--purge" not in finding.cure


@pytest.mark.parametrize(
    ("host", "answers", "cure"),
    [
        (
            "server1",
            server(pauses=[{"function": "a b", "since": 0.9e9, "by": "ann"}]),
            "on server1: sudo gearadmin -h unix:/run/gearmand/admin.sock --resume 'a b'",
        ),
        (
            *("server1", server(paused=True)),
            "on server1: sudo gearadmin -h unix:/run/gearmand/admin.sock --resume-server",
        ),
        (
            *("worker1", server(problem="refused")),
            (
                "on 198.18.10.247: sudo systemctl status gearmand.socket gearmand; "
                "sudo nft list ruleset"
            ),
        ),
        ("worker1", releases(current=None), f"./invoke deploy {PROD}"),
        (
            *("worker1", unit(active="activating", sub="auto-restart", restarts=4)),
            (
                f"./invoke logs gearman-worker@wc.service --limit worker1 {PROD}; once the cause "
                f"is mended: ./invoke deploy {PROD}, or ./invoke upgrade {PROD} if it was in the "
                "code"
            ),
        ),
    ],
)
def test_a_cure_is_a_command_as_it_is_typed(
    host: str, answers: dict[Question, Any], cure: str
) -> None:
    with same_hosts("inventory/prod"):
        (finding,) = found(host, answers)
    assert finding.cure == cure


def test_a_worker_of_an_app_that_fails_is_mended_by_an_upgrade_of_the_app(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        "worker: {hosts: {w: {gearman_apps: {shop: {source: shop}}, gearman_workers: "
        "{pay: {app: shop, run: 'shop:worker', instances: 2}}}}}\n"
        "job_server: {hosts: {j: {ansible_host: 198.18.10.9}}}\n"
    )
    (host,) = (each for each in inventory.load(tmp_path).hosts if each.name == "w")
    release = replace(RELEASE, apps=(("shop", Artifact("shop-1", "", 0, None)),))
    (role,) = (one for one in ROLES["worker"] if one.__name__ == "worker")
    known = role(host, inventory.load(tmp_path), release)
    (unit,) = (
        each
        for each in known
        if isinstance(each, Unit) and each.name == "gearman-worker@pay:2.service"
    )
    answers: dict[Question, Any] = {("unit", unit.name): RUNS | {"active": "failed"}}
    ((_, _, cure),) = check_units(HostFacts(host, [unit], answers, RIGHT, None, []))
    assert "./invoke upgrade --app shop if it was in the code" in cure


# -- a survey of this machine -----------------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Session]:
    with session(tmp_path) as opened:
        yield opened


def survey(agent: Session, *question: str) -> Any:
    return agent.survey([question])[question]


def survey_workers(agent: Session, address: tuple[str, int]) -> list[Any]:
    """The workers of a job server, once one has registered there."""
    with socket.create_connection(address) as worker:
        worker.sendall(request(Packet.CAN_DO, b"f"))
        question = "server", address[0], str(address[1])
        await_true(lambda: survey(agent, *question)["registered"] != [])
        return list(survey(agent, *question)["registered"])


def test_a_job_server_is_asked_how_it_is(agent: Session, tmp_path: Path) -> None:
    with GearmandProcess(["-v", "-L", "127.0.0.1", "-p", "0"], tmp_path) as server:
        address = server.listening()
        told = survey(agent, "server", "127.0.0.1", str(address[1]))
        with AdminClient(f"127.0.0.1:{address[1]}") as admin:
            admin.pause("p q")
            admin.pause_server()
        paused = survey(agent, "server", "127.0.0.1", str(address[1]))["pauses"]
        (worker,) = survey_workers(agent, address)
    assert worker["functions"] == ["f"]
    assert 0 <= worker["seconds"] < 3600
    assert told["problem"] is None
    assert told["functions"] == {}
    assert told["version"]
    assert (told["refuses"], told["moving"], told["paused"]) == ("", False, False)
    assert told["pauses"] == []
    assert [(each["function"], each["by"]) for each in paused] == [
        ("p q", "127.0.0.1"),
        ("", "127.0.0.1"),
    ]
    assert all(abs(each["since"] - time.time()) < 3600 for each in paused)


@attack(
    "peer on the network", "end `doctor` and `status` by 10,050 functions and a long id", "mended"
)
def test_a_peer_with_many_functions_and_a_long_id_is_told(agent: Session, tmp_path: Path) -> None:
    names = [b"%05d" % number for number in range(10_050)]
    with GearmandProcess(["-v", "-L", "127.0.0.1", "-p", "0"], tmp_path) as server:
        host, port = server.listening()
        with socket.create_connection((host, port)) as peer:
            peer.sendall(request(Packet.SET_CLIENT_ID, b"\xff" * 5_000))
            peer.sendall(b"".join(request(Packet.CAN_DO, name) for name in names))
            peer.sendall(request(Packet.ECHO_REQ, b"done"))
            assert peer.recv(1)
            (worker,) = survey(agent, "server", host, str(port))["registered"]
    assert (len(worker["functions"]), worker["more"]) == (5_000, 5_050)
    known = inventory.load(LAB)
    workers = KnownWorkers(known, DesiredState(known, ROLES, Options(), Report([])), {})
    (line,) = workers.strangers("server1", [worker | {"client": "me:7"}])
    assert ", 05069 and 10030 more" in line


@attack("compromised host", "end `doctor` of all by what its job server says", "mended")
@pytest.mark.parametrize(
    "said",
    [
        pytest.param("OK 1\nf\t1\tnan\t1\n.\n", id="no number"),
        pytest.param(f"OK 1\nf\t{10**40}\t1\t1\n.\n", id="large"),
        pytest.param(f"OK {'x' * 2**20}\n.\n", id="long"),
    ],
)
def test_a_false_job_server_is_told(agent: Session, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(ConnectionError):  # it may hang up amid this
                connection.sendall(said.encode())
                while connection.recv(4096):
                    connection.sendall(b".\n")

        Thread(target=serve, daemon=True).start()
        told = survey(agent, "server", "127.0.0.1", str(listening.getsockname()[1]))
    assert told["problem"] == "no answer" or len(told["version"]) == 4096


def test_why_a_job_server_refuses_jobs_is_told(agent: Session, tmp_path: Path) -> None:
    options = ["-v", "-L", "127.0.0.1", "-p", "0", "--max-memory", "1M"]
    with GearmandProcess(options, tmp_path) as server:
        port = str(server.listening()[1])
        await_true(lambda: survey(agent, "server", "127.0.0.1", port)["refuses"] != "")
        told = survey(agent, "server", "127.0.0.1", port)
    assert told["refuses"] == "the limit of memory is reached (--max-memory)"


@pytest.mark.interop
def test_a_job_server_in_c_tells_no_more_than_it_knows(agent: Session, tmp_path: Path) -> None:
    with running_server(C_GEARMAND, tmp_path) as (host, port):
        told = survey(agent, "server", host, str(port))
        (worker,) = survey_workers(agent, (host, port))
    assert (worker["functions"], worker["seconds"]) == (["f"], None)
    assert (told["problem"], told["refuses"], told["moving"]) == (None, "", False)


@pytest.mark.slow
def test_why_a_job_server_cannot_be_asked_is_told(agent: Session) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = str(bound.getsockname()[1])
        assert survey(agent, "server", "127.0.0.1", port)["problem"] == "refused"
        bound.listen()
        assert survey(agent, "server", "127.0.0.1", port)["problem"] == "no answer"
        assert survey(agent, "server", "gearmans://127.0.0.1", port)["problem"] == "no certificate"
    assert survey(agent, "server", "a..b", port)["problem"] == "no name"


def test_a_survey_tells_space_of_what_is_not_there_yet(agent: Session, tmp_path: Path) -> None:
    told = survey(agent, "space", str(tmp_path / "not" / "there"))
    assert told["device"] == os.stat(tmp_path).st_dev
    assert 0 < told["free"] <= told["size"]
    assert told["readonly"] is False


def test_a_survey_cannot_write() -> None:
    """By name, what could open, run or change a thing: to read, to look, and to ask a server."""
    tree = ast.parse((AGENT / "survey.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {ast.unparse(call.func) for call in calls}
    assert {name for name in called if name.startswith(("os.", "subprocess.", "socket."))} == {
        *("os.statvfs", "os.stat", "os.path.exists", "os.path.dirname", "socket.create_connection")
    }
    assert "open" not in called
    words = [node.elts[:2] for node in ast.walk(tree) if isinstance(node, ast.List) and node.elts]
    firsts = {tuple(map(ast.unparse, each)) for each in words}
    assert {first for first, *_ in firsts if first.startswith("'")} <= {
        *("'journalctl'", "'nft'", "'iptables'", "'--output=json'", "'--no-pager'", "'systemctl'")
    }
    assert [second for first, second in firsts if first == "'systemctl'"] == ["'show'"]


def test_a_worker_that_is_not_the_inventory_s_is_named() -> None:
    known = inventory.load(LAB)
    desired = DesiredState(known, ROLES, Options(), Report([]))
    workers = KnownWorkers(known, desired, {"worker1": ["10.0.0.7"]})

    def row(address: str, *functions: str) -> dict[str, object]:
        return {"address": address, "client": "me:7", "functions": functions}

    rows = [
        row("198.18.10.248", "wc", "wc@worker1", "ping@worker1/wc"),
        row("::ffff:10.0.0.7", "reverse"),
        row("198.18.10.246", "wc"),
        row("198.18.10.248", "wc", "old"),
        row("127.0.0.1", "mine") | {"seconds": 3 * 86400 + 4 * 3600 + 59},
        row("198.18.10.9", "trial@worker1/wc"),
    ]
    assert list(workers.strangers("server1", rows)) == [
        "me:7 at 198.18.10.246 serves wc",
        "me:7 at 198.18.10.248 serves old",
        "me:7 at 127.0.0.1 serves mine, connected for 3 d 4 h",
    ]


def test_workers_of_one_address_that_serve_the_same_are_told_in_one_line() -> None:
    known = inventory.load(LAB)
    workers = KnownWorkers(known, DesiredState(known, ROLES, Options(), Report([])), {})
    rows = [
        {"address": address, "client": client, "functions": [function], "seconds": seconds}
        for address, client, function, connections in (
            ("10.0.0.9", "lap:7", "size", 8),
            ("10.0.0.9", "lap:8", "size", 2),
            ("10.0.0.9", "lap:9", "size", 1),
            ("10.0.0.9", "lap:7", "tile", 1),
            ("10.0.0.8", "desk:7", "size", 2),
        )
        for seconds in range(200, 200 - connections, -1)
    ]
    assert list(workers.strangers("server1", rows)) == [
        "lap:7 and 2 others at 10.0.0.9 serve size over 11 connections, connected for 3 min",
        "lap:7 at 10.0.0.9 serves tile, connected for 3 min",
        "desk:7 at 10.0.0.8 serves size over 2 connections, connected for 3 min",
    ]


@pytest.mark.parametrize(
    ("function", "cure"), [("wc", "gearman_functions"), ("x", "gearman_workers")]
)
def test_a_function_without_a_worker_gets_one_by_the_setting_that_takes_it(
    function: str, cure: str
) -> None:
    waiting = {function: {"queued": 1, "running": 0, "workers": 0}}
    (finding,) = found("server1", server(functions=waiting))
    assert cure in finding.cure


def test_a_worker_whose_functions_its_code_alone_knows_is_not_unknown() -> None:
    known = inventory.load(LAB.parents[1] / "examples" / "lab")
    workers = KnownWorkers(known, DesiredState(known, ROLES, Options(), Report([])), {})

    def row(client: str, *functions: str) -> dict[str, object]:
        return {"address": "198.18.10.248", "client": client, "functions": functions}

    rows = [
        row("worker1:7", "thumbnail", "thumbnail@worker1"),  # its connection for threads
        row("worker1:7", "page", "page@worker1"),  # and that of its event loop
        row("laptop:7", "page", "page@laptop"),
    ]
    told = "laptop:7 at 198.18.10.248 serves page"
    assert list(workers.strangers("server1", rows)) == [told]
