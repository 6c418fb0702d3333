"""A rolling upgrade over hosts that are dicts: what goes when, is put back, is refused."""

import base64
import copy
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any, ClassVar

import pytest

from gearman_py import __version__
from packages import accelerator
from provision.commands import status as standing
from provision.errors import HostFailed, InventoryError, Locked, ToolkitError, Unreachable
from provision.fleet import deploy, desired_state, release_track, returned_workers
from provision.fleet.before_change import FOLDER, NOTE
from provision.fleet.drain import drain
from provision.fleet.health_check import OTHER_WORKER, OWN_SERVER, UNNAMED, UNSERVED
from provision.fleet.rollout import roll_out
from provision.fleet.rollout_policy import RolloutPolicy
from provision.inventory.host import Host
from provision.options import Options
from provision.release import app
from provision.release.build import ON_HOSTS, Artifact, named_release
from provision.remote.messages import Answer, Operation, OperationOutcome, Question
from provision.resources.sample_jobs import SAMPLES
from roles import ROLES
from tests.attacks import attack
from tests.provision.fake_host import FakeHost, directory, link

OLDER, OLD, NEW = "1-older", "1-old", "1-new"
ROLLED_BACK = 5
RIGHT = {"reverse": b"!dlroW olleH", "wc": b"2\n", "resize": b"", "lines": b"are you there?"}
ONLY = RolloutPolicy(settle=0)


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of a dict's workers are not decoded as pictures."""
    monkeypatch.setitem(SAMPLES, "resize", SAMPLES["wc"])
    monkeypatch.setitem(RIGHT, "resize", RIGHT["wc"])


@dataclass
class Session:
    """A session with a host that is a dict, and where workers of a release may not work."""

    name: str
    host: FakeHost
    told: list[str]  # what happened on any host, in order
    fails: Callable[[Operation, FakeHost], bool] = lambda operation, host: False
    error: str = "it failed"
    output: str = "I am broken"
    lost: bool = False
    locked: bool = False
    meanwhile: list[Operation] = field(default_factory=list)  # by another run, which has locked it
    reply: Callable[[str], bytes] = lambda function: RIGHT[function]
    workers: Callable[[], int] = lambda: 0  # of `reverse`, as its job server says

    def survey(self, questions: list[Question]) -> dict[Question, Answer]:
        functions = {"reverse": {"queued": 0, "running": 0, "workers": self.workers()}}
        return {each: {"problem": None, "functions": functions} for each in questions}

    def ask(self, questions: list[Question]) -> dict[Question, Answer]:
        if self.lost:
            raise Unreachable(f"{self.name}: gone")
        return self.host.answer(questions)

    def lock(self, holder: Any) -> None:
        if self.meanwhile:
            self.host.apply(self.meanwhile)
            self.meanwhile = []
            raise Locked(f"{self.name} is locked: ana@laptop")
        self.locked = True

    def apply(self, operations: list[Operation]) -> Iterator[OperationOutcome]:
        assert self.locked
        for operation in operations:
            if self.lost:
                raise Unreachable(f"{self.name}: gone")
            if self.fails(operation, self.host):
                yield OperationOutcome(operation, 0.0, self.error, self.output)
                return
            output = ""
            if operation.kind in ("job", "proved_job", "trial"):
                output = self._answer(operation.arguments["command"])
            elif operation.kind == "trial_program":
                output = self._answer_trial(**operation.arguments)
            elif operation.kind not in ("look", "check_functions", "trial_queue"):
                self.host.apply([operation])
            if operation.kind == "program":
                self.told.append(f"{self.name} begin")
            if operation.kind == "unit":
                self.told.append(f"{self.name} {operation.arguments['action']}")
            yield OperationOutcome(operation, 0.0, None, output)

    def _answer(self, command: list[str]) -> str:
        if "--server-version" in command:
            return base64.b64encode(f"OK 1, {__version__}".encode()).decode()
        function = command[-1].rpartition("/")[2].partition("@")[0]
        return base64.b64encode(self.reply(function)).decode()

    def _answer_trial(self, program: list[str], command: list[str], **_: Any) -> str:
        """By a program of the release that is to come."""
        if not command:
            return ""
        current = self.host.paths["/opt/gearman/apps/shop/current"]
        before, current["target"] = current["target"], program[-1].removesuffix("/app/a.php")
        try:
            return self._answer(command)
        finally:
            current["target"] = before

    def record(self, path: str, entry: dict[str, Any]) -> None:
        self.host.history.append(entry)

    def close(self) -> None:
        self.locked = False


@dataclass
class Fleet:
    """A job server, workers and a client that run the old release and keep the new one."""

    folder: Path
    workers: int = 4
    sessions: dict[str, Session] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    _hosts_of_old: ClassVar[dict[int, dict[str, FakeHost]]] = {}  # what the first upgrade made

    def __post_init__(self) -> None:
        names = ["job", *(f"w{n}" for n in range(1, self.workers + 1)), "client"]
        lines = ["all:", "  children:"]
        for group, members in (
            ("job_server", names[:1]),
            ("worker", names[1:-1]),
            ("client", names[-1:]),
        ):
            lines.append(f"    {group}:\n      hosts:")
            listen = "gearman_listen: 10.0.0.1" if group == "job_server" else ""
            lines += (f"        {name}: {{{listen}}}" for name in members)
        (self.folder / "hosts.yml").write_text("\n".join(lines))
        known = self._hosts_of_old.get(self.workers)
        hosts = copy.deepcopy(known) if known else {name: self._bare_host() for name in names}
        self.sessions |= {name: Session(name, host, self.told) for name, host in hosts.items()}
        if not known:
            assert self.upgrade(OLD, gap=True) == 0
            self.told.clear()
            self._hosts_of_old[self.workers] = copy.deepcopy(hosts)

    @staticmethod
    def _bare_host() -> FakeHost:
        host = FakeHost()
        folders = [ON_HOSTS, f"{ON_HOSTS}/releases"]
        for id in (OLDER, OLD, NEW):
            folders += [f"{ON_HOSTS}/releases/{id}", f"{ON_HOSTS}/releases/{id}/units"]
            host.releases[id] = {"at": len(folders), "bad": None}
        host.paths |= {path: directory() for path in folders}
        host.paths[f"{ON_HOSTS}/current"] = link(f"releases/{OLDER}")
        return host

    def connect(self, host: Host) -> Any:
        return self.sessions[host.name]

    def upgrade(
        self,
        to: str | None = NEW,
        *,
        again: bool = False,
        limit: str | None = None,
        wait: float = 0.0,
        **how: Any,
    ) -> int:
        policy = RolloutPolicy(**{"settle": 0.0, **how})
        options = Options(limit=limit, yes=True, again=again, wait=wait)
        return roll_out(self.folder, ROLES, options, policy, to=to, connect=self.connect)

    def rollback(self, to: str | None = None, **how: Any) -> int:
        policy = RolloutPolicy(**{"settle": 0.0, **how})
        return roll_out(
            self.folder, ROLES, Options(yes=True), policy, to=to, back=True, connect=self.connect
        )

    def runs(self) -> dict[str, str]:
        """The release that each host uses and runs."""
        found = {}
        for name, session in self.sessions.items():
            current = Path(session.host.paths[f"{ON_HOSTS}/current"]["target"]).name
            running = [each["program"] for each in session.host.processes.values()]
            programs = [each for each in running if each and "/apps/" not in each]
            assert all(f"/{current}/" in program for program in programs), name
            found[name] = current
        return found

    def all_run(self, id: str) -> bool:
        return set(self.runs().values()) == {id}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def trial_fails(operation: Operation, host: FakeHost) -> bool:
    return operation.kind == "trial" and NEW in str(operation.arguments)


def any_trial_fails(operation: Operation, host: FakeHost) -> bool:
    return operation.kind == "trial"


def job_fails(operation: Operation, host: FakeHost) -> bool:
    """The new worker's jobs fail once it is the one that runs."""
    return (
        operation.kind == "proved_job" and NEW in str(operation.arguments) and "@" in str(operation)
    )


def link_fails(operation: Operation, host: FakeHost) -> bool:
    return operation.kind == "link" and NEW in str(operation.arguments)


