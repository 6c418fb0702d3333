"""A deploy over many hosts: what begins when, what stops what, and the status it ends with."""

import base64
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest

from provision.commands import status as standing
from provision.commands.check import check
from provision.errors import HostFailed, Locked, ToolkitError, Unreachable
from provision.fleet import begin, deploy, pool
from provision.fleet import drain as draining
from provision.fleet import retire as retirement
from provision.inventory.host import Host
from provision.options import Options
from provision.remote.messages import Answer, Operation, OperationOutcome, Question
from provision.resources.dashboard import DEPLOYS_FILE
from provision.resources.sample_jobs import make_picture
from roles import RETIRED, ROLES
from tests.attacks import attack
from tests.provision.fake_host import FakeHost

IDLE_SERVER: dict[str, Any] = {"problem": None, "functions": {}}
HOSTS = """\
all:
  children:
    job_server: {hosts: {job: {ansible_host: 198.18.10.247}}}
    worker: {hosts: {worker: {ansible_host: 198.18.10.248}}}
    client: {hosts: {client: {ansible_host: 198.18.10.246}}}
"""


RIGHT: dict[str, Callable[[], bytes]] = {
    "reverse": lambda: b"!dlroW olleH",
    "wc": lambda: b"2\n",
    "resize": lambda: make_picture(4, 600),
}


@dataclass
class FakeSession:
    """A session with a host that is a dict."""

    host: FakeHost
    breaks_at: str = ""  # a kind of operation that fails there
    locked: bool = False
    unlocks: bool = False  # once we have waited
    locks: bool = False
    holder: str = "ana@laptop"
    same_as: "FakeSession | None" = None  # another name of this machine
    nonce: str = ""  # of whoever has locked it
    refuses_lock: bool = False
    told: list[Any] = field(default_factory=list)  # what the host's dashboard is told
    meanwhile: list[Operation] = field(default_factory=list)  # done by others before we lock
    asked: int = 0
    left: int = -1  # operations until it is out of reach
    before: Callable[[Operation], None] = lambda _: None  # called when one is to be applied
    closed: bool = False

    def ask(self, questions: list[Question]) -> dict[Question, Answer]:
        self.asked += 1
        return self.host.answer(questions)

    def survey(self, questions: list[Question]) -> dict[Question, Answer]:
        return {each: self.host.servers.get((each[1], each[2]), IDLE_SERVER) for each in questions}

    def lock(self, holder: Any) -> None:
        if self.locks:
            return
        if self.refuses_lock:
            raise HostFailed("worker: malformed message while it was being locked")
        if self.locked:
            self.locked = not self.unlocks
            nonce = self.same_as.nonce if self.same_as else self.nonce
            raise Locked(f"worker is locked: {self.holder}", nonce)
        self.locks, self.nonce = True, holder["nonce"]
        self.host.apply(self.meanwhile)

    def apply(self, operations: list[Operation]) -> Iterator[OperationOutcome]:
        for operation in operations:
            self.before(operation)
            self.left -= 1
            if self.left == 0:
                raise Unreachable("worker: gone")
            if operation.kind == self.breaks_at:
                yield OperationOutcome(operation, 0.0, "it ended with 1", "no room\nat all")
                return
            if operation.kind == "trial":
                function = operation.arguments["command"][-1].rpartition("/")[2]
                yield OperationOutcome(
                    operation, 0.0, output=base64.b64encode(RIGHT[function]()).decode()
                )
                continue
            self.host.apply([operation])
            yield OperationOutcome(operation, 0.0)

    def record(self, path: str, entry: Any) -> None:
        (self.told if path == DEPLOYS_FILE else self.host.history).append(entry)

    def close(self) -> None:
        self.closed = True
        self.locks = False


class Fleet:
    """Three bare hosts, deployed to by the door that operators use."""

    def __init__(self, folder: Path) -> None:
        (folder / "hosts.yml").write_text(HOSTS)
        self.folder = folder
        self.sessions = {name: FakeSession(FakeHost()) for name in ("job", "worker", "client")}
        self.away: set[str] = set()

    def add_worker(self, name: str) -> None:
        more = (
            f"all: {{children: {{worker: {{hosts: {{{name}: {{ansible_host: 198.18.10.9}}}}}}}}}}"
        )
        (self.folder / f"{name}.yml").write_text(more)
        self.sessions[name] = FakeSession(FakeHost())

    def connect(self, host: Host) -> Any:
        if host.name in self.away:
            raise Unreachable(f"{host.name}: {host.address}:22 refused the connection")
        return self.sessions[host.name]

    def deploy(self, **options: Any) -> int:
        wanted = Options(yes=True, **options)
        return deploy.deploy(self.folder, ROLES, wanted, connect=self.connect)

    def plan(self) -> int:
        return deploy.plan(self.folder, ROLES, connect=self.connect)

    def status(self) -> int:
        return standing.status(self.folder, ROLES, connect=self.connect)

    def changed(self) -> dict[str, int]:
        return {name: len(each.host.applied) for name, each in self.sessions.items()}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr("provision.fleet.begin.LOCK_INTERVAL", 0.0)
    return Fleet(tmp_path)


@pytest.mark.slow
def test_bare_hosts_are_deployed_and_a_second_deploy_changes_nothing_in_few_lines(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.plan() == begin.CHANGES_PENDING
    assert fleet.changed() == {"job": 0, "worker": 0, "client": 0}
    assert fleet.deploy() == 0
    changed = fleet.changed()
    capsys.readouterr()

    asked = [session.asked for session in fleet.sessions.values()]
    assert fleet.deploy() == 0
    assert fleet.changed() == changed
    assert [session.asked for session in fleet.sessions.values()] == [each + 2 for each in asked]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 6
    assert "3 ok; nothing to change" in lines[-1]
    assert fleet.plan() == 0
    assert all(session.closed for session in fleet.sessions.values())


@pytest.mark.parametrize("away", [False, True])
def test_a_dashboard_is_told_what_was_done_to_all_hosts_also_if_it_is_left_out(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], away: bool
) -> None:
    more = "all: {children: {dashboard: {hosts: {page: {ansible_host: 198.18.10.9}}}}}"
    (fleet.folder / "page.yml").write_text(more)
    fleet.sessions["page"] = page = FakeSession(FakeHost())
    if away:
        fleet.away.add("page")
    assert fleet.deploy(limit="job,worker,client") == 0
    assert page.host.applied == []
    missing = "page: the page of deploys lacks this run: page: 198.18.10.9:22 refused"
    assert (missing in capsys.readouterr().out) == away
    if away:
        return
    (line,) = page.told
    assert line["hosts"] == ["client", "job", "worker"]
    assert line["result"] == "ok"
    assert line["changes"] == sum(fleet.changed().values())
    assert {line["run"]} == {each["run"] for each in fleet.sessions["job"].host.history}
    assert fleet.deploy(limit="job") == 0
    assert page.told == [line], "nothing was done"


