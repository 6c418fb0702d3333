"""A deploy that changes workers, over hosts that are dicts: tried, one host first, put back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from provision.errors import HostFailed, RolledBack
from provision.fleet import deploy, desired_state
from provision.options import Options
from provision.release.build import Artifact
from provision.remote.messages import Operation
from provision.resources.sample_jobs import SAMPLES
from roles import ROLES
from tests.provision.fake_host import FakeHost
from tests.provision.fleet.test_rollout import OLD, RIGHT, Fleet

WORKERS = ("w1", "w2", "w3", "w4")
UNIT = "gearman-worker@lines.service"
FILE = f"/etc/systemd/system/{UNIT}"


class FleetOfCommands(Fleet):
    """Its workers serve `lines` by a command too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.folder / "group_vars").mkdir()
        self.say("-l")
        assert self.deploy() == 0
        self.told.clear()

    def say(self, word: str, *, more: str = "") -> None:
        (self.folder / "group_vars" / "worker.yml").write_text(
            "gearman_functions: [reverse]\n"
            f"gearman_workers: {{lines: {{command: [wc, {word}], functions: [lines]{more}}}}}\n"
        )

    def deploy(self, tags: str = "") -> int:
        options = Options(yes=True, tags=tags)
        return deploy.deploy(self.folder, ROLES, options, connect=self.connect)

    def words(self) -> dict[str, tuple[bool, bool]]:
        """Of each worker host, whether its unit file has the new word, and its process is of it."""
        found = {}
        for name in WORKERS:
            host = self.sessions[name].host
            text = host.paths[FILE]["content"].decode()
            running = host.processes[UNIT]["config"]
            found[name] = ("wc -c" in text, f"GEARMAN_CONFIG={running}\n" in text)
        return found


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetOfCommands:
    monkeypatch.setitem(SAMPLES, "resize", SAMPLES["wc"])
    monkeypatch.setitem(RIGHT, "resize", RIGHT["wc"])
    return FleetOfCommands(tmp_path)


def is_trial(operation: Operation) -> bool:
    return operation.kind == "trial" and "-c" in operation.arguments["worker"]


def _trial_fails(operation: Operation, host: FakeHost) -> bool:
    return is_trial(operation)


def new_unit_fails(operation: Operation, host: FakeHost) -> bool:
    is_new = FILE in host.paths and b"wc -c" in host.paths[FILE]["content"]
    return operation.kind == "unit" and operation.arguments["name"] == UNIT and is_new


@pytest.mark.parametrize("tags", ["", "unit"])
def test_a_change_is_tried_on_one_host_and_touches_nothing_if_it_fails(
    fleet: FleetOfCommands, capsys: pytest.CaptureFixture[str], tags: str
) -> None:
    for session in fleet.sessions.values():
        session.fails = lambda operation, host: is_trial(operation)
    fleet.say("-c")
    assert fleet.deploy(tags) == RolledBack.status
    assert fleet.told == []
    assert set(fleet.words().values()) == {(False, True)}
    lines = capsys.readouterr().out
    assert "w1      failed  lines, by a worker beside: I am broken" in lines
    assert "w[2:4]  not begun  because of w1\n" in lines
    assert "given up, before any worker was touched" in lines
    assert fleet.sessions["w1"].host.history[-1]["result"].startswith("failed: lines, by a worker")
    assert fleet.sessions["w2"].host.history[-1]["result"] == "ok"

    for session in fleet.sessions.values():
        session.fails = lambda operation, host: False
    assert fleet.deploy() == 0
    assert set(fleet.words().values()) == {(True, True)}


def tries_at_port(port: int) -> Callable[[Operation, FakeHost], bool]:
    return lambda operation, host: operation.kind == "trial" and f":{port}" in str(operation)


