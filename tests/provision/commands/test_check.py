"""`invoke check`: a plugin's line and status, and metrics, of a fleet that can be asked or not."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provision.commands.check import DEPLOY_METRICS, check
from provision.options import Options
from roles import ROLES
from tests.provision.fleet.test_deploy import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def check_fleet(fleet: Fleet, **options: Any) -> tuple[int, str]:
    return check(str(fleet.folder), ROLES, Options(quiet=True), connect=fleet.connect, **options)


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    return {
        family.name: {one.labels.get("host", ""): one.value for one in family.samples}
        for family in text_string_to_metric_families(path.read_text())
    }


@pytest.mark.slow
def test_pending_changes_are_a_warning_until_they_are_deployed(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    textfile = tmp_path / "fleet.prom"
    status, line = check_fleet(fleet, textfile=textfile)
    pending = read_metrics(textfile)["gearman_deploy_pending_changes"]
    assert pending.keys() == {"job", "worker", "client"}
    assert all(pending.values())
    found = "; ".join(f"{host}: {number:.0f} changes pending" for host, number in pending.items())
    assert (status, line) == (
        1,
        f"GEARMAN FLEET WARNING - {found} | pending={sum(pending.values()):.0f};0;;0 failed=0;;0;0",
    )
    assert not any(fleet.changed().values())
    assert capsys.readouterr().out == ""

    assert fleet.deploy() == 0
    status, line = check_fleet(fleet, textfile=textfile)
    wanted = "GEARMAN FLEET OK - 3 hosts as wanted | pending=0;0;;0 failed=0;;0;0"
    assert (status, line) == (0, wanted)
    metrics = read_metrics(textfile)
    assert metrics.keys() == {each.name for each in DEPLOY_METRICS}
    assert metrics["gearman_deploy_pending_changes"] == {"job": 0, "worker": 0, "client": 0}
    assert metrics["gearman_deploy_host_failed"] == {"job": 0, "worker": 0, "client": 0}


def test_a_host_that_is_away_and_a_unit_that_failed_are_critical(
    fleet: Fleet, tmp_path: Path
) -> None:
    assert fleet.deploy() == 0
    fleet.away.add("client")
    host = fleet.sessions["worker"].host
    del host.processes["gearman-worker@wc.service"]
    host.failed.add("gearman-worker@wc.service")
    textfile = tmp_path / "fleet.prom"
    status, line = check_fleet(fleet, textfile=textfile)
    assert status == 2
    assert line.startswith(
        "GEARMAN FLEET CRITICAL - worker: gearman-worker@wc.service is failed; "
        "client: 198.18.10.246:22 refused the connection; worker: 1 change pending | pending=1;"
    )
    assert line.endswith("failed=2;;0;0")
    metrics = read_metrics(textfile)
    assert metrics["gearman_deploy_host_failed"] == {"job": 0, "worker": 1, "client": 1}
    assert metrics["gearman_deploy_pending_changes"].keys() == {"job", "worker"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"problem": "silent", "detail": "no answer in 3 s"}, "does not answer: silent; no answer"),
        ({"problem": "", "refuses": "its disk is full"}, "refuses jobs: its disk is full"),
    ],
)
def test_a_job_server_that_takes_no_jobs_is_critical(
    fleet: Fleet, answer: dict[str, str], told: str
) -> None:
    assert fleet.deploy() == 0
    fleet.sessions["job"].host.servers["198.18.10.247", "4730"] = answer
    status, line = check_fleet(fleet)
    wanted = f"GEARMAN FLEET CRITICAL - job: its job server, 198.18.10.247:4730, {told}"
    assert (status, line[: len(wanted)]) == (2, wanted)
    assert line.endswith("failed=1;;0;0")


@pytest.mark.parametrize("inventory", ["", "/does/not/exist"])
def test_an_inventory_that_cannot_be_read_is_unknown(inventory: str) -> None:
    status, line = check(inventory, ROLES, Options(quiet=True))
    assert status == 3
    assert line.startswith("GEARMAN FLEET UNKNOWN - ")


def test_a_file_that_cannot_be_written_is_unknown(fleet: Fleet, tmp_path: Path) -> None:
    status, line = check_fleet(fleet, textfile=tmp_path / "none" / "fleet.prom")
    assert status == 3
    assert line.endswith("none/fleet.prom: No such file or directory")