def test_a_host_that_does_not_answer_stops_those_that_would_need_it(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.away.add("job")
    assert fleet.deploy() == Unreachable.status
    assert all(fleet.sessions[name].host.processes == {} for name in ("worker", "client"))
    out = capsys.readouterr().out
    assert "job     unreachable  198.18.10.247:22 refused the connection" in out
    assert "worker, client  staged  but not in use, because of job" in out


def test_a_host_that_does_not_answer_does_not_stop_its_peers(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.add_worker("worker2")
    fleet.away.add("worker")
    assert fleet.deploy() == Unreachable.status
    changed = fleet.changed()
    assert changed["worker"] == 0
    assert changed["job"]
    assert changed["worker2"]
    assert changed["client"]
    assert "4 hosts: 3 changed, 1 unreachable" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"free": 2**20}, "/opt/gearman has 1 MiB free, and a release needs"),
        (
            {"listening": {("198.18.10.247", "4730"): {"pid": 7, "command": "nc", "unit": None}}},
            "198.18.10.247:4730 is taken by nc (pid 7, no unit): stop it, or set gearman_port",
        ),
        (
            {"facts": FakeHost().facts | {"python": [3, 9, 2]}},
            "Python 3.9.2 (Debian GNU/Linux 12 (bookworm)) is too old",
        ),
        ({"facts": FakeHost().facts | {"systemd": 241}}, "systemd 241"),
    ],
)
def test_nothing_that_runs_is_changed_while_the_job_server_lacks_what_it_needs(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], spoil: dict[str, Any], message: str
) -> None:
    fleet.sessions["job"] = FakeSession(FakeHost(**spoil))
    assert fleet.deploy() == 3
    assert fleet.changed()["job"] == 0
    assert all(session.host.processes == {} for session in fleet.sessions.values())
    assert message in capsys.readouterr().out


