"""Job servers that a deploy changes: one at a time, and their database is asked before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.remote.messages import Operation, OperationOutcome
from tests.provision.fake_host import FakeHost
from tests.provision.fleet.test_deploy import FakeSession, Fleet

HOSTS = """
all:
  vars: {ansible_user: root}
  children:
    job_server: {hosts: {job: {ansible_host: 198.18.10.247}, other: {ansible_host: 198.18.10.249}}}
    worker: {hosts: {worker: {ansible_host: 198.18.10.248}}}
    client: {hosts: {client: {ansible_host: 198.18.10.246}}}
"""
DATABASE = """\
gearman_queue: redis
gearman_database: rediss://198.18.10.1
gearman_database_ca: ca.pem
"""
CA = "/etc/gearman/database-ca.pem"
SAID = "gearmand: Redis: invalid username-password pair"


class ServerSession(FakeSession):
    """Notes which job servers are changed; a wrong database is refused there."""

    name = ""
    changed: list[str]
    refused = False

    def apply(self, operations: list[Operation]) -> Iterator[OperationOutcome]:
        for operation in operations:
            if operation.kind == "trial_queue":
                command = operation.arguments["command"]
                assert command[1:4] == ["--check-queue", "-q", "redis"]
                assert CA in command
                assert CA in self.host.paths
                assert "User=gearmand" in operation.arguments["properties"]
                assert not [e for e in operation.arguments["properties"] if "RuntimeDir" in e]
                error = "it failed" if self.refused else None
                yield OperationOutcome(operation, 0.0, error, SAID if error else "")
                continue
            if operation.arguments.get("name") == "gearmand.service":
                self.changed.append(self.name)
            yield from super().apply([operation])


@pytest.fixture
def changed() -> list[str]:
    """The job servers that were changed, in this order."""
    return []


@pytest.fixture
def fleet(tmp_path: Path, changed: list[str]) -> Fleet:
    made = Fleet(tmp_path)
    (tmp_path / "hosts.yml").write_text(HOSTS)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "ca.pem").write_text("of the database")
    for name in ("job", "other"):
        session = ServerSession(FakeHost())
        session.name, session.changed = name, changed
        made.sessions[name] = session
    return made


def set_variables(fleet: Fleet, text: str) -> None:
    (fleet.folder / "group_vars" / "all.yml").write_text(text)


def test_the_second_is_not_touched_when_the_first_does_not_start(
    fleet: Fleet, changed: list[str]
) -> None:
    assert fleet.deploy() == 0
    assert sorted(changed) == ["job", "other"]
    changed.clear()
    set_variables(fleet, "gearman_memory: 300M\n")
    fleet.sessions["job"].breaks_at = "unit"
    assert fleet.deploy() == 3
    assert changed == ["job"]
    fleet.sessions["job"].breaks_at = ""
    assert fleet.deploy() == 0
    assert changed == ["job", "job", "other"]


@pytest.mark.slow
def test_a_database_that_cannot_be_used_is_found_before_a_job_server_is_touched(
    fleet: Fleet, changed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy(tags="base") == 0
    set_variables(fleet, DATABASE)
    job, other = fleet.sessions["job"], fleet.sessions["other"]
    assert isinstance(job, ServerSession) and isinstance(other, ServerSession)
    job.refused = other.refused = True
    assert fleet.deploy() == 3
    assert changed == []
    assert f"the database of the queue: {SAID}" in capsys.readouterr().out
    job.refused = other.refused = False
    assert fleet.deploy() == 0
    assert sorted(changed) == ["job", "other"]

    changed.clear()
    set_variables(fleet, f"{DATABASE}gearman_memory: 300M\n")
    job.refused = True
    assert fleet.deploy() == 5
    assert changed == []
    assert "job: given up, before its job server was touched" in capsys.readouterr().out
    job.refused = False
    assert fleet.deploy() == 0
    assert changed == ["job", "other"]
