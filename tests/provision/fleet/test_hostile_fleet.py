"""A host that answers the first questions, and fails at a later one: the others are shown."""

import re
from pathlib import Path

import pytest

from provision.commands.check import check
from provision.errors import HostFailed
from provision.options import Options
from provision.remote.messages import Answer, Operation, Question, Unknown
from roles import ROLES
from tests.attacks import attack
from tests.provision.fleet.test_deploy import FakeSession, Fleet

UNIT = {"path": "/etc/systemd/system/gearman-worker@.service"}


class FalseSession(FakeSession):
    """It fails when it is asked how its machine is, or a job server."""

    fails: str = ""
    untold: str = ""

    def _fail_at(self, questions: list[Question]) -> None:
        if self.fails in (question[0] for question in questions):
            raise HostFailed(f"malformed answer to {self.fails}: no object")

    def ask(self, questions: list[Question]) -> dict[Question, Answer]:
        self._fail_at(list(questions))
        unknown = Unknown("no systemd")
        return {
            question: unknown if question[0] == self.untold else answer
            for question, answer in super().ask(questions).items()
        }

    def survey(self, questions: list[Question]) -> dict[Question, Answer]:
        self._fail_at(questions)
        return super().survey(questions)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.add_worker("worker2")
    fleet.sessions |= {name: FalseSession(each.host) for name, each in fleet.sessions.items()}
    assert fleet.deploy() == 0
    return fleet


@attack("compromised host", "end `status` and `check` by a later false answer", "mended")
@pytest.mark.parametrize(("name", "question"), [("worker", "machine"), ("job", "server")])
def test_a_later_false_answer_is_that_host_s_failure_alone(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], name: str, question: str
) -> None:
    session = fleet.sessions[name]
    assert isinstance(session, FalseSession)
    session.fails = question
    capsys.readouterr()
    assert fleet.status() == HostFailed.status
    said = capsys.readouterr().out
    assert said.count("malformed answer") == 1
    assert "4 hosts: 3 ok, 1 failed" in said
    _, line = check(str(fleet.folder), ROLES, Options(quiet=True), connect=fleet.connect)
    assert line.startswith(f"GEARMAN FLEET CRITICAL - {name}: ")


@attack("compromised host", "end the plan of all by a false answer of a job server", "mended")
@pytest.mark.parametrize("question", ["machine", "server"])
def test_a_plan_goes_on_without_a_host_that_cannot_tell_of_a_server_that_leaves(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], question: str
) -> None:
    hosts = fleet.folder / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("198.18.10.247", "198.18.10.240"))
    session = fleet.sessions["worker"]
    assert isinstance(session, FalseSession)
    session.fails = question
    capsys.readouterr()
    fleet.plan()
    said = capsys.readouterr().out
    assert "leaves the job servers" in said
    assert said.count("malformed answer") == 1
    assert "4 hosts: " in said


@attack("compromised host", "have all deploys refused by a story of jobs left behind", "mended")
def test_a_host_that_tells_of_jobs_that_would_be_left_stays_alone_as_it_is(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = Operation("attributes", UNIT | {"owner": "root", "group": "root", "mode": "0600"})
    for name in ("worker", "worker2"):
        fleet.sessions[name].host.apply([unit])
    liar = fleet.sessions["worker"].host
    content = liar.paths[UNIT["path"]]["content"]
    false = re.sub(rb"GEARMAN_SERVERS=\S+", b"GEARMAN_SERVERS=10.9.9.9:4730", content)
    owned = {"owner": "root", "group": "root", "mode": "0644"}
    liar.apply([Operation("file", UNIT | owned, false)])
    row = {"queued": 5, "running": 0, "workers": 0}
    liar.servers["10.9.9.9", "4730"] = {"problem": None, "functions": {"x": row}}
    before = fleet.changed()
    capsys.readouterr()
    assert fleet.deploy() == HostFailed.status
    said = capsys.readouterr().out
    assert "worker   failed  it would leave 10.9.9.9:4730 with 5 jobs (x 5)" in said
    assert fleet.changed() == before | {"worker2": before["worker2"] + 1}

    names = ",".join(f"10.9.{number}.9:4730" for number in range(100)).encode()
    liar.apply([Operation("file", UNIT | owned, false.replace(b"10.9.9.9:4730", names))])
    fleet.plan()
    assert "worker   failed  its files name 100 job servers that" in capsys.readouterr().out


@attack("compromised host", "end `status` and `check` by not telling its units or queue", "mended")
@pytest.mark.parametrize("kind", ["unit", "units", "queue"])
def test_what_a_host_cannot_tell_is_its_problem_alone(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    session = fleet.sessions["worker"]
    assert isinstance(session, FalseSession)
    session.untold = kind
    capsys.readouterr()
    fleet.status()
    said = capsys.readouterr().out
    assert "no systemd" in said
    assert "4 hosts: " in said
    _, line = check(str(fleet.folder), ROLES, Options(quiet=True), connect=fleet.connect)
    assert line.startswith("GEARMAN FLEET CRITICAL - worker: ")
