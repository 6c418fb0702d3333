"""The operator's commands as they are typed, from a deploy to each wrong input."""

import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.attacks import attack
from tests.lab.dashboards import answers, invoke_web
from tests.lab.hosts import INVENTORY, NETWORK, WORKER
from tests.lab.operator_commands import run_command
from tests.waiting import await_true

PASSWORD = "right"  # noqa: S105 - of a machine that lives as long as this test
USAGE, PENDING, HOST_FAILED, UNREACHABLE = 1, 2, 3, 4


@pytest.fixture(scope="module")
def deployed(lab: ModuleType) -> None:
    """The lab's hosts as they should be."""
    done = run_command("deploy", "--hosts", str(INVENTORY), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("deployed")
def test_smoke_passes_and_tells_each_check_with_its_time() -> None:
    done = run_command("smoke", "--hosts", str(INVENTORY))
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [line.split()[:2] for line in done.stdout.splitlines()]
    assert checks == [["ok", "wc:"], ["ok", "reverse:"], ["ok", "resize:"], ["ok", "metrics"]]


@pytest.mark.usefixtures("deployed")
def test_smoke_names_the_host_whose_worker_is_stopped(lab: ModuleType) -> None:
    lab.run("worker1", ["systemctl", "stop", "gearman-worker@reverse"])
    try:
        done = run_command("smoke", "--hosts", str(INVENTORY), "--patience", "2")
        assert done.returncode == HOST_FAILED
        assert "no worker serves reverse yet: waiting up to " in done.stdout
        doctor = f"./invoke doctor --problems --limit worker1 --hosts {INVENTORY}"
        assert f"    try: {doctor} (why worker reverse is not connected)" in done.stdout
        states = [line.split()[0] for line in done.stdout.splitlines() if line[0] != " "]
        assert states == ["ok", "ok", "no", "failed", "ok"]
    finally:
        lab.run("worker1", ["systemctl", "start", "gearman-worker@reverse"])


@attack(
    "local user",
    "reach job servers by the ports of `./invoke web` on the operator's machine",
    "mended",
)
@pytest.mark.usefixtures("deployed")
def test_the_dashboard_of_this_machine_opens_no_port_to_a_job_server(tmp_path: Path) -> None:
    with invoke_web(INVENTORY, tmp_path) as site:
        await_true(lambda: answers(site))
        done = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if f"pid={site.process.pid}," in line]
    assert [site.address.removeprefix("http://") in line for line in lines] == [True]


@pytest.mark.usefixtures("deployed")
def test_plan_status_and_second_deploy_of_what_is_as_wanted() -> None:
    assert run_command("plan", "--hosts", str(INVENTORY)).returncode == 0
    assert run_command("status", "--hosts", str(INVENTORY)).returncode == 0
    again = run_command("deploy", "--hosts", str(INVENTORY), "--yes")
    assert again.returncode == 0
    assert "nothing to change" in again.stdout
    assert len(again.stdout.splitlines()) <= 6


@pytest.mark.usefixtures("deployed")
def test_pending_change_is_status_2_of_plan_and_is_not_applied_without_an_answer(
    lab: ModuleType,
) -> None:
    lab.run("client1", ["rm", "/etc/profile.d/gearman.sh"])
    done = run_command("plan", "--hosts", str(INVENTORY))
    assert done.returncode == PENDING
    assert "+ file /etc/profile.d/gearman.sh" in done.stdout
    unasked = run_command("deploy", "--hosts", str(INVENTORY))
    assert unasked.returncode == USAGE
    assert "--yes" in unasked.stderr
    assert lab.run("client1", ["test", "-e", "/etc/profile.d/gearman.sh"]).returncode == 1
    mended = run_command("deploy", "--hosts", str(INVENTORY), "--yes")
    assert mended.returncode == 0


@pytest.fixture
def inventory(lab: ModuleType, tmp_path: Path) -> Path:
    """A copy of the lab's inventory, to spoil."""
    copy = tmp_path / "inventory"
    shutil.copytree(INVENTORY, copy)
    return copy


def edit(inventory: Path, old: str, new: str) -> None:
    path = inventory / "hosts.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_missing_inventory_is_told_with_those_that_are_there() -> None:
    done = run_command("plan", "--hosts", "inventory/production")
    assert done.returncode == USAGE
    assert "inventory/production" in done.stderr
    assert "prod" in done.stderr


def test_no_inventory_at_all_is_told_with_those_that_are_there() -> None:
    done = run_command("plan")
    assert done.returncode == USAGE
    assert "--hosts inventory/lab or --hosts inventory/prod" in done.stderr


def test_wrong_key_is_told_with_its_line_and_the_nearest_right_one(inventory: Path) -> None:
    edit(inventory, "ansible_user: deploy", "gearman_prot: 4730")
    done = run_command("plan", "--hosts", str(inventory))
    assert done.returncode == USAGE
    assert "hosts.yml:" in done.stderr
    assert "did you mean 'gearman_port'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_unreachable_host_is_status_4_and_named(inventory: Path) -> None:
    edit(inventory, WORKER, f"{NETWORK}.99")
    done = run_command("deploy", "--hosts", str(inventory), "--yes")
    assert done.returncode == UNREACHABLE
    assert "worker1" in done.stdout
    assert f"{NETWORK}.99" in done.stdout
    assert "1 unreachable" in done.stdout.splitlines()[-1]


def test_unknown_host_key_is_status_4_with_its_fingerprint(inventory: Path) -> None:
    (inventory / "known_hosts").write_text("")
    done = run_command("plan", "--hosts", str(inventory), HOME=str(inventory))
    assert done.returncode == UNREACHABLE
    assert len(set(re.findall(r"SHA256:\S+", done.stdout))) == 3


def test_wrong_sudo_password_is_status_4_and_tried_once(lab: ModuleType, inventory: Path) -> None:
    rule = "/etc/sudoers.d/deploy"
    before = refusals(lab)
    lab.run("client1", ["sh", "-c", f"cp {rule} /root/rule; echo deploy:{PASSWORD} | chpasswd"])
    lab.run("client1", ["sh", "-c", f"echo 'deploy ALL=(ALL) ALL' > {rule}"])
    try:
        target = ["--hosts", str(inventory), "--limit", "client1"]
        wrong = run_command("plan", *target, GEARMAN_SUDO_PASSWORD=PASSWORD[::-1])
        assert wrong.returncode == UNREACHABLE
        assert "password" in wrong.stdout
        assert PASSWORD[::-1] not in wrong.stdout
        assert [line for line in refusals(lab)[len(before) :] if " 1 incorrect" in line]
        assert len(refusals(lab)) == len(before) + 1
        assert (
            run_command("plan", *target, GEARMAN_SUDO_PASSWORD=PASSWORD).returncode != UNREACHABLE
        )
    finally:
        lab.run("client1", ["sh", "-c", f"mv /root/rule {rule}"])


def refusals(lab: ModuleType) -> list[str]:
    """What the client's sudo has said of wrong passwords."""
    said: list[str] = lab.journal("client1", "-t", "sudo")
    return [line for line in said if "incorrect password attempt" in line]


def test_host_without_python_is_told(lab: ModuleType, inventory: Path) -> None:
    lab.run("client1", ["mv", "/usr/bin/python3", "/usr/bin/python3.away"])
    try:
        done = run_command("plan", "--hosts", str(inventory), "--limit", "client1")
        assert done.returncode == UNREACHABLE
        assert "python3" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
    finally:
        lab.run("client1", ["mv", "/usr/bin/python3.away", "/usr/bin/python3"])