def test_hosts_of_later_groups_do_not_begin_when_one_fails(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["job"].breaks_at = "unit"
    assert fleet.deploy() == 3
    staged = {"directory", "release"}
    for name, more in (("worker", {"group", "user"}), ("client", set())):
        assert {each.kind for each in fleet.sessions[name].host.applied} == staged | more
    out = capsys.readouterr().out
    assert "job     failed  start gearmand.socket: it ended with 1" in out
    assert "    | no room\n    | at all\n" in out
    assert "try: ./invoke logs gearmand.socket" in out
    assert "client  staged  but not in use, because of job" in out

    fleet.sessions["job"].breaks_at = ""
    assert fleet.deploy() == 0
    assert fleet.plan() == 0


def test_a_release_that_fails_on_one_host_changes_nothing_that_runs_there(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["client"].breaks_at = "release"
    assert fleet.deploy() == 3
    assert "/opt/gearman/current" not in fleet.sessions["client"].host.paths
    assert fleet.sessions["job"].host.processes
    assert fleet.sessions["worker"].host.processes
    assert "3 hosts: 2 changed, 1 failed" in capsys.readouterr().out.splitlines()[-1]


def test_a_locked_host_stops_the_deploy_before_anything_is_changed(fleet: Fleet) -> None:
    fleet.sessions["worker"].locked = True
    with pytest.raises(Locked, match="ana@laptop"):
        fleet.deploy()
    assert fleet.changed() == {"job": 0, "worker": 0, "client": 0}


@attack(
    "compromised host", "stop changes of the others by a malformed answer to its lock", "mended"
)
def test_a_host_that_cannot_be_locked_fails_alone(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["worker"].refuses_lock = True
    assert fleet.deploy() == HostFailed.status
    assert fleet.changed()["worker"] == 0
    assert fleet.sessions["client"].host.applied
    assert "malformed message while it was being locked" in capsys.readouterr().out


def test_what_somebody_else_did_since_the_plan_was_shown_is_not_done_again(fleet: Fleet) -> None:
    fleet.sessions["worker"].meanwhile = [Operation("group", {"name": "gearman-worker"})]
    assert fleet.deploy() == 0
    kinds = [each.kind for each in fleet.sessions["worker"].host.applied]
    assert kinds.count("group") == 1


def test_a_host_that_needs_more_than_its_plan_showed_is_not_touched(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy() == 0
    worker = fleet.sessions["worker"]
    link = {"path": "/opt/gearman/current", "target": "releases/other"}
    worker.host.apply([Operation("link", link)])
    unit = {"path": "/etc/systemd/system/gearman-worker@.service"}
    attributes = {"owner": "root", "group": "root", "mode": "0600"}
    worker.meanwhile = [Operation("attributes", unit | attributes)]
    before = fleet.changed()["worker"]
    assert fleet.deploy() == 3
    assert fleet.changed()["worker"] == before + 1
    said = capsys.readouterr().out
    assert "worker  failed  it has changed since its plan was made: run `invoke" in said
    assert "--limit" not in said.splitlines()[-2]

    # After a wait for the run that changed it, all hosts are planned again.
    worker.locked = worker.unlocks = True
    stop = {"name": "gearman-worker@wc.service", "enabled": None, "action": "stop"}
    worker.meanwhile = [Operation("unit", stop)]
    assert fleet.deploy(wait=60.0) == 0
    said = capsys.readouterr().out
    assert "is locked: ana@laptop" in said
    assert said.count("may have changed hosts: planning again") == 1
    assert fleet.plan() == 0


def test_a_host_that_says_it_is_done_and_is_not_has_failed(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["worker"].host.dies.add("gearman-worker@wc.service")
    assert fleet.deploy() == 3
    out = capsys.readouterr().out
    assert "every change was applied, and is due again: " in out
    assert "start gearman-worker@wc.service (it is inactive)" in out


def test_what_was_done_is_in_the_history_of_each_host(fleet: Fleet) -> None:
    fleet.sessions["job"].breaks_at = "unit"
    fleet.deploy()
    fleet.sessions["job"].breaks_at = ""
    fleet.deploy()
    fleet.deploy()  # nothing to do, nothing to tell
    job, worker = fleet.sessions["job"].host.history, fleet.sessions["worker"].host.history
    failed = "failed: start gearmand.socket: it"
    assert [entry["result"][:33] for entry in job] == ["begun", failed, "begun", "ok"]
    staged, *later = [entry["result"] for entry in worker]
    assert (staged, later) == ("staged, not begun because of job", ["begun", "ok"])
    assert job[1]["from"] is None
    assert job[1]["release"] == job[3]["from"] == worker[-1]["release"]
    assert worker[-1]["changes"] > 5


class CtrlC:
    """An operator who interrupts while hosts are at work; it is noticed when ``press`` returns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._waited_for = Event()
        noticed = self._noticed = Event()
        pressed = self

        class Inbox(SimpleQueue):  # type: ignore[type-arg]  # what hosts' threads tell
            def __init__(self) -> None:
                pressed._waited_for = Event()

            def get(self, block: bool = True, timeout: float | None = None) -> Any:
                pressed._waited_for.set()
                return super().get(block, timeout)

        def run_on_each(
            items: Any, function: Any, parallel: int, on_interrupt: Any = None
        ) -> Iterator[Any]:
            def notice() -> None:
                on_interrupt()
                noticed.set()

            yield from original(items, function, parallel, on_interrupt and notice)

        original = pool.run_on_each
        monkeypatch.setattr(pool, "SimpleQueue", Inbox)
        monkeypatch.setattr(pool, "run_on_each", run_on_each)

    def press(self) -> None:
        assert self._waited_for.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        if not self._noticed.wait(10):  # a wait that had just begun does not end by it
            os.kill(os.getpid(), signal.SIGINT)
        assert self._noticed.wait(30)

    def at(self, kind: str) -> Callable[[Operation], None]:
        """Press it, once, before an operation of this kind."""

        def before(operation: Operation) -> None:
            if operation.kind == kind and not self._noticed.is_set():
                self.press()

        return before


def test_an_interrupted_deploy_is_in_the_history_of_the_hosts_that_it_changed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["worker"].before = CtrlC(monkeypatch).at("unit")
    with pytest.raises(KeyboardInterrupt):
        fleet.deploy()
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "interrupted: the same command goes on where this one stopped"
    assert said[-4] == "job: changed"
    assert re.fullmatch(r"worker: \d+ of \d\d changes made", said[-3])
    staged = r"client: (\d) of 9 changes made, what runs there was not touched"
    assert (count := re.fullmatch(staged, said[-2]))
    job, worker, client = (
        [entry["result"] for entry in fleet.sessions[name].host.history]
        for name in ("job", "worker", "client")
    )
    assert job == ["begun", "ok"]
    assert worker[0] == "begun"
    assert re.fullmatch(r"interrupted after \d+ changes", worker[1])
    assert client == [f"interrupted after {count[1]} changes"]
    assert fleet.deploy() == 0
    assert fleet.sessions["worker"].host.history[-1]["result"] == "ok"


def test_a_deploy_interrupted_while_it_stages_tells_what_it_changed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["worker"].before = CtrlC(monkeypatch).at("release")
    with pytest.raises(KeyboardInterrupt):
        fleet.deploy()
    said = capsys.readouterr().out
    made = {name: count for name, count in fleet.changed().items() if count}
    told = re.findall(r"^(\w+): (\d+) of \d+ changes made, what runs there was", said, re.M)
    assert {name: int(count) for name, count in told} == made
    assert "worker" in made
    for name, session in fleet.sessions.items():
        results = [(entry["changes"], entry["result"]) for entry in session.host.history]
        count = made.get(name)
        assert results == ([(count, f"interrupted after {count} changes")] if count else [])
    assert fleet.deploy() == 0


def test_an_interrupt_before_the_first_change_says_so(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["worker"].locked = True

    def press(seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(begin, "sleep", press)
    with pytest.raises(KeyboardInterrupt):
        fleet.deploy(wait=60.0)
    assert capsys.readouterr().out.endswith("interrupted before any host was changed\n")
    assert not any(fleet.changed().values())


def test_a_deploy_that_was_broken_off_is_in_the_history_of_the_host(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pressed, ended = CtrlC(monkeypatch), Event()
    monkeypatch.setattr(pool, "INTERRUPT_TIMEOUT", 0.1)

    def before(operation: Operation) -> None:
        if operation.kind == "unit":
            pressed.press()
            assert ended.wait(30)
            raise Unreachable("worker: gone")  # as its session was closed

    fleet.sessions["worker"].before = before
    with pytest.raises(KeyboardInterrupt):
        fleet.deploy()
    ended.set()
    said = capsys.readouterr().out
    assert "this change may still be made there: start gearman-worker@reverse.service" in said
    assert re.search(r"^worker: \d+ of \d\d changes made$", said, re.MULTILINE)
    assert fleet.sessions["worker"].host.history[-1]["result"] == "begun"


def test_a_deploy_that_had_nothing_left_to_do_is_ended_by_the_next(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its operator was killed after the last change: the host's history told of no end."""
    assert fleet.deploy() == 0
    history = fleet.sessions["worker"].host.history
    assert history.pop()["result"] == "ok"
    assert fleet.plan() == 0
    assert [entry["result"] for entry in history] == ["begun"]
    capsys.readouterr()
    assert fleet.deploy() == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"worker: the deploy that \S+ began at .* is finished: .* left to do", last)
    assert [entry["result"] for entry in history] == ["begun", "ok"]
    assert history[-1]["changes"] == 0
    assert fleet.deploy() == 0
    assert len(history) == 2


def test_what_an_upgrade_left_is_not_ended_by_a_deploy(fleet: Fleet) -> None:
    """It still has to be seen whether the host works."""
    assert fleet.deploy() == 0
    history = fleet.sessions["client"].host.history
    history.append({**history[-1], "result": "begun", "gated": True})
    assert fleet.deploy() == 0
    assert history[-1]["result"] == "begun"


def test_an_interrupted_retirement_is_in_the_history_of_its_host(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy() == 0
    session = fleet.sessions["worker"]
    session.before = CtrlC(monkeypatch).at("forget_user")
    with pytest.raises(KeyboardInterrupt):
        retire(fleet, "worker")
    assert re.fullmatch(r"interrupted after \d+ changes", session.host.history[-1]["result"])
    capsys.readouterr()
    assert fleet.plan() == begin.CHANGES_PENDING
    told = (
        r"worker: its retirement was begun at .* `./invoke retire worker` finishes it, `./invoke d"
    )
    assert re.search(told, capsys.readouterr().out)
    assert retire(fleet, "worker") == 0
    assert session.host.history[-1]["result"] == "ok"
    assert leftovers(session.host) == set()


def test_only_what_has_a_tag_is_deployed(fleet: Fleet) -> None:
    assert fleet.deploy(tags="user, group") == 0
    kinds = {each.kind for one in fleet.sessions.values() for each in one.host.applied}
    assert kinds == {"user", "group"}
    with pytest.raises(ToolkitError, match="unknown tag 'unti'; did you mean 'unit'"):
        fleet.deploy(tags="unti")
    with pytest.raises(ToolkitError) as raised:
        fleet.deploy(tags="nosuch")
    known = str(raised.value).partition("; expected one of ")[2].split(", ")
    assert {"release", "unit", "job_server"} <= set(known)
    assert not {"unitfile", "releaseleftout"} & set(known), "these have the tags of others"


def run_as_former(host: FakeHost) -> None:
    """Everything runs as `gearman`, as versions before 0.1.0 had it."""
    host.groups.add("gearman")
    account = {"group": "gearman", "home": "/nonexistent", "shell": "/usr/sbin/nologin"}
    host.users["gearman"] = account | {"groups": []}
    for name, process in host.processes.items():
        if name.endswith(".service"):
            process |= {"user": "gearman", "config": "before"}
    for name in ("gearmand", "gearman-worker"):
        host.users.pop(name, None)


@pytest.mark.parametrize("name", ["job", "worker"])
def test_a_former_account_stays_while_tags_leave_its_units_alone(fleet: Fleet, name: str) -> None:
    fleet.deploy()
    host = fleet.sessions[name].host
    run_as_former(host)
    before = len(host.applied)
    assert fleet.deploy(tags="former") == 0
    assert len(host.applied) == before
    assert fleet.deploy() == 0
    assert "gearman" not in host.users


@pytest.mark.parametrize("tags", ["unit", "unit,former", "job_server"])
def test_what_has_a_tag_is_taken_over_with_its_account(fleet: Fleet, tags: str) -> None:
    fleet.deploy()
    host = fleet.sessions["job"].host
    run_as_former(host)
    assert fleet.deploy(tags=tags) == 0
    assert host.processes["gearmand.service"]["user"] == "gearmand"
    assert ("gearman" in host.users) == ("former" not in tags)
    assert fleet.deploy() == 0
    assert "gearman" not in host.users


@pytest.mark.parametrize("tags", ["unit", "worker", "link"])
def test_tags_that_leave_out_a_release_that_is_needed_change_nothing(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], tags: str
) -> None:
    assert fleet.deploy(tags=tags) == HostFailed.status
    assert fleet.changed()["worker"] == 0
    assert "--tags leaves it out; deploy without --tags" in capsys.readouterr().out
    assert fleet.deploy(limit="worker", tags=f"{tags},release,link,directory") == 0


def test_json_tells_the_same_line_by_line(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet.deploy(json=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines if line.get("host") == "client"] == [
        *("planned", "begun"),
        *["applied"] * 3,
        "begun",
        *["applied"] * 6,
        "verified",
    ]
    planned = next(line for line in lines if line["event"] == "planned")
    assert planned["plan"]["changes"][0]["summary"] == "group gearmand"


def leftovers(host: FakeHost) -> set[str]:
    """What is on a host that no bare one has, but the release."""
    added = {path for path in host.paths if not path.startswith("/opt/gearman")}
    added |= {*host.processes, *host.enabled, *host.users, *host.groups}
    bare = FakeHost()
    return added - {*bare.paths, *bare.users, *bare.groups}


def write_groups(fleet: Fleet, more: str = "", **groups: str) -> None:
    """The inventory's groups, each with this one host."""
    lines = [
        f"    {group}: {{hosts: {{{name}: {{ansible_host: 198.18.10.247}}}}}}"
        for group, name in groups.items()
    ]
    (fleet.folder / "hosts.yml").write_text("\n".join(["all:", more, "  children:", *lines]))


def test_a_build_that_fails_is_tried_once_and_told_once(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.add_worker("worker2")
    source = tmp_path / "shop"
    source.mkdir()
    (source / "worker.php").touch()
    (tmp_path / "group_vars").mkdir()
    build = f"[sh, -c, 'echo >>{tmp_path}/tried; echo no makefile; exit 2']"
    (tmp_path / "group_vars" / "worker.yml").write_text(
        f"gearman_apps: {{shop: {{source: shop, build: {build}}}}}\n"
        "gearman_workers:\n"
        "  shout: {app: shop, program: [php, ./worker.php], functions: [shout]}\n"
    )
    assert fleet.plan() == ToolkitError.status
    said = capsys.readouterr().out
    assert (tmp_path / "tried").read_text() == "\n"
    assert said.count("building app shop") == 1
    assert said.count("    no makefile\n") == 1


def test_a_host_that_moves_between_groups_keeps_nothing_of_the_former_one(fleet: Fleet) -> None:
    secure = "  vars: {gearman_tls: true}"
    write_groups(fleet, secure, job_server="job", worker="worker", client="client")
    assert fleet.deploy() == 0
    client = leftovers(fleet.sessions["client"].host)
    write_groups(fleet, job_server="worker", worker="client", client="job")
    assert fleet.deploy() == 0
    assert fleet.plan() == 0
    commands = {"/usr/local/bin/gearman", "/usr/local/bin/gearadmin"}
    now = {name: leftovers(each.host) for name, each in fleet.sessions.items()}
    files = {"/etc/profile.d/gearman.sh", "/etc/gearman", "/etc/gearman/environment"}
    assert now["job"] == commands | files
    assert client - now["job"] >= {"/etc/gearman/tls/host.key", "/etc/gearman/tls", "gearman"}
    assert not [each for each in now["client"] if "gearmand" in each or "/bin/" in each]
    assert not [each for each in now["worker"] if "worker" in each]


def test_jobs_of_a_job_server_that_leaves_move_when_all_know_the_others(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy() == 0
    write_groups(fleet, job_server="worker", worker="client", client="job")
    job = fleet.sessions["job"].host
    job.queued = {"wc": 2, "resize": 1}
    assert fleet.deploy(limit="job") == HostFailed.status
    assert fleet.deploy(tags="former") == HostFailed.status
    assert "without --limit and --tags" in capsys.readouterr().out
    fleet.sessions["client"].breaks_at = "unit"
    assert fleet.deploy() == HostFailed.status
    said = capsys.readouterr().out
    assert "- move 3 jobs (resize 1, wc 2) to 198.18.10.247:4730 and stop gearmand.service" in said
    assert "job     not begun  because of client" in said
    assert (job.queued, job.moved_by) == ({"wc": 2, "resize": 1}, [])
    fleet.sessions["client"].breaks_at = ""
    assert fleet.deploy() == 0
    said = capsys.readouterr().out
    assert said.index("client  changed") < said.index("job     changed")
    program = "/opt/gearman/current/venv/bin/gearadmin"
    admin = "unix:/run/gearmand/admin.sock"
    assert job.moved_by == [program, "-h", admin, "--retire", "198.18.10.247:4730"]
    assert not job.processes
    assert fleet.plan() == 0


def test_a_job_server_that_is_ours_no_longer_is_not_forgotten_with_its_jobs(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["job2"] = FakeSession(FakeHost())
    (fleet.folder / "job2.yml").write_text(
        "all: {children: {job_server: {hosts: {job2: {ansible_host: 198.18.10.9}}}}}"
    )
    assert fleet.deploy() == 0
    (fleet.folder / "hosts.yml").write_text(HOSTS.replace("    job_server", "    queues"))
    servers: dict[tuple[str, str], dict[str, Any]] = {}
    for name in ("worker", "client", "job2"):
        fleet.sessions[name].host.servers = servers
    row = {"queued": 2, "running": 1, "workers": 1}
    before = fleet.changed()
    servers["198.18.10.247", "4730"] = {"problem": None, "functions": {"wc": row}}
    capsys.readouterr()
    for attempt in (fleet.plan, fleet.deploy):
        assert attempt() == HostFailed.status
        said = capsys.readouterr().out
        assert "! 198.18.10.247:4730 leaves the job servers with 3 jobs (wc 3), which" in said
    assert fleet.changed() == before
    fleet.sessions["job2"].host.addresses = [
        "198.18.10.9",
        "198.18.10.247",
    ]  # which moved to another of ours
    assert fleet.plan() == begin.CHANGES_PENDING
    assert "leaves the job servers" not in capsys.readouterr().out
    assert fleet.deploy(tags="unit") == HostFailed.status, "which does not take it down"
    said = capsys.readouterr().out
    assert "with 3 jobs (wc 3), which would be stranded: deploy without --limit and" in said
    fleet.sessions["job2"].host.addresses = []
    servers["198.18.10.247", "4730"] = {"problem": "refused", "detail": ""}
    assert fleet.plan() == begin.CHANGES_PENDING
    assert "leaves the job servers and does not answer" in capsys.readouterr().out
    servers["198.18.10.247", "4730"] = {"problem": None, "functions": {}}
    assert fleet.deploy() == 0
    assert "and has no jobs; what runs on its host stays" in capsys.readouterr().out
    assert fleet.plan() == 0


def test_jobs_that_a_restart_loses_are_told_in_the_plan(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = {"job_server": "job", "worker": "worker", "client": "client"}
    write_groups(fleet, "  vars: {gearman_durable: false}", **groups)
    assert fleet.deploy() == 0
    fleet.sessions["job"].host.queued = {"wc": 2, "resize": 1}
    dropped = "; connections are dropped"
    lost = f"{dropped}; 3 jobs (resize 1, wc 2) in its memory are lost"
    assert plan_of_server(fleet, capsys, groups, "gearman_durable: true") == ("restart", lost)
    settings = "gearman_durable: false, gearman_memory: 2G"
    assert plan_of_server(fleet, capsys, groups, settings) == ("reload", "")
    write_groups(fleet, "  vars: {gearman_durable: true}", **groups)
    assert fleet.deploy() == 0
    settings = "gearman_port: 4731"
    assert plan_of_server(fleet, capsys, groups, settings) == ("restart", dropped)
    # Connections by TLS cannot be passed on.
    settings = "gearman_durable: true, gearman_tls: true"
    assert plan_of_server(fleet, capsys, groups, settings) == ("restart", dropped)
    # A server of a release that did not write down what a reload cannot change.
    fleet.sessions["job"].host.processes["gearmand.service"]["reload_key"] = None
    settings = "gearman_memory: 2G"
    assert plan_of_server(fleet, capsys, groups, settings) == ("restart", dropped)


def plan_of_server(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], groups: dict[str, str], settings: str
) -> tuple[str, str]:
    """How the plan says that the job server is brought to these settings, and what that costs."""
    write_groups(fleet, f"  vars: {{{settings}}}", **groups)
    capsys.readouterr()
    assert fleet.plan() == begin.CHANGES_PENDING
    said = capsys.readouterr().out
    why = r"(?:it runs with another configuration|gearmand\.socket is reopened)"
    found = re.search(rf"(\w+) gearmand\.service  \({why}(.*)\)$", said, re.MULTILINE)
    assert found, said
    return found[1], found[2]


def test_one_machine_of_two_names_is_told_so(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.add_worker("worker2")
    other = fleet.sessions["worker2"]
    other.locked, other.same_as = True, fleet.sessions["worker"]
    assert fleet.deploy() == HostFailed.status
    said = capsys.readouterr().out
    assert "worker2 is the same machine as worker, which this run" in said
    assert "worker is the same machine as worker2, which this run" in said
    assert {fleet.changed()[name] for name in ("worker", "worker2")} == {0}
    assert fleet.changed()["job"]


@attack("compromised host", "keep hosts locked that are done, by being slow", "mended")
def test_a_host_is_not_locked_any_more_when_its_part_is_over(fleet: Fleet) -> None:
    fleet.add_worker("worker2")
    assert fleet.deploy() == 0
    unit = {"path": "/etc/systemd/system/gearman-worker@.service"}
    spoil = Operation("attributes", unit | {"owner": "root", "group": "root", "mode": "0600"})
    for name in ("worker", "worker2"):
        fleet.sessions[name].host.apply([spoil])
    locked: list[set[str]] = []

    def note(operation: Operation) -> None:
        locked.append({name for name, each in fleet.sessions.items() if each.locks})

    fleet.sessions["worker"].before = fleet.sessions["worker2"].before = note
    assert fleet.deploy(parallel=1) == 0
    assert locked[0] == {"job", "worker", "worker2"}
    assert {"job"} < locked[-1] < {"job", "worker", "worker2"}


@attack("compromised host", "have a sound host taken for the same machine as itself", "mended")
def test_a_host_cannot_name_another_as_the_same_machine(fleet: Fleet) -> None:
    fleet.sessions["worker"].locked = True
    holder = pool.lock_holder()  # as ours: all that a host is told but for the others' nonces
    fleet.sessions["worker"].holder = f"{holder['who']} since 10:00, {holder['doing']}"
    with pytest.raises(Locked, match=r"^worker is locked"):
        fleet.deploy()


@pytest.mark.parametrize("problem", ["refused", "silent", "no way", "no name"])
def test_workers_that_would_find_no_job_server_are_refused_at_once(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], problem: str
) -> None:
    answer = {"problem": problem, "detail": ""}
    fleet.sessions["worker"].host.servers["198.18.10.247", "4730"] = answer
    assert fleet.deploy(limit="worker") == HostFailed.status
    said = capsys.readouterr().out
    assert "worker  failed  no job server can be reached from it: 198.18.10.247:4730 " in said
    assert "without one its workers do not start: deploy job first, or add it to --limit" in said
    assert not any(fleet.changed().values())


def test_a_job_server_that_does_not_come_up_is_not_waited_for_in_silence(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = fleet.sessions["worker"].host.servers
    server["198.18.10.247", "4730"] = {"problem": "refused", "detail": ""}
    monkeypatch.setattr("provision.fleet.awaited_servers.SERVER_TIMEOUT", 0.0)
    assert fleet.deploy() == HostFailed.status
    said = capsys.readouterr().out
    assert "its workers were left as they are" in said
    assert "try: ./invoke doctor --limit worker" in said
    assert not fleet.sessions["worker"].host.processes
    monkeypatch.setattr("provision.fleet.awaited_servers.SERVER_TIMEOUT", 60.0)

    def come_up(seconds: float) -> None:
        server.clear()

    monkeypatch.setattr("provision.fleet.awaited_servers.sleep", come_up)
    assert fleet.deploy() == 0
    told = "worker: waiting up to 60 s for a job server: 198.18.10.247:4730 refuses connections"
    assert told in capsys.readouterr().out


def retire(fleet: Fleet, names: str) -> int:
    options = Options(yes=True, wait=60.0)
    return retirement.retire(fleet.folder, RETIRED, options, names, connect=fleet.connect)


def test_a_host_that_retires_keeps_its_history_alone(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    write_groups(fleet, "  vars: {gearman_tls: true}", worker="worker", job_server="job")
    assert fleet.deploy() == 0
    capsys.readouterr()
    assert retire(fleet, "job,worker") == 0
    said = capsys.readouterr().out
    assert said.index("worker  changed") < said.index("job     changed")
    assert "nothing of ours is left on worker, job: delete them from the inventory" in said
    assert "(its host is retired)" in said
    assert "the inventory does not have it" not in said
    for name in ("job", "worker"):
        host = fleet.sessions[name].host
        assert leftovers(host) == set()
        assert not [path for path in host.paths if path.startswith("/opt/gearman/")]
        assert host.history[-1]["result"] == "ok"
    assert retire(fleet, "job,worker") == 0
    assert "nothing to change" in capsys.readouterr().out


@pytest.mark.parametrize("names", ["job", "job,worker"])
def test_the_last_job_server_does_not_retire_before_those_that_need_it(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], names: str
) -> None:
    assert fleet.deploy() == 0
    changed = fleet.changed()
    capsys.readouterr()
    assert retire(fleet, names) == HostFailed.status
    said = capsys.readouterr().out
    them = "client" if "worker" in names else "worker, client"
    told = rf"^job +failed  it is the last job server, and {them} would have none: put an"
    assert re.search(told, said, re.MULTILINE)
    assert f"`./invoke retire {names},{them.replace(' ', '')}`" in said
    assert said.endswith("refused: nothing was changed on any host\n")
    assert fleet.changed() == changed
    assert retire(fleet, "job,worker,client") == 0
    said = capsys.readouterr().out
    assert "then deploy" not in said
    assert said.endswith("no host of this inventory has Gearman any more\n")


def test_the_last_job_server_that_is_not_drained_does_not_retire(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    (fleet.folder / "job2.yml").write_text(
        "all: {children: {job_server: {hosts: {job2: {ansible_host: 198.18.10.9}}}}}"
    )
    fleet.sessions["job2"] = FakeSession(FakeHost())
    assert fleet.deploy() == 0
    options = Options(yes=True)
    assert draining.drain(fleet.folder, ROLES, options, "job2", connect=fleet.connect) == 0
    assert retire(fleet, "job") == HostFailed.status
    told = "it is the last job server that is not drained: `./invoke undrain job2` first"
    assert told in capsys.readouterr().out
    assert retire(fleet, "job2") == 0


def test_a_retirement_tells_which_functions_it_leaves_without_a_worker(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.add_worker("worker2")
    assert fleet.deploy() == 0
    assert retire(fleet, "worker2") == 0
    assert "no other host" not in capsys.readouterr().out
    (fleet.folder / "worker2.yml").unlink()
    assert retire(fleet, "worker") == 0
    told = "! no other host of the inventory has a worker for resize, reverse, wc: jobs for them "
    assert told in capsys.readouterr().out
    assert retire(fleet, "worker") == 0
    assert "no other host" not in capsys.readouterr().out, "nothing is left to retire"


def test_a_retired_host_that_is_still_in_the_inventory_is_told(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy() == 0
    assert retire(fleet, "worker") == 0
    told = re.compile("^worker: it was retired at .* by .*: delete it from the inv", re.MULTILINE)
    capsys.readouterr()
    assert fleet.plan() == begin.CHANGES_PENDING
    assert told.search(capsys.readouterr().out)
    standing.status(fleet.folder, ROLES, Options(), connect=fleet.connect)
    assert told.search(capsys.readouterr().out)
    options = Options(quiet=True)
    _, line = check(str(fleet.folder), ROLES, options, connect=fleet.connect)
    assert "worker: retired, but still in the inventory" in line
    assert fleet.deploy() == 0
    assert told.search(capsys.readouterr().out)
    assert fleet.plan() == 0
    assert not told.search(capsys.readouterr().out), "it was deployed to"


def test_a_retirement_tells_of_an_account_that_stays(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy() == 0
    fleet.sessions["worker"].host.theirs = ["/srv/joblog"]
    assert retire(fleet, "worker") == 0
    said = capsys.readouterr().out
    assert "worker: user gearman-worker stays: /srv/joblog is its own\n" in said
    assert "nothing else of ours is left on worker: delete it from the inventory" in said


def test_a_job_server_with_jobs_does_not_retire(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy() == 0
    fleet.sessions["job"].host.queued = {"wc": 2}
    assert retire(fleet, "job") == HostFailed.status
    assert "its job server holds 2 jobs (wc 2)" in capsys.readouterr().out
    assert "gearmand.service" in fleet.sessions["job"].host.processes


def test_a_job_server_that_left_its_group_is_named_with_its_jobs(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy() == 0
    fleet.sessions["job"].host.queued = {"wc": 2}
    write_groups(fleet, "", job_server="client", worker="worker", client="job")
    capsys.readouterr()
    standing.status(fleet.folder, ROLES, Options(), connect=fleet.connect)
    told = "job: its job server leaves, and holds 2 jobs (wc 2): `./invoke deploy` moves them"
    assert told in capsys.readouterr().out


def retirement_told(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether a retirement of the job server is told of, as one that did not end."""
    capsys.readouterr()
    standing.status(fleet.folder, ROLES, Options(), connect=fleet.connect)
    return "job: its retirement was begun at " in capsys.readouterr().out


def test_a_job_server_retires_when_the_others_do_not_know_it_any_more(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["job2"] = FakeSession(FakeHost())
    (fleet.folder / "job2.yml").write_text(
        "all: {children: {job_server: {hosts: {job2: {ansible_host: 198.18.10.9}}}}}"
    )
    assert fleet.deploy() == 0
    fleet.sessions["job"].host.queued = {"wc": 2}
    fleet.away.add("client")
    capsys.readouterr()
    assert retire(fleet, "job") == Unreachable.status
    said = capsys.readouterr().out
    assert re.search(r"job     not begun +because of client\n", said)
    history = fleet.sessions["job"].host.history
    assert (history[-1]["result"], history[-1]["retires"]) == ("begun", True)
    assert retirement_told(fleet, capsys)
    assert fleet.deploy() in (0, Unreachable.status)
    assert history[-1]["result"] == "ok"
    assert not retirement_told(fleet, capsys), "a deploy has taken it back"
    assert retire(fleet, "job") == Unreachable.status
    assert retirement_told(fleet, capsys)
    assert "--limit" not in said
    fleet.away.clear()
    fleet.sessions["job"].locked = fleet.sessions["job"].unlocks = True
    assert retire(fleet, "job") == 0
    said = capsys.readouterr().out
    assert "may have changed hosts: planning again" in said
    assert "nothing of ours is left on job: delete it from the inventory" in said
    assert "then deploy" not in said
    assert said.index("client  changed") < said.index("job     changed")
    assert leftovers(fleet.sessions["job"].host) == set()
    assert "--retire 198.18.10.9:4730" in " ".join(fleet.sessions["job"].host.moved_by)
    (fleet.folder / "hosts.yml").write_text(HOSTS.replace("    job_server", "    old"))
    changed = fleet.changed()
    assert fleet.deploy() == 0
    assert fleet.changed() == changed


@pytest.mark.parametrize("at", range(1, 11))
def test_a_retirement_that_was_cut_short_is_finished_by_the_next(fleet: Fleet, at: int) -> None:
    write_groups(fleet, "  vars: {gearman_tls: true}", job_server="job", worker="worker")
    assert fleet.deploy() == 0
    session = fleet.sessions["worker"]
    session.left = at
    retire(fleet, "worker")
    session.left = -1
    assert retire(fleet, "worker") == 0
    assert leftovers(session.host) == set()


def test_a_job_server_is_drained_and_stays_so_until_it_is_undrained(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    def drain(name: str, *, back: bool = False) -> int:
        options = Options(yes=True, wait=60.0)
        return draining.drain(fleet.folder, ROLES, options, name, back=back, connect=fleet.connect)

    assert fleet.deploy() == 0
    assert drain("job") == HostFailed.status
    assert "it is the last job server" in capsys.readouterr().out
    with pytest.raises(ToolkitError, match="drain: worker is not a job server"):
        drain("worker")
    fleet.sessions["job2"] = FakeSession(FakeHost())
    (fleet.folder / "job2.yml").write_text(
        "all: {children: {job_server: {hosts: {job2: {ansible_host: 198.18.10.9}}}}}"
    )
    assert fleet.deploy() == 0
    job, worker = fleet.sessions["job"].host, fleet.sessions["worker"].host
    job.queued = {"wc": 2}
    fleet.sessions["job"].breaks_at = "drain_server"
    assert drain("job") == HostFailed.status
    assert (
        "job: the next deploy goes on with the drain; `./invoke undrain job` takes"
        in capsys.readouterr().out
    )
    fleet.sessions["job"].breaks_at = ""
    untouched = len(worker.applied)
    capsys.readouterr()
    assert drain("job") == 0  # goes on where it was interrupted
    said = capsys.readouterr().out
    assert "move 2 jobs (wc 2) to 198.18.10.9:4730 and stop gearmand.socket" in said
    assert "job: drained, also after a reboot, until `./invoke undrain job`" in said
    assert not {"gearmand.service", "gearmand.socket"} & ({*job.processes} | job.enabled)
    assert job.moved_by[-2:] == ["--retire", "198.18.10.9:4730"]
    assert job.history[-1]["result"] == "ok"
    assert drain("job2") == HostFailed.status

    for look in (fleet.plan, fleet.deploy):
        capsys.readouterr()
        assert look() == 0
        assert "job: drained, and stays so" in capsys.readouterr().out
    fleet.sessions["job2"].host.servers["198.18.10.9", "4730"] = IDLE_SERVER
    assert fleet.status() == 0
    assert "job: drained; `./invoke undrain job` ends it" in capsys.readouterr().out
    _, line = check(str(fleet.folder), ROLES, Options(quiet=True), connect=fleet.connect)
    assert line.startswith("GEARMAN FLEET OK - 4 hosts as wanted (drained: job) | ")
    assert len(worker.applied) == untouched
    fleet.sessions["job"].locked = fleet.sessions["job"].unlocks = True
    assert drain("job", back=True) == 0
    assert "may have changed hosts: planning again" in capsys.readouterr().out
    assert {"gearmand.service", "gearmand.socket"} <= job.enabled
    assert "gearmand.service" in job.processes
    assert fleet.plan() == 0
    assert "/etc/gearman/drained" not in job.paths


@pytest.mark.slow
def test_schedules_of_the_inventory_are_at_one_job_server(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    def declare(text: str) -> None:
        known = f"gearman_schedules: {{{text}}}" if text else "{}"
        (fleet.folder / "group_vars").mkdir(exist_ok=True)
        (fleet.folder / "group_vars" / "job_server.yml").write_text(known)

    def at(name: str) -> dict[str, str]:
        schedules = fleet.sessions[name].host.schedules
        return {each: facts["cron"] for each, facts in schedules.items()}

    fleet.sessions["job2"] = FakeSession(FakeHost())
    (fleet.folder / "job2.yml").write_text(
        "all: {children: {job_server: {hosts: {job2: {ansible_host: 198.18.10.9}}}}}"
    )
    job, job2 = (fleet.sessions[name].host for name in ("job", "job2"))
    by_hand = {"function": "f", "cron": "1 1 * * *", "owner": ""}
    job2.schedules["mine"] = dict(by_hand)
    declare("nightly: {function: report, cron: 30 2 * * *, zone: Europe/Berlin}")
    assert fleet.deploy() == 0
    assert "schedule nightly  (30 2 * * * Europe/Berlin: report)" in capsys.readouterr().out
    assert (at("job"), at("job2")) == ({"nightly": "30 2 * * *"}, {"mine": "1 1 * * *"})

    job2.schedules["nightly"] = job.schedules.pop("nightly")  # as after a takeover
    assert fleet.plan() == 0
    declare("nightly: {function: report, cron: 30 3 * * *, zone: Europe/Berlin}")
    assert fleet.plan() == 2
    assert "schedule nightly  (cron 30 2 * * * -> 30 3 * * *" in capsys.readouterr().out
    assert fleet.deploy(limit="job") == 0
    assert at("job") == {}
    assert fleet.deploy() == 0

    options = Options(yes=True)
    assert draining.drain(fleet.folder, ROLES, options, "job2", connect=fleet.connect) == 0
    assert (at("job"), at("job2")) == ({"nightly": "30 3 * * *"}, {"mine": "1 1 * * *"})
    assert (
        draining.drain(fleet.folder, ROLES, options, "job2", back=True, connect=fleet.connect) == 0
    )
    assert fleet.plan() == 0
    declare("")
    assert fleet.deploy() == 0
    assert (at("job"), at("job2")) == ({}, {"mine": "1 1 * * *"})


def test_a_worker_on_a_job_server_may_read_the_key_before_it_is_tried(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["both"] = FakeSession(FakeHost())
    both = "hosts: {both: {ansible_host: 198.18.10.9}}"
    groups = f"job_server: {{{both}}}, worker: {{hosts: {{both: }}}}"
    (fleet.folder / "both.yml").write_text(f"all: {{children: {{{groups}}}}}")
    assert fleet.deploy() == 0
    (fleet.folder / "tls.yml").write_text("all: {vars: {gearman_tls: true}}")
    capsys.readouterr()
    assert fleet.plan() == begin.CHANGES_PENDING
    _, _, told = capsys.readouterr().out.partition("both    pending")
    joins, unit = "user gearman-worker  (also of group gearman)", "gearman-worker@.service"
    assert 0 < told.find(joins) < told.find("gearmand.service") < told.find(unit)


def test_status_shows_the_queues_of_all_job_servers_as_one(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["job2"] = FakeSession(FakeHost())
    (fleet.folder / "job2.yml").write_text(
        "all: {children: {job_server: {hosts: {job2: {ansible_host: 198.18.10.9}}}}}"
    )
    assert fleet.status() == 0
    assert "FUNCTION" not in capsys.readouterr().out  # none is installed
    assert fleet.deploy() == 0
    ping = {"queued": 0, "running": 0, "workers": 1}
    row = {"queued": 12, "running": 1, "workers": 3}
    answer = {"problem": None, "functions": {"wc": row, "ping@worker/wc": ping}}
    job, job2 = fleet.sessions["job"].host, fleet.sessions["job2"].host
    job.servers["198.18.10.247", "4730"] = answer
    job2.servers["198.18.10.9", "4730"] = answer
    capsys.readouterr()
    assert fleet.status() == 0
    table = [line for line in capsys.readouterr().out.splitlines() if "  job" in line[-8:]]
    assert [line.split() for line in table] == [
        ["wc", "12", "1", "3", "job"],
        ["wc", "12", "1", "3", "job2"],
    ]
    job2.servers["198.18.10.9", "4730"] = {"problem": "silent", "detail": "no answer in 3 s"}
    assert fleet.status() == HostFailed.status
    said = capsys.readouterr().out
    assert (
        "job2: its job server, 198.18.10.9:4730, does not answer: silent; no answer in 3 s" in said
    )
    assert "wc" in said