def test_job_server_then_one_worker_then_batches_then_clients(fleet: Fleet) -> None:
    assert fleet.upgrade(batch="1") == 0
    assert fleet.all_run(NEW)
    assert fleet.told == [
        "job reload",
        *(f"w{n} reload" for n in (1, 2, 3, 4) for _ in SAMPLES),
    ]
    histories = [session.host.history[-1] for session in fleet.sessions.values()]
    assert {(one["from"], one["release"], one["result"]) for one in histories} == {(OLD, NEW, "ok")}
    assert len({one["run"] for one in histories}) == 1


def test_a_second_upgrade_changes_nothing(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.upgrade()
    fleet.told.clear()
    assert fleet.upgrade() == 0
    assert fleet.told == []
    assert "nothing to change" in capsys.readouterr().out.splitlines()[-1]


def test_a_release_that_fails_its_trial_anywhere_touches_nothing(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["w3"].fails = trial_fails
    assert fleet.upgrade() == ROLLED_BACK
    assert fleet.told == []
    assert fleet.all_run(OLD)
    out = capsys.readouterr().out
    assert "w3      failed" in out
    assert "I am broken" in out
    for session in fleet.sessions.values():
        assert "I am broken" in session.host.releases[NEW]["bad"]
    last = fleet.sessions["w3"].host.history[-1]
    assert (last["from"], last["release"]) == (OLD, NEW)
    assert last["result"].startswith("failed: ")
    assert "I am broken" in last["result"]


@pytest.mark.parametrize("fails", [trial_fails, link_fails])
def test_of_more_releases_than_are_kept_the_one_that_was_given_up_goes(
    fleet: Fleet, fails: Callable[[Operation, FakeHost], bool]
) -> None:
    """It went with the next good run only, and each bad one that was tried before took its room."""
    good = {OLDER, OLD, "1-a", "1-b", "1-c"}
    for session in fleet.sessions.values():
        for at, id in enumerate(sorted(good - {OLDER, OLD})):
            session.host.paths[f"{ON_HOSTS}/releases/{id}"] = directory()
            session.host.releases[id] = {"at": 1000 + at, "bad": None}
    fleet.sessions["w1"].fails = fails
    assert fleet.upgrade(batch="1") == ROLLED_BACK
    assert fleet.all_run(OLD)
    for host in (fleet.sessions[name].host for name in ("w1", "w4", "client")):
        assert host.releases.keys() == good
        assert NEW in host.given_up
    assert fleet.upgrade() == 3


def test_what_was_upgraded_is_put_back_when_a_later_host_fails(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["w2"].fails = job_fails
    assert fleet.upgrade(batch="1") == ROLLED_BACK
    assert fleet.all_run(OLD)
    out = capsys.readouterr().out
    assert "w3, w4, client  not begun  because of w2" in out
    assert f"{OLD} runs on all hosts" in out
    assert re.search(r"^w2 +rolled back +\d+ +\d+ +1 ", out, re.MULTILINE)
    assert "to go on with these alone" not in out
    results = [entry["result"] for entry in fleet.sessions["w2"].host.history][-2:]
    assert results[0].startswith("failed: ")
    assert results[1] == "rolled back"


@attack(
    "peer on the network",
    "have a good release marked as bad on all hosts by answering its jobs",
    "mended",
)
@attack(
    "local user",
    "take the port of a trial's own job server, to have a good release marked as bad",
    "mended",
)
@pytest.mark.parametrize("fails", [trial_fails, job_fails])
@pytest.mark.parametrize(
    "error", [f"it {OTHER_WORKER} than that of this host", f"{OWN_SERVER} does not start: in use"]
)
def test_a_job_that_another_worker_did_is_not_held_against_the_release(
    fleet: Fleet, fails: Callable[[Operation, FakeHost], bool], error: str
) -> None:
    """Else whoever reaches a job server could have a good release refused on all hosts."""
    fleet.sessions["w2"].fails = fails
    fleet.sessions["w2"].error = error
    assert fleet.upgrade(batch="1") != 0
    assert fleet.all_run(OLD)
    assert not any(each.host.releases[NEW].get("bad") for each in fleet.sessions.values())


def test_a_job_server_whose_database_cannot_be_used_is_not_touched(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """To restart it would end the foreground jobs that it still takes."""
    (fleet.folder / "group_vars").mkdir()
    database = "gearman_queue: redis\ngearman_database: redis://198.18.10.1\n"
    (fleet.folder / "group_vars" / "job_server.yml").write_text(database)
    job = fleet.sessions["job"]
    job.fails = lambda operation, host: operation.kind == "trial_queue"
    assert fleet.upgrade(gap=True) == ROLLED_BACK
    assert fleet.told == []
    assert fleet.all_run(OLD)
    out = capsys.readouterr().out
    assert "the database of the queue: I am broken" in out
    assert "given up, before anything that runs was touched" in out
    assert job.host.releases[NEW]["bad"] is None
    assert job.host.history[-1]["result"].startswith("failed: the database of the queue")

    job.fails = lambda operation, host: False
    assert fleet.upgrade(gap=True) == 0
    assert fleet.all_run(NEW)
    job.host.processes.clear()  # one that does not run has nothing to lose
    job.fails = lambda operation, host: operation.kind == "trial_queue"
    assert fleet.upgrade(OLD, gap=True) == 0
    assert fleet.all_run(OLD)


@pytest.fixture
def restarting(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """One whose job server cannot be reloaded, and is asked for its workers without a pause."""
    process = fleet.sessions["job"].host.processes["gearmand.service"]
    process["reload_key"] = "another"
    monkeypatch.setattr(returned_workers, "LOOK_INTERVAL", 0.0)
    return fleet


def has_workers(fleet: Fleet, *counts: int) -> None:
    """Its job server has so many workers of `reverse`, whenever it is asked again."""
    left = iter(counts)

    def count() -> int:
        fleet.told.append(f"{(number := next(left))} workers")
        return number

    fleet.sessions["job"].workers = count


@pytest.mark.parametrize("how", ["upgrade", "deploy"])
def test_a_job_server_that_was_restarted_has_its_workers_again_before_others_are_touched(
    restarting: Fleet,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(returned_workers, "TELL_AFTER", 0.0)
    has_workers(restarting, 2, 0, 1, 2)
    if how == "upgrade":
        assert restarting.upgrade() == 0
    else:
        hosts = restarting.folder / "hosts.yml"
        hosts.write_text(hosts.read_text() + "\n  vars: {gearman_memory: 3G}\n")
        options = Options(yes=True)
        assert deploy.deploy(restarting.folder, ROLES, options, connect=restarting.connect) == 0
    looks = ["2 workers", "job restart", "0 workers", "1 workers", "2 workers"]
    assert restarting.told[:5] == looks
    assert capsys.readouterr().out.count("job: waiting for 2 workers to come back\n") == 1


def test_workers_that_do_not_come_back_are_told_and_the_upgrade_goes_on(
    restarting: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(returned_workers, "RETURN_TIMEOUT", 0.0)
    has_workers(restarting, 3, 1)
    assert restarting.upgrade() == 0
    assert restarting.all_run(NEW)
    told = "job: 2 workers did not come back to its job server within 0 s: reverse (2); going on"
    assert told in " ".join(capsys.readouterr().out.split())


def test_hosts_may_fail_up_to_a_number_and_are_put_back(fleet: Fleet) -> None:
    fleet.sessions["w2"].fails = job_fails
    assert fleet.upgrade(max_fail=1) == 3
    assert fleet.runs() == dict.fromkeys(fleet.sessions, NEW) | {"w2": OLD}


def test_a_worker_that_ends_as_if_it_reached_no_job_server_has_failed_its_trial(
    fleet: Fleet,
) -> None:
    fleet.sessions["w3"].fails = trial_fails
    fleet.sessions["w3"].error = "the worker ended with 3"
    assert fleet.upgrade() == ROLLED_BACK
    assert all(one.host.releases[NEW]["bad"] is not None for one in fleet.sessions.values())


def test_a_release_that_was_given_up_is_refused_until_it_is_asked_for_again(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["w3"].fails = trial_fails
    fleet.upgrade()
    fleet.sessions["w3"].fails = lambda operation, host: False
    assert fleet.upgrade() == 3
    assert "was given up" in capsys.readouterr().out
    assert fleet.all_run(OLD)
    assert fleet.upgrade(again=True) == 0
    assert fleet.all_run(NEW)


def test_a_host_that_is_lost_cannot_be_put_back_and_is_named(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    session = fleet.sessions["w2"]

    def cut(operation: Operation, host: FakeHost) -> bool:
        session.lost = job_fails(operation, host)
        return session.lost

    session.fails = cut
    assert fleet.upgrade(batch="1") == 3
    assert {name for name, id in fleet.runs().items() if id == NEW} == {"w2"}
    assert f"w2 could not be put back to {OLD}: w2: gone" in capsys.readouterr().out


def test_an_upgrade_that_waited_for_another_run_goes_by_what_that_has_left(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("provision.fleet.begin.LOCK_INTERVAL", 0.0)
    stop = {"name": "gearman-worker@wc.service", "enabled": None, "action": "stop"}
    fleet.sessions["w2"].meanwhile = [Operation("unit", stop)]
    assert fleet.upgrade(wait=60.0) == 0
    assert fleet.all_run(NEW)
    assert "may have changed hosts: planning again" in capsys.readouterr().out


def test_a_host_s_own_trouble_is_not_the_release_s_fault(fleet: Fleet) -> None:
    session = fleet.sessions["w2"]

    def cut(operation: Operation, host: FakeHost) -> bool:
        if operation.kind == "trial":
            raise Unreachable("w2: the connection was lost")
        return False

    session.fails = cut
    assert fleet.upgrade() == Unreachable.status
    assert fleet.told == []
    assert all(one.host.releases[NEW]["bad"] is None for one in fleet.sessions.values())


def test_workers_that_are_not_in_the_run_serve_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(tmp_path, workers=2)
    new_settings(fleet)
    capsys.readouterr()
    assert fleet.upgrade(limit="w1") == 0
    assert re.search(r"^\S+ runs on w1$", capsys.readouterr().out, re.MULTILINE)
    assert fleet.told == ["w1 restart"] * len(SAMPLES)


@pytest.mark.parametrize("at", range(1, 14, 2))
def test_an_interrupted_upgrade_goes_on_when_it_is_run_again(fleet: Fleet, at: int) -> None:
    left = at

    def interrupt(operation: Operation, host: FakeHost) -> bool:
        nonlocal left
        left -= operation.kind in ("unit", "link")
        if left == 0:
            raise KeyboardInterrupt
        return False

    for session in fleet.sessions.values():
        session.fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        fleet.upgrade(batch="1")
    for session in fleet.sessions.values():
        session.fails = lambda operation, host: False
    assert fleet.upgrade(batch="1") == 0
    assert fleet.all_run(NEW)


def test_what_an_interrupted_run_had_upgraded_is_put_back_too(fleet: Fleet) -> None:
    def interrupt(operation: Operation, host: FakeHost) -> bool:
        if operation.kind == "link":
            raise KeyboardInterrupt
        return False

    fleet.sessions["w3"].fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        fleet.upgrade(batch="1")
    assert fleet.runs()["w2"] == NEW
    fleet.sessions["w3"].fails = job_fails
    assert fleet.upgrade(batch="1") == ROLLED_BACK
    assert fleet.all_run(OLD)


@attack("compromised host", "have all hosts go back by an upgrade of itself that fails", "mended")
def test_hosts_that_were_upgraded_long_ago_stay_when_one_fails(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may say that it has yet to move, and the others' histories tell of an upgrade."""
    assert fleet.upgrade() == 0
    fleet.sessions["w3"].host.paths[f"{ON_HOSTS}/current"] = link(f"releases/{OLD}")
    fleet.sessions["w3"].fails = trial_fails
    past = fleet.sessions["w3"].host.history
    past[:] = [entry for entry in past if entry["release"] != NEW]
    old = datetime.now(UTC) - timedelta(days=2)
    for name in ("w1", "w2"):
        fleet.sessions[name].host.history[-1]["at"] = old.isoformat()
    capsys.readouterr()
    assert fleet.upgrade() == ROLLED_BACK
    hosts = {name: session.host for name, session in fleet.sessions.items()}
    targets = {name: host.paths[f"{ON_HOSTS}/current"]["target"] for name, host in hosts.items()}
    assert {targets["w1"], targets["w2"]} == {f"releases/{NEW}"}
    assert targets["w4"] == f"releases/{OLD}"
    assert fleet.sessions["w1"].host.releases[NEW]["bad"] is None
    said = capsys.readouterr().out
    assert re.search(r"^[^12]*w4[^12]*: changed by an earlier run; goes back too if", said, re.M)


def test_a_host_that_is_away_counts_as_failed_and_is_told_how_to_leave_out(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["w2"].lost = True
    assert fleet.upgrade() == Unreachable.status
    assert fleet.told == []
    assert "nothing was changed; without w2: --limit '!w2'" in capsys.readouterr().out
    assert fleet.upgrade(max_fail=1) == Unreachable.status
    assert fleet.runs() == dict.fromkeys(fleet.sessions, NEW) | {"w2": OLD}


def test_a_bad_release_is_found_on_one_host_first(fleet: Fleet) -> None:
    tried: list[str] = []

    def fail_trial(name: str, operation: Operation, host: FakeHost) -> bool:
        if operation.kind == "trial":
            tried.append(name)
        return trial_fails(operation, host)

    for name, session in fleet.sessions.items():
        session.fails = partial(fail_trial, name)
    assert fleet.upgrade() == ROLLED_BACK
    assert set(tried) == {"w1"}
    assert fleet.all_run(OLD)


def test_a_rollback_undoes_an_interrupted_run_where_it_went(fleet: Fleet) -> None:
    def interrupt(operation: Operation, host: FakeHost) -> bool:
        if operation.kind == "unit":
            raise KeyboardInterrupt
        return False

    fleet.sessions["w3"].fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        fleet.upgrade(batch="1")
    fleet.sessions["w3"].fails = lambda operation, host: False
    assert fleet.upgrade(batch="1") == 0
    assert fleet.all_run(NEW)
    assert fleet.rollback() == 0
    assert fleet.all_run(OLD)


def test_a_rollback_of_an_interrupted_run_leaves_hosts_that_it_had_not_reached(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """They had come by a run before that, which reached all, from where the rollback begins."""

    def interrupt(operation: Operation, host: FakeHost) -> bool:
        if operation.kind == "link":
            raise KeyboardInterrupt
        return False

    assert fleet.upgrade() == 0
    fleet.sessions["w2"].fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        fleet.upgrade(OLD, batch="1")
    capsys.readouterr()
    fleet.sessions["w2"].fails = lambda operation, host: False
    fleet.sessions["w1"].fails = lambda operation, host: operation.kind == "proved_job"
    assert fleet.rollback() != 0
    assert "changed by an earlier run" not in capsys.readouterr().out
    assert {fleet.runs()[name] for name in ("w2", "w3", "w4", "client")} == {NEW}


@pytest.mark.parametrize("at", range(1, 21, 2))
def test_an_interrupted_rollback_goes_on_when_it_is_run_again(fleet: Fleet, at: int) -> None:
    left = at

    def interrupt(operation: Operation, host: FakeHost) -> bool:
        nonlocal left
        left -= operation.kind in ("unit", "link", "condemn")
        if left == 0:
            raise KeyboardInterrupt
        return False

    assert fleet.upgrade(limit="!w4") == 0
    for session in fleet.sessions.values():
        session.fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        fleet.rollback(batch="1")
    for session in fleet.sessions.values():
        session.fails = lambda operation, host: False
    assert fleet.rollback() == 0
    assert fleet.all_run(OLD)
    for name, session in fleet.sessions.items():
        assert bool(session.host.releases[NEW]["bad"]) == (name != "w4")
        assert not session.host.releases[OLD]["bad"]


def test_a_rollback_leaves_hosts_that_the_last_run_left_out(fleet: Fleet) -> None:
    assert fleet.upgrade(limit="!w2") == 0
    assert fleet.rollback() == 0
    assert fleet.all_run(OLD)
    assert fleet.sessions["w2"].host.releases[OLD]["bad"] is None
    assert fleet.rollback() == 0
    assert fleet.all_run(OLDER)


def test_a_release_that_was_given_up_on_one_host_comes_to_no_other(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["w1"].host.releases[NEW]["bad"] = "it was slow"
    assert fleet.upgrade(limit="w2") == HostFailed.status
    assert f"release {NEW} was given up (on w1: it was slow)" in capsys.readouterr().out
    host = fleet.sessions["w1"].host
    host.apply([Operation("prune", {"root": ON_HOSTS, "id": NEW})])
    assert fleet.upgrade(limit="w2") == HostFailed.status
    assert f"release {NEW} was given up (on w1: it was slow)" in capsys.readouterr().out
    assert fleet.upgrade(limit="w2", again=True) == 0


def test_that_this_tree_s_release_was_given_up_is_told_where_another_stays(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Artifact(NEW, "abc", 1, None)
    monkeypatch.setattr(desired_state, "built_release", lambda *_, **__: tree)
    asking: list[Callable[..., int]] = [deploy.deploy, deploy.plan]
    for ask in asking:
        assert ask(fleet.folder, ROLES, Options(yes=True), connect=fleet.connect) == 0
        told = f"{OLD} stays; `./invoke upgrade` brings this tree's, {NEW}\n"
        assert capsys.readouterr().out.count(told) == 1
    fleet.sessions["w1"].host.releases[NEW]["bad"] = "it was slow"
    for ask in [*asking, standing.status]:
        assert ask(fleet.folder, ROLES, Options(yes=True), connect=fleet.connect) == 0
        told = f"\n{OLD} stays; this tree's release, {NEW}, was given up (on w1: it was slow): mend"
        assert capsys.readouterr().out.count(f"{told} it, then `./invoke upgrade`\n") == 1


def test_which_hosts_have_no_accelerator_why_and_what_to_do(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, session in fleet.sessions.items():
        session.host.releases[OLD]["accelerated"] = not name.startswith("w")
    fleet.sessions["w4"].host.facts["machine"] = "aarch64"

    def told() -> list[str]:
        found = []
        for ask in (deploy.plan, standing.status):
            assert ask(fleet.folder, ROLES, connect=fleet.connect) == 0
            lines = capsys.readouterr().out.splitlines()
            found.append([each for each in lines if "accelerator" in each])
        assert found[0] == found[1]
        return [each.replace("pure Python, without the accelerator", "PURE") for each in found[0]]

    only = "only Linux on aarch64 with glibc can build it: upgrade from such a machine"
    elsewhere = f"w4: PURE: {only}"
    monkeypatch.setenv("CC", "absent-cc -O2")
    cure = "install it (Debian: apt-get install gcc) on this machine, then `./invoke upgrade`"
    assert told() == [f"w[1:3]: PURE: the C compiler absent-cc is missing: {cure}", elsewhere]
    monkeypatch.setenv("CC", "sh")
    monkeypatch.setattr(accelerator, "INCLUDE", "/absent")
    lacks = "w[1:3]: PURE: Python's headers, /absent/Python.h, are missing: install them (Debian:"
    assert told()[0].startswith(lacks)
    monkeypatch.setattr(accelerator, "INCLUDE", str(fleet.folder))
    (fleet.folder / "Python.h").touch()
    assert told() == ["w[1:3]: PURE; `./invoke upgrade` brings it", elsewhere]
    monkeypatch.setenv("GEARMAN_PURE", "1")
    assert told() == ["w[1:4]: PURE: GEARMAN_PURE is set on this machine"]


def test_a_deploy_keeps_the_release_that_was_gone_back_to(fleet: Fleet) -> None:
    assert fleet.upgrade() == 0
    assert fleet.rollback() == 0
    new_settings(fleet)
    assert deploy.deploy(fleet.folder, ROLES, Options(yes=True), connect=fleet.connect) == 0
    assert fleet.all_run(OLD)
    unit = fleet.sessions["w1"].host.paths["/etc/systemd/system/gearman-worker@.service"]
    assert b"MemoryMax=2G" in unit["content"]


@pytest.mark.parametrize("gap", [False, True])
def test_a_batch_that_would_take_the_last_workers_away_is_taken_apart(
    tmp_path: Path, gap: bool
) -> None:
    fleet = Fleet(tmp_path, workers=3)
    new_settings(fleet)
    hosts = fleet.folder / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("w1: {}", "w1: {gearman_functions: [reverse]}"))
    meeting = Barrier(2)

    def meet(operation: Operation, host: FakeHost) -> bool:
        if operation.kind == "unit":
            with suppress(BrokenBarrierError):
                meeting.wait(0.3)
        return False

    for name in ("w2", "w3"):
        fleet.sessions[name].fails = meet
    assert fleet.upgrade(batch="100%", gap=gap) == 0
    assert meeting.broken != gap  # only together do they meet


def test_the_only_worker_of_a_function_is_not_restarted_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(tmp_path, workers=1)
    new_settings(fleet)
    assert fleet.upgrade() == 3
    assert fleet.told == []
    assert "would have no worker while this host restarts the only one" in capsys.readouterr().out
    assert fleet.upgrade(gap=True) == 0
    assert fleet.told[-3:] == ["w1 restart"] * 3


def new_settings(fleet: Fleet) -> None:
    """The inventory asks for other unit files than those that are there."""
    hosts = fleet.folder / "hosts.yml"
    hosts.write_text(hosts.read_text() + "\n  vars: {gearman_worker_memory: 2G}\n")


def test_a_rollback_goes_to_what_ran_before_and_blames_what_it_leaves(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.upgrade()
    capsys.readouterr()
    assert fleet.rollback() == 0
    assert fleet.all_run(OLD)
    out = capsys.readouterr().out
    assert "6 went back" in out
    assert "upgraded" not in out
    bad = {session.host.releases[NEW]["bad"] for session in fleet.sessions.values()}
    assert all("rolled back by" in why for why in bad)
    assert fleet.rollback(to=OLDER) == 0
    assert fleet.all_run(OLDER)


@attack("compromised host", "have a rollback mark a good release as bad on all hosts", "mended")
def test_a_rollback_that_one_host_alone_tells_of_marks_nothing_elsewhere(fleet: Fleet) -> None:
    fleet.upgrade()
    told = {"at": "9999-01-01T00:00:00+00:00", "run": "zz", "who": "bob@x", "doing": "invoke"}
    moved = {"release": NEW, "from": OLD, "back": True, "changes": 1, "result": "ok"}
    fleet.sessions["w1"].host.history.append({**told, **moved, "seconds": 1.0})
    with suppress(ToolkitError):  # without a terminal it is not asked
        roll_out(fleet.folder, ROLES, Options(), ONLY, back=True, connect=fleet.connect)
    assert {session.host.releases[OLD]["bad"] for session in fleet.sessions.values()} == {None}
    fleet.rollback()
    bad = {name for name, each in fleet.sessions.items() if each.host.releases[OLD]["bad"]}
    assert bad == {"w1"}


def test_a_rollback_brings_the_unit_files_of_its_release_back(fleet: Fleet) -> None:
    unit = "/etc/systemd/system/gearman-worker@.service"
    before = fleet.sessions["w1"].host.paths[unit]["content"]
    new_settings(fleet)
    assert fleet.upgrade() == 0
    assert b"MemoryMax=2G" in fleet.sessions["w1"].host.paths[unit]["content"]
    assert fleet.rollback() == 0
    assert fleet.sessions["w1"].host.paths[unit]["content"] == before


def test_there_may_be_nothing_to_go_back_to(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    for session in fleet.sessions.values():
        session.host.history.clear()
    assert fleet.rollback() == 3
    told = "its history does not tell what ran before 1-old; say --to: it keeps 1-older, 1-new"
    assert told in capsys.readouterr().out
    for session in fleet.sessions.values():
        session.host.releases[OLDER]["bad"] = session.host.releases[NEW]["bad"] = "on w1: slow"
    assert fleet.rollback() == 3
    told = "that it keeps were given up, 1-older (on w1: slow), 1-new (on w1: slow): say --to and"
    assert told in capsys.readouterr().out


def test_a_release_that_nobody_has_is_told(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.upgrade("1-nowhere") == 3
    told = "it keeps no release 1-nowhere, nor does this machine; it keeps 1-older, 1-old, 1-new"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("batch", ["0", "-1", "101%", "many", ""])
def test_a_batch_is_a_number_or_a_share(fleet: Fleet, batch: str) -> None:
    with pytest.raises(ToolkitError, match="say a number of hosts, or a share"):
        fleet.upgrade(batch=batch)


@pytest.mark.parametrize(
    ("batch", "number", "size"), [("1", 9, 1), ("25%", 10, 3), ("25%", 1, 1), ("100%", 7, 7)]
)
def test_a_share_is_rounded_up(batch: str, number: int, size: int) -> None:
    assert RolloutPolicy(batch=batch).batch_size(number) == size


def test_a_release_of_this_machine_is_runningby_its_name(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "releases"
    folder.mkdir(parents=True)
    (folder / "1-here.tar").write_bytes(b"x")
    assert named_release("1-here", tmp_path).size == 1
    assert named_release("1-gone", tmp_path).path is None


class FleetWithApp(Fleet):
    """Its workers run a program of an app too, whose source is beside the inventory."""

    def __post_init__(self) -> None:
        self.source = self.folder / "shop"
        self.source.mkdir()
        self.write("1")
        super().__post_init__()
        (self.folder / "group_vars").mkdir()
        (self.folder / "group_vars" / "worker.yml").write_text(
            "gearman_functions: [reverse, wc, resize]\n"
            "gearman_apps: {shop: {source: shop}}\n"
            "gearman_workers: {shout: {app: shop, program: [php, ./a.php], functions: [shout]}}\n"
        )
        options = Options(yes=True)
        assert roll_out(self.folder, ROLES, options, ONLY, to=OLD, connect=self.connect) == 0
        self.told.clear()

    def write(self, text: str) -> None:
        (self.source / "a.php").write_text(text)

    def deploy(self, limit: str | None = None, release: str = "") -> int:
        options = Options(yes=True, limit=limit)
        return deploy.deploy(self.folder, ROLES, options, release=release, connect=self.connect)

    def says(self, text: str) -> None:
        (self.folder / "group_vars" / "worker.yml").write_text(text)

    def change_settings(self) -> None:
        settings = self.folder / "group_vars" / "worker.yml"
        settings.write_text(settings.read_text() + "gearman_worker_memory: 2G\n")

    def move(self, *, limit: str | None = None, **how: Any) -> int:
        options, app = Options(yes=True, limit=limit), how.pop("app", "shop")
        policy = RolloutPolicy(settle=0, batch=how.pop("batch", "25%"))
        return roll_out(self.folder, ROLES, options, policy, app=app, connect=self.connect, **how)

    def check(self, expect: str, more: str = "") -> None:
        """Have its program checked by a job."""
        settings = self.folder / "group_vars" / "worker.yml"
        table = f"{{function: shout, workload: a, expect: '{expect}'}}{more}"
        text = re.sub(r", check: \{.*?\}", "", settings.read_text())
        settings.write_text(text.replace("[shout]}", f"[shout], check: {table}}}"))

    def answer(self, shout: Callable[[str], bytes]) -> None:
        """How a job is answered, by the id of the app's release on the host that submits it."""
        for session in self.sessions.values():
            session.reply = partial(self._reply, session.host, shout)

    @staticmethod
    def _reply(host: FakeHost, shout: Callable[[str], bytes], function: str) -> bytes:
        if function != "shout":
            return RIGHT[function]
        return shout(Path(host.paths["/opt/gearman/apps/shop/current"]["target"]).name)

    def app_runs(self) -> set[tuple[str, ...]]:
        """What the hosts use of the app, and the release of each program that runs."""
        found = set()
        for name in ("w1", "w2", "w3", "w4"):
            host = self.sessions[name].host
            programs = [each["program"] for each in host.processes.values()]
            running = [each.split("/")[6] for each in programs if "/apps/shop/" in each]
            found.add((Path(host.paths["/opt/gearman/apps/shop/current"]["target"]).name, *running))
        return found


@pytest.fixture
def with_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetWithApp:
    for name in ("built_app", "build_app"):
        monkeypatch.setattr(desired_state, name, partial(getattr(app, name), root=tmp_path))
    monkeypatch.setattr(release_track, "named_app", partial(app.named_app, root=tmp_path))
    return FleetWithApp(tmp_path)


def test_an_app_moves_and_gearman_py_stays_and_the_other_way_round(with_app: FleetWithApp) -> None:
    ((first, running),) = with_app.app_runs()
    assert first == running
    with_app.write("2")
    assert with_app.move() == 0
    ((second, running),) = with_app.app_runs()
    assert second == running != first
    assert with_app.runs()["w1"] == OLD
    assert set(with_app.told) == {
        f"w{n} {verb}" for n in (1, 2, 3, 4) for verb in ("begin", "stop")
    }
    with_app.write("3")
    assert with_app.upgrade() == 0
    assert with_app.all_run(NEW)
    assert with_app.app_runs() == {(second, second)}
    assert with_app.move(back=True) == 0
    assert with_app.app_runs() == {(first, first)}
    assert with_app.all_run(NEW)
    kept = with_app.sessions["w1"].host.releases
    assert "rolled back by" in kept[second]["bad"]
    assert kept[NEW]["bad"] is None
    history = [e for e in with_app.sessions["w1"].host.history if e["result"] == "ok"]
    entries = [(e.get("app"), e["from"]) for e in history[-3:]]
    assert entries == [("shop", first), (None, OLD), ("shop", second)]


def test_a_release_is_sent_once_and_read_once_for_all_hosts(
    with_app: FleetWithApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path.parent / f"{tmp_path.name}-other"
    other.mkdir()
    (other / "a.php").write_text("1")
    with_app.says(
        f"gearman_apps: {{shop: {{source: shop}}, other: {{source: {other}}}}}\n"
        "gearman_functions: []\ngearman_workers:\n"
        "  shout: {app: shop, program: [php, ./a.php], functions: [shout]}\n"
        "  lines: {app: other, program: [php, ./a.php], functions: [lines]}\n"
    )
    assert with_app.deploy() == 0
    hosts = [session.host for name, session in with_app.sessions.items() if name[0] == "w"]

    def sent() -> list[int]:
        """How many releases each host was sent."""
        kinds = [[each.kind for each in host.applied] for host in hosts]
        return [each.count("release") for each in kinds]

    before = sent()
    (other / "a.php").write_text("2")
    assert with_app.move(app="other") == 0
    assert sent() == [each + 1 for each in before]
    assert with_app.move(app="other") == 0
    assert sent() == [each + 1 for each in before]

    read: Counter[str] = Counter()
    digest = hashlib.file_digest

    def count(file: Any, name: str) -> Any:
        read[file.name] += 1
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    assert with_app.deploy() == 0
    assert str(other / "a.php") in read
    assert [name for name, times in read.items() if times > 1] == []


def test_an_app_that_does_not_begin_is_put_back_everywhere(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    before = with_app.app_runs()
    with_app.write("2")
    with_app.sessions["w3"].fails = lambda operation, host: operation.kind == "program"
    assert with_app.move() == ROLLED_BACK
    assert with_app.app_runs() == before
    assert "I am broken" in capsys.readouterr().out
    (bad,) = {
        id for id, one in with_app.sessions["w1"].host.releases.items() if one["bad"] is not None
    }
    assert bad.startswith("shop-")


def test_a_deploy_keeps_the_release_of_an_app_and_says_so(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    before = with_app.app_runs()
    ((first, _),) = before
    with_app.write("2")
    with_app.change_settings()
    assert with_app.deploy() == 0
    assert with_app.app_runs() == before
    told = f"{first} stays; `./invoke upgrade --app shop` brings its files as they are now"
    assert capsys.readouterr().out.count(told) == 1
    unit = next(t for p, t in with_app.sessions["w1"].host.paths.items() if "@shout." in p)
    assert b"MemoryMax=2G" in unit["content"]

    # What is wrong with the files as they are now is told, and that they were given up.
    (with_app.source / "a.php").unlink()
    assert with_app.deploy() == 0
    told = f"{first} stays; `./invoke upgrade --app shop` would be refused: {with_app.folder}/group"
    assert told in capsys.readouterr().out
    with_app.write("3")
    for session in with_app.sessions.values():
        session.fails = lambda operation, host: operation.kind == "program"
    assert with_app.move() == ROLLED_BACK
    capsys.readouterr()
    told = (
        rf"^{first} stays; its files as they are now make shop-\w+, which was given up \(on w1: s"
    )
    asking: list[Callable[..., int]] = [deploy.deploy, deploy.plan, standing.status]
    for ask in asking:
        assert ask(with_app.folder, ROLES, Options(yes=True), connect=with_app.connect) == 0
        assert re.search(told, capsys.readouterr().out, re.MULTILINE)


def test_a_worker_whose_file_the_release_that_stays_lacks_is_not_begun(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    ((id, _),) = with_app.app_runs()
    files = f"/opt/gearman/apps/shop/releases/{id}/app"
    for session in with_app.sessions.values():
        session.host.paths |= {files: directory(), f"{files}/a.php": directory()}
    (with_app.source / "b.php").write_text("b")
    with_app.change_settings()
    assert with_app.deploy() == 0, "it has the file of shout"
    serving = set(with_app.sessions["w1"].host.processes)
    with_app.says(
        "gearman_functions: [reverse]\ngearman_apps: {shop: {source: shop}}\ngearman_workers:\n"
        "  more: {app: shop, command: [php, ./b.php], functions: [more]}\n"
    )
    assert with_app.deploy() == HostFailed.status
    told = (
        f"worker.yml:4: worker more: {id}, which stays, has no file ./b.php: `./invoke upgrade --"
    )
    assert told in capsys.readouterr().out
    assert set(with_app.sessions["w1"].host.processes) == serving
    with_app.says(
        "gearman_functions: [reverse]\ngearman_apps: {shop: {source: shop}}\ngearman_workers:\n"
        "  more: {app: shop, command: [php, ./b.php, ./c.php, ./d.php], functions: [more]}\n"
    )
    assert with_app.deploy() == HostFailed.status
    out = capsys.readouterr().out
    assert "has no file ./b.php: `./invoke upgrade --" in out
    for name in ("c", "d"):
        assert f"worker.yml:4: worker more: app shop has no file ./{name}.php\n" in out


def test_what_a_worker_needs_is_looked_for_in_the_release_that_a_new_host_gets(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else its trial finds it, when the host is half set up."""
    ((id, _),) = with_app.app_runs()
    host = with_app.sessions["w4"].host
    for path in [each for each in host.paths if "/apps" in each]:
        del host.paths[path]
    host.processes.clear()
    apps = "gearman_apps: {shop: {source: shop}}\ngearman_workers:\n"

    def deploy_with(command: str) -> str:
        with_app.says(f"{apps}  lines: {{app: shop, command: {command}, functions: [more]}}\n")
        known = host.paths.copy()
        assert with_app.deploy(limit="w4") == HostFailed.status
        assert host.paths == known
        return re.sub(r"\s+", " ", capsys.readouterr().out)

    where = "worker.yml:3: worker lines:"
    assert f"{where} app shop has no file ./b.sh " in deploy_with("[./b.sh]")
    told = f"{where} app shop has a file ./a.php that cannot be executed: chmod +x it"
    assert told in deploy_with("[./a.php]")
    (with_app.source / "b.sh").write_text("b")
    (with_app.source / "b.sh").chmod(0o755)
    told = f"{where} {id} has no file ./b.sh: `./invoke upgrade --app shop` brings the app's files"
    assert told in deploy_with("[./b.sh]")
    with_app.says(f"{apps}  lines: {{app: shop, command: [php, ./a.php], functions: [shout]}}\n")
    assert with_app.deploy(limit="w4") == 0


def test_gearman_py_moves_and_leaves_bad_releases_of_apps_where_they_are(
    with_app: FleetWithApp,
) -> None:
    """With more of them than are kept the next run of the app removes them."""

    def count() -> int:
        return sum(id.startswith("shop-") for id in with_app.sessions["w1"].host.releases)

    host = with_app.sessions["w1"].host
    for number in range(6):
        id = f"shop-bad{number}"
        host.releases[id] = {"at": number, "bad": "it was slow"}
        host.paths[f"/opt/gearman/apps/shop/releases/{id}"] = directory()
    assert with_app.move(app="", to=NEW) == 0
    assert count() == 7
    with_app.write("2")
    assert with_app.move() == 0
    assert count() == 5


@pytest.mark.parametrize("others", ["[reverse]", "[]"])
def test_a_changed_program_that_does_not_begin_spares_the_other_hosts(
    with_app: FleetWithApp, others: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        f"gearman_functions: {others}\ngearman_apps: {{shop: {{source: shop}}}}\ngearman_workers:\n"
        "  shout: {app: shop, program: [php, ./a.php], functions: [shout], memory: 1G}\n"
    )
    with_app.says(text)
    assert with_app.deploy() == 0
    before = with_app.app_runs()
    with_app.told.clear()
    for session in with_app.sessions.values():
        session.fails = lambda operation, host: operation.kind == "program"
    with_app.says(text.replace("1G", "2G"))
    assert with_app.deploy() == ROLLED_BACK
    assert with_app.app_runs() == before
    assert not [each for each in with_app.told if not each.startswith("w1 ")]
    assert "w[2:4]  not begun  because of w1" in capsys.readouterr().out


def test_a_program_that_began_before_another_failed_is_stopped_and_what_ran_goes_on(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "gearman_functions: []\ngearman_apps: {shop: {source: shop}}\ngearman_workers:\n"
        "  %s: {app: shop, program: [php, ./a.php], functions: [a]}\n"
        "  shout: {app: shop, program: [php, ./a.php], functions: [shout], instances: 2,"
        " memory: %s}\n"
    )
    with_app.says(text % ("old", "1G"))
    assert with_app.deploy() == 0
    host = with_app.sessions["w1"].host

    def state() -> tuple[object, ...]:
        units = [each for each in host.paths if "gearman-worker@" in each and "/apps/" not in each]
        return set(host.processes), host.enabled, sorted(units)

    before = copy.deepcopy(state())
    with_app.says(text % ("new", "2G"))

    def fails(word: str, operation: Operation, host: FakeHost) -> bool:
        return operation.kind == "program" and word in operation.arguments["name"]

    for word, status in (("shout:2", ROLLED_BACK), ("none", 0)):
        for session in with_app.sessions.values():
            session.fails = partial(fails, word)
        with_app.told.clear()
        assert with_app.deploy() == status
        assert (state() == before) == (status == ROLLED_BACK)
        assert with_app.told.count("w1 begin") > 1
    assert "rolled back: its workers were put back" in capsys.readouterr().out


@pytest.mark.slow
def test_settings_that_fail_are_taken_back(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    """The release stays, and what is kept beside it is overwritten by then."""
    text = (
        "gearman_functions: []\ngearman_apps: {shop: {source: shop}}\ngearman_workers:\n"
        "  lines: {app: shop, command: [php, ./a.php], functions: [lines], memory: %s}\n"
        "  shout: {app: shop, program: [php, ./a.php], functions: [shout], memory: %s}\n"
    )
    with_app.says(text % ("1G", "1G"))
    assert with_app.deploy() == 0
    with_app.write("2")
    assert with_app.move() == 0, "a release that is not to be undone with the settings"
    unit = "/etc/systemd/system/gearman-worker@lines.service"

    def state(*names: str) -> list[object]:
        hosts = [with_app.sessions[name].host for name in names or ("w1", "w2", "w3")]
        return [(each.processes, each.enabled, _without_note(each.paths)) for each in hosts]

    def fails(operation: Operation, host: FakeHost) -> bool:
        return operation.kind == "proved_job" and b"MemoryMax=2G" in host.paths[unit]["content"]

    before = copy.deepcopy(state())
    with_app.says(text % ("2G", "2G"))
    assert with_app.move(limit="w4") == 0
    with_app.sessions["w2"].fails = fails
    with_app.told.clear()
    capsys.readouterr()
    assert with_app.move(batch="1") == ROLLED_BACK
    assert "w2 restart" in with_app.told
    assert state() == before
    back = re.findall(r"^(w\d) +rolled back +shop-", capsys.readouterr().out, re.MULTILINE)
    assert sorted(back) == ["w1", "w2"], "and not w4, which was as wanted"
    assert not [each for each in with_app.sessions["w1"].host.releases.values() if each["bad"]]
    for at in range(1, 12):  # and also if the run was interrupted before, and goes on
        with_app.sessions["w2"].fails = partial(interrupt, iter(range(at, 0, -1)))
        with pytest.raises(KeyboardInterrupt):
            with_app.move(batch="1", limit="w2")
        with_app.sessions["w2"].fails = any_trial_fails if at % 2 else fails
        assert with_app.move(batch="1", limit="w2") == ROLLED_BACK
        assert state("w2") == before[1:2], at
    with_app.sessions["w2"].fails = lambda operation, host: False
    assert with_app.move(batch="1") == 0


def test_job_servers_that_a_deploy_is_to_move_are_moved_by_nothing_else(
    with_app: FleetWithApp,
) -> None:
    before = with_app.app_runs()
    with_app.write("2")
    assert with_app.move() == 0
    everywhere = with_app.folder / "group_vars" / "all.yml"
    everywhere.write_text("gearman_port: 4731\n")
    with_app.write("3")
    with_app.told.clear()
    refused = (
        r"w\[1:4\].* the inventory has other job servers .* \(\S+:4731, not \S+:4730\), and only"
    )
    moves = (with_app.move, partial(with_app.move, back=True), partial(with_app.rollback, OLDER))
    for move in moves:
        with pytest.raises(HostFailed, match=refused):
            move()
    assert with_app.told == []
    everywhere.unlink()
    assert with_app.move(back=True) == 0
    assert with_app.app_runs() == before


def _without_note(paths: dict[str, Any]) -> dict[str, Any]:
    return {path: found for path, found in paths.items() if path not in (FOLDER, NOTE)}


def interrupt(left: Iterator[int], operation: Operation, host: FakeHost) -> bool:
    """At the last of so many changes."""
    if (
        operation.kind not in ("job", "proved_job", "trial", "trial_program", "look")
        and next(left, 0) == 1
    ):
        raise KeyboardInterrupt
    return False


def test_a_deploy_of_a_named_release_moves_that_alone_and_is_undone_by_a_rollback(
    with_app: FleetWithApp,
) -> None:
    ((first, _),) = with_app.app_runs()
    with_app.write("2")
    assert with_app.deploy(release=NEW) == 0
    assert with_app.all_run(NEW)
    assert with_app.app_runs() == {(first, first)}
    with_app.write("3")
    assert with_app.move() == 0
    ((third, _),) = with_app.app_runs()
    assert with_app.deploy(release=first) == 0
    assert with_app.app_runs() == {(first, first)}
    assert with_app.all_run(NEW)
    move = {"shop": {"release": first, "from": third}}
    assert with_app.sessions["w1"].host.history[-1]["apps"] == move
    assert with_app.move(back=True) == 0
    assert with_app.app_runs() == {(third, third)}


@pytest.mark.parametrize("limit", [None, "w3,w4"])
def test_a_release_that_an_app_went_back_from_comes_by_no_deploy(
    with_app: FleetWithApp, limit: str | None
) -> None:
    before = with_app.app_runs()
    with_app.write("2")
    assert with_app.move(limit="!w3") == 0
    assert with_app.move(back=True) == 0
    with_app.change_settings()
    assert with_app.deploy(limit=limit) == 0
    assert with_app.app_runs() == before


def test_what_one_host_gave_up_of_an_app_no_other_gets(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    with_app.write("2")
    assert with_app.move(limit="!w3") == 0
    assert with_app.move(back=True) == 0
    w1 = with_app.sessions["w1"].host
    (bad,) = {id for id, one in w1.releases.items() if one["bad"]}
    assert with_app.deploy(limit="w3", release=bad) == HostFailed.status
    told = f"release {bad} was given up (on w1: rolled back by"
    out = capsys.readouterr().out
    assert told in out
    assert "`./invoke upgrade --app shop --again`" in out
    assert with_app.move(limit="w3") == HostFailed.status


def test_a_new_host_gets_the_release_of_an_app_that_the_others_run(with_app: FleetWithApp) -> None:
    before = with_app.app_runs()
    with_app.write("2")
    host = with_app.sessions["w4"].host
    for path in [each for each in host.paths if "/apps" in each]:
        del host.paths[path]
    host.processes.clear()
    assert with_app.deploy(limit="w4") == 0
    assert with_app.app_runs() == before


def test_settings_after_an_app_was_rolled_back_come_by_an_upgrade_too(
    with_app: FleetWithApp,
) -> None:
    with_app.write("2")
    assert with_app.move() == 0
    assert with_app.move(back=True) == 0
    before = with_app.app_runs()
    with_app.change_settings()
    assert with_app.upgrade(OLD) == 0
    assert with_app.app_runs() == before


def test_a_release_is_asked_what_its_own_check_says(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code and check change together; who goes back is asked what the old check says."""
    ((first, _),) = with_app.app_runs()
    with_app.answer(lambda id: b"1" if id == first else b"2")
    with_app.check("1")
    assert with_app.deploy() == 0
    with_app.write("2")
    with_app.check("2")
    with_app.sessions["w3"].fails = lambda operation, host: operation.kind == "program"
    assert with_app.move(batch="1") == ROLLED_BACK, capsys.readouterr().out
    with_app.sessions["w3"].fails = lambda operation, host: False
    with_app.write("3")
    assert with_app.move() == 0
    assert with_app.move(back=True) == 0
    assert with_app.app_runs() == {(first, first)}


def test_a_check_that_is_deployed_before_its_code_does_not_shut_the_way_back(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    ((first, _),) = with_app.app_runs()
    with_app.answer(lambda id: b"1" if id == first else b"2")
    with_app.check("1")
    assert with_app.deploy() == 0
    with_app.check("2")
    assert with_app.deploy() == 0
    capsys.readouterr()
    assert with_app.deploy() == 0
    assert "nothing to change" in capsys.readouterr().out
    with_app.write("2")
    assert with_app.move() == 0
    assert with_app.move(back=True) == 0, capsys.readouterr().out
    assert with_app.app_runs() == {(first, first)}


def test_a_check_that_is_deployed_before_its_code_condemns_no_release_of_gearman_py(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    def checked(expect: str) -> str:
        check = f"{{workload: a, expect: '{expect}'}}"
        worker = f"{{app: shop, command: [./a.php], functions: [lines], check: {check}}}"
        return (
            f"gearman_apps: {{shop: {{source: shop}}}}\ngearman_workers: {{counter: {worker}}}\n"
            "gearman_functions: [reverse, wc, resize]\n"
        )

    def answer(lines: bytes) -> None:
        answers = RIGHT | {"lines": lines, "counter": b"are you there?", "ping": b"are you there?"}
        for session in with_app.sessions.values():
            session.reply = answers.__getitem__

    (with_app.source / "a.php").chmod(0o755)
    answer(b"1")
    with_app.says(checked("1"))
    assert with_app.deploy() == 0, capsys.readouterr().out
    assert with_app.move() == 0, capsys.readouterr().out
    with_app.says(checked("2"))
    assert with_app.deploy() == 0
    assert with_app.upgrade(None) == 0, capsys.readouterr().out
    assert with_app.upgrade(OLD) == 0, capsys.readouterr().out
    answer(b"3")  # which no check expects
    assert with_app.upgrade(None) == ROLLED_BACK


def test_a_function_that_is_named_and_not_served_condemns_no_release(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    before = with_app.app_runs()
    with_app.write("2")
    ended = "the worker ended with 2: gearman-worker: error:"
    for problem, told in (
        (f"it serves shout, not shuot{UNSERVED}", "not shuot, which its check is for"),
        (f"it serves shout, and not shuot{UNNAMED}", "and not shuot, which functions: names"),
        (
            f"{ended} unknown functions 'a', 'b'; declared: x, y",
            ": it serves x, y, and not a, b, which functions: names",
        ),
    ):
        for session in with_app.sessions.values():
            session.fails = lambda operation, host: operation.kind == "trial_program"
            session.error, session.output = problem.partition(":")[0], problem
        assert with_app.move() == HostFailed.status
        out = capsys.readouterr().out
        assert told in out
        assert "--limit" not in out
        what = "functions:" if "functions" in told else "the check"
        assert f"try: mend {what} in the inventory, or the code; the release is not mar" in out
        assert with_app.app_runs() == before
    for session in with_app.sessions.values():
        session.fails = lambda operation, host: False
    assert with_app.move() == 0


def test_a_rollback_whose_check_fails_blames_no_release(with_app: FleetWithApp) -> None:
    ((first, _),) = with_app.app_runs()
    with_app.check("1")
    with_app.answer(lambda id: b"1")
    assert with_app.deploy() == 0
    with_app.write("2")
    assert with_app.move() == 0
    second = with_app.app_runs()
    with_app.answer(lambda id: b"?" if id == first else b"1")
    assert with_app.move(back=True) == ROLLED_BACK
    assert with_app.app_runs() == second
    assert with_app.sessions["w1"].host.releases[first]["bad"] is None
    with_app.answer(lambda id: b"1")
    assert with_app.move(back=True) == 0


def test_a_program_answers_for_itself_while_others_still_run_the_one_before(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    ((first, _),) = with_app.app_runs()
    with_app.check("1")
    assert with_app.deploy() == 0

    def reply(session: Session, function: str) -> bytes:
        """Of a trial the new one's own answer, of the job servers that of a host with the old."""
        target = session.host.paths["/opt/gearman/apps/shop/current"]["target"]
        tried = str(target).startswith("/")
        return {"shout": b"2" if tried else b"1"}.get(function) or RIGHT[function]

    for session in with_app.sessions.values():
        session.reply = partial(reply, session)
    with_app.write("2")
    with_app.told.clear()
    assert with_app.move(batch="1") == ROLLED_BACK
    assert with_app.told == []
    assert "shout, by a program beside: expected b'1', got b'2'" in capsys.readouterr().out
    with_app.check("2")
    with_app.write("3")
    assert with_app.move(batch="1") == 0
    ((last, _),) = with_app.app_runs()
    assert last != first


def test_hosts_are_asked_when_all_are_put_back(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job of a program is done by any host, also one that still runs the bad release."""
    ((first, _),) = with_app.app_runs()
    with_app.check("1", ", trial: false")
    with_app.answer(lambda id: b"1")
    assert with_app.deploy() == 0

    def reply(name: str, function: str) -> bytes:
        """Another host's program does it."""
        used = {
            other: with_app.sessions[other].host.paths["/opt/gearman/apps/shop/current"]["target"]
            for other in ("w1", "w2", "w3", "w4")
            if other != name
        }
        wrong = any(first not in target for target in used.values())
        return b"wrong" if function == "shout" and wrong else RIGHT.get(function, b"1")

    for name, session in with_app.sessions.items():
        session.reply = partial(reply, name)
    with_app.write("2")
    assert with_app.move(batch="1") == ROLLED_BACK
    said = capsys.readouterr().out
    assert " is there; shout: not tried (trial: false) (" in said
    assert with_app.app_runs() == {(first, first)}


def test_a_program_that_speaks_no_tls_keeps_job_servers_from_it_and_is_told(
    with_app: FleetWithApp, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(task: Callable[..., int]) -> int:
        return task(with_app.folder, ROLES, Options(yes=True), connect=with_app.connect)

    (with_app.folder / "group_vars" / "all.yml").write_text("gearman_tls: true\n")
    before = [len(session.host.applied) for session in with_app.sessions.values()]
    draining = partial(drain, names="job")
    refusing: list[Callable[..., int]] = [deploy.plan, deploy.deploy, roll_out, draining]
    for task in refusing:
        with pytest.raises(InventoryError, match="yml:3: worker shout: gearman_tls is true"):
            run(task)
    assert [len(session.host.applied) for session in with_app.sessions.values()] == before
    capsys.readouterr()
    assert run(standing.status) == 0
    out = capsys.readouterr().out
    assert out.count("worker shout: gearman_tls is true, and a program speaks TLS only if") == 1
    assert "gearman-worker@shout.26655446.service" in out


def test_an_app_moves_with_its_settings_and_with_nothing_else(with_app: FleetWithApp) -> None:
    """What is due of other workers and apps, and of the host, waits for a deploy."""
    ((first, _),) = with_app.app_runs()
    with_app.write("2")
    before = {
        name: [path for path in with_app.sessions[name].host.paths if "/apps/" not in path]
        for name in ("w1", "w2", "w3", "w4")
    }
    with_app.says(
        "gearman_functions: [reverse, wc]\n"
        "gearman_packages: [ours]\n"
        "gearman_apps: {shop: {source: shop}, more: {source: shop}}\n"
        "gearman_workers:\n"
        "  shout: {app: shop, program: [php, ./a.php], functions: [shout],"
        " memory: 3G, packages: [php-cli]}\n"
        "  lines: {command: [wc, -l], functions: [lines], packages: [theirs]}\n"
        "  more: {app: more, program: [php, ./a.php], functions: [more]}\n"
    )
    assert with_app.move() == 0
    ((second, running),) = with_app.app_runs()
    assert second == running != first
    for name, paths in before.items():
        host = with_app.sessions[name].host
        assert host.packages == {"php-cli"}
        new = {path for path in host.paths if "/apps/" not in path} - set(paths)
        (unit,) = new
        assert b"MemoryMax=3G" in host.paths[unit]["content"]
        assert "/opt/gearman/apps/more" not in host.paths
        assert "gearman-worker@resize.service" in host.processes
    assert with_app.move() == 0
    assert with_app.deploy() == 0
    assert with_app.app_runs() == {(second, second)}
    assert "gearman-worker@resize.service" not in with_app.sessions["w1"].host.processes


def test_an_app_that_nothing_needs_cannot_be_moved(with_app: FleetWithApp) -> None:
    with pytest.raises(ToolkitError, match=r"needs such an app; did you mean 'shop'\?"):
        with_app.move(app="shp")


def test_a_release_from_before_a_worker_is_gone_back_to_without_it(
    with_app: FleetWithApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lacks the worker's code: its unit would be restarted for ever."""
    for name in ("more", "ping"):
        monkeypatch.setitem(RIGHT, name, RIGHT["lines"])
    text = (
        "gearman_functions: []\ngearman_apps: {shop: {source: shop}}\ngearman_workers:\n"
        "  lines: {app: shop, command: [php, ./a.php], functions: [lines]}\n"
    )
    with_app.says(text)
    assert with_app.deploy() == 0
    host = with_app.sessions["w1"].host
    first = Path(host.paths["/opt/gearman/apps/shop/current"]["target"]).name
    serving = set(host.processes)

    def lacks_code(operation: Operation, host: FakeHost) -> bool:
        if operation.kind == "trial":
            return first in str(operation.arguments) and "b.php" in str(operation.arguments)
        if operation.kind == "program":
            unit = host.paths[f"/etc/systemd/system/{operation.arguments['name']}"]
            return first.encode() in unit["content"] and b"b.php" in unit["content"]
        if operation.kind != "unit" or operation.arguments["action"] == "stop":
            return False
        target = host.paths["/opt/gearman/apps/shop/current"]["target"]
        return "@more." in operation.arguments["name"] and first in target

    def fails(operation: Operation, host: FakeHost) -> bool:
        target = host.paths["/opt/gearman/apps/shop/current"]["target"]
        return lacks_code(operation, host) or (
            operation.kind == "proved_job" and first not in target
        )

    (with_app.source / "b.php").write_text("b")
    with_app.says(
        text + "  more: {app: shop, command: [php, ./b.php], functions: [more]}\n"
        "  program: {app: shop, program: [php, ./b.php], functions: [program], trial: false}\n"
    )
    for session in with_app.sessions.values():
        session.fails = fails
    assert with_app.move() == ROLLED_BACK
    assert "every host runs what it ran before" in capsys.readouterr().out
    assert set(host.processes) == serving

    with_app.write("2")
    for session in with_app.sessions.values():
        session.fails = lacks_code
    assert with_app.move() == 0
    assert len(host.processes) == len(serving) + 2
    note = host.paths.pop(NOTE)
    capsys.readouterr()
    assert with_app.move(back=True, limit="w1") == ROLLED_BACK, "what ran with it is not known"
    assert "take it out of the inventory, deploy, and roll back again" in capsys.readouterr().out
    assert len(host.processes) == len(serving) + 2
    host.paths[NOTE] = note
    assert with_app.move(back=True) == 0
    out = capsys.readouterr().out
    assert "- stop gearman-worker@more.service  (the release that it goes back to ran wi" in out
    assert set(host.processes) == serving