def test_workers_are_tried_before_a_job_server_moves(
    fleet: FleetOfCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a wrong setting left those that ran without a job server that they know."""
    everyone = fleet.folder / "group_vars" / "all.yml"
    everyone.write_text("gearman_port: 4731\n")
    fleet.say("-c")
    for session in fleet.sessions.values():
        session.fails = tries_at_port(4730)  # where the job server still is
    assert fleet.deploy() == RolledBack.status
    assert fleet.told == []
    assert "given up, before any job server or worker was touched" in capsys.readouterr().out
    assert set(fleet.words().values()) == {(False, True)}

    for name, session in fleet.sessions.items():
        session.fails = tries_at_port(4731 if name == "w1" else 4732)  # the first not once more
    assert fleet.deploy() == 0
    assert set(fleet.words().values()) == {(True, True)}


def test_functions_of_a_program_are_asked_for_where_the_job_server_still_is(
    fleet: FleetOfCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a worker beside it alone its code knows the functions."""
    (fleet.folder / "shop").mkdir()
    made = Artifact("shop-1", "abc", 1, tmp_path / "shop-1.tar")
    monkeypatch.setattr(desired_state, "built_app", lambda app, **_: made)
    monkeypatch.setattr("provision.fleet.run.check_apps", lambda apps: None)
    monkeypatch.setitem(RIGHT, "ping", b"are you there?")
    apps = "gearman_apps: {shop: {source: shop}}\n"
    code, program = "app: shop, run: shop:worker", "program: [php, /srv/a.php], functions: [shout]"
    settings = fleet.folder / "group_vars" / "worker.yml"
    settings.write_text(f"{apps}gearman_workers: {{shop: {{{code}}}, a: {{{program}}}}}\n")
    assert fleet.deploy() == 0
    asked: list[str] = []

    def asks(operation: Operation, host: FakeHost) -> bool:
        asked.extend([operation.arguments["server"]] if "pings" in operation.arguments else [])
        return False

    for session in fleet.sessions.values():
        session.fails = asks
    (fleet.folder / "group_vars" / "all.yml").write_text("gearman_port: 4731\n")
    assert fleet.deploy() == 0
    assert asked[0] == "10.0.0.1:4730"
    assert {*asked[1:]} == {"10.0.0.1:4731"}


def test_workers_beside_a_job_server_are_tried_before_it_moves(
    fleet: FleetOfCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    (fleet.folder / "hosts.yml").write_text(
        "all: {children: {job_server: {hosts: {w1: {gearman_listen: 10.0.0.1}}}, "
        "worker: {hosts: {w1: }}, client: {hosts: {w1: , client: }}}}"
    )
    for host in ("w1", "client"):
        fleet.sessions[host].host.addresses = ["10.0.0.1"]
    assert fleet.deploy() == 0
    fleet.told.clear()
    before = fleet.sessions["w1"].host.paths.copy()
    (fleet.folder / "group_vars" / "all.yml").write_text("gearman_port: 4731\n")
    fleet.say("-c")
    fleet.sessions["w1"].fails = tries_at_port(4730)
    assert fleet.deploy() == RolledBack.status
    assert "given up, before any job server or worker was touched" in capsys.readouterr().out
    assert fleet.told == []
    changed = {k for k, v in fleet.sessions["w1"].host.paths.items() if before.get(k) != v}
    assert changed <= {"/var/lib/gearman-deploy/before"}

    fleet.sessions["w1"].fails = tries_at_port(4731)
    assert fleet.deploy() == 0
    assert fleet.told[:2] == ["w1 stop", "w1 restart"]


def test_workers_that_do_not_run_are_tried_at_the_job_servers_to_come_alone(
    fleet: FleetOfCommands,
) -> None:
    """What their units name may be gone, such as the files of TLS."""
    (fleet.folder / "group_vars" / "all.yml").write_text("gearman_port: 4731\n")
    for session in fleet.sessions.values():
        session.fails = tries_at_port(4730)
        for name in [each for each in session.host.processes if "worker" in each]:
            del session.host.processes[name]
    assert fleet.deploy() == 0


def test_a_rollback_leaves_job_servers_where_they_are_by_now(fleet: FleetOfCommands) -> None:
    """Where they listen is the fleet's matter: at the old address none would be found."""
    assert fleet.upgrade() == 0
    (fleet.folder / "group_vars" / "all.yml").write_text("gearman_port: 4731\n")
    fleet.say("-c")
    assert fleet.deploy() == 0
    assert fleet.rollback() == 0
    assert fleet.all_run(OLD)
    worker = fleet.sessions["w1"].host.paths[FILE]["content"].decode()
    assert "wc -l" in worker  # as it ran
    assert "GEARMAN_SERVERS=10.0.0.1:4731\n" in worker
    assert set(fleet.words().values()) == {(False, True)}
    socket = fleet.sessions["job"].host.paths["/etc/systemd/system/gearmand.socket"]
    assert b"ListenStream=10.0.0.1:4731\n" in socket["content"]
    unit = fleet.sessions["job"].host.paths["/etc/systemd/system/gearmand.service"]["content"]
    assert b" -p 4731 " in unit


@pytest.mark.parametrize("seen", [4730, 4731])
def test_an_upgrade_tries_workers_at_the_job_servers_as_they_are(
    fleet: FleetOfCommands, seen: int
) -> None:
    """Those of the settings that come with it listen later; after an interrupted run, already."""
    (fleet.folder / "group_vars" / "all.yml").write_text("gearman_port: 4731\n")
    fleet.say("-c")
    tried: list[Operation] = []

    def fails(operation: Operation, host: FakeHost) -> bool:
        tried.extend([operation] if is_trial(operation) else [])
        return operation.kind == "trial" and f":{seen}" not in str(operation.arguments)

    for session in fleet.sessions.values():
        session.fails = fails
        session.error = "`gearman` ended with 3"
    assert fleet.upgrade(gap=True) == 0
    assert {f":{seen}" in str(each.arguments) for each in tried[-4:]} == {True}


@pytest.mark.parametrize(("again", "fails"), [(False, "start"), (True, "start"), (True, "trial")])
def test_a_worker_that_does_not_start_is_put_back_and_the_others_are_spared(
    fleet: FleetOfCommands, capsys: pytest.CaptureFixture[str], *, again: bool, fails: str
) -> None:
    """``again``: in the run after one that was interrupted once the unit's file was written."""

    def interrupt(operation: Operation, host: FakeHost) -> bool:
        if new_unit_fails(operation, host):
            raise KeyboardInterrupt
        return False

    before = fleet.sessions["w1"].host.paths[FILE]
    fleet.say("-c")
    if again:
        fleet.sessions["w1"].fails = interrupt
        with pytest.raises(KeyboardInterrupt):
            fleet.deploy()
        assert fleet.sessions["w1"].host.paths[FILE] != before
    fault = (
        new_unit_fails if again in (False, True) else lambda operation, host: is_trial(operation)
    )
    for session in fleet.sessions.values():
        session.fails = fault
    assert fleet.deploy() == RolledBack.status
    assert fleet.sessions["w1"].host.paths[FILE] == before
    assert set(fleet.words().values()) == {(False, True)}
    assert all(each.startswith("w1 ") for each in fleet.told)
    lines = capsys.readouterr().out
    assert "w1      rolled back" in lines
    assert "w1: rolled back: its workers were put back" in lines


def test_one_host_goes_first_and_one_that_fails_later_is_put_back_alone(
    fleet: FleetOfCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sessions["w3"].fails = new_unit_fails
    fleet.say("-c")
    assert fleet.deploy() == HostFailed.status
    assert fleet.told[0].startswith("w1 ")
    assert fleet.words() == {name: (name != "w3", True) for name in WORKERS}
    assert "w3      rolled back" in capsys.readouterr().out


def test_a_worker_that_cannot_be_put_back_is_told(
    fleet: FleetOfCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(operation: Operation, host: FakeHost) -> bool:
        return operation.kind == "unit" and operation.arguments["name"] == UNIT

    fleet.sessions["w1"].fails = fails
    fleet.say("-c")
    assert fleet.deploy() == HostFailed.status
    lines = capsys.readouterr().out
    assert "w1: the workers that ran could not be put back: " in lines
    assert "w[2:4]  not begun  because of w1\n" in lines


@pytest.mark.parametrize(("running_passes", "status"), [(True, RolledBack.status), (False, 0)])
def test_a_check_that_what_runs_does_not_pass_either_is_not_the_change_s_fault(
    fleet: FleetOfCommands, running_passes: bool, status: int
) -> None:
    """As after a rollback, when the inventory's check is that of newer code."""

    def fails(operation: Operation, host: FakeHost) -> bool:
        told = str(operation.arguments)
        return "--prefix" in told or ("lines@" in told and not running_passes)

    check = ", check: {workload: 'are you there?', expect: 'are you there?'}"
    fleet.say("-l", more=check)
    assert fleet.deploy() == 0
    for session in fleet.sessions.values():
        session.fails = fails
    fleet.say("-c", more=check)
    assert fleet.deploy() == status
    assert set(fleet.words().values()) == {(not status, True)}


def test_a_change_that_cannot_be_tried_for_want_of_a_job_server_is_made_and_told(
    fleet: FleetOfCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    for session in fleet.sessions.values():
        session.fails = lambda operation, host: is_trial(operation)
        session.error = "`/opt/gearman -t 30000` ended with 3"
    fleet.say("-c")
    assert fleet.deploy() == 0
    assert set(fleet.words().values()) == {(True, True)}
    assert "w1: not tried before it is changed: lines, by" in capsys.readouterr().out


def test_a_worker_that_ends_with_the_status_of_no_job_server_has_failed_its_trial(
    fleet: FleetOfCommands,
) -> None:
    for session in fleet.sessions.values():
        session.fails = lambda operation, host: is_trial(operation)
        session.error = "the worker ended with 3"
    fleet.say("-c")
    assert fleet.deploy() == RolledBack.status
