"""A job server behind a firewall of its own: one variable, and only the fleet reaches its port."""

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.commands.smoke import smoke
from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY, NETWORK, SERVER, manifest, root

ROOT = Path(__file__).resolve().parents[2]
PORTS = (4730, 9418)  # jobs, metrics
HERE = f"{NETWORK}.1"  # this machine, as the lab's hosts see it
YES = Options(yes=True)
UNIT = "gearman-firewall.service"


def reached() -> bool:
    """Whether this machine, which is no host of the inventory, gets through; at all ports alike."""
    (answer,) = {_is_open(port) for port in PORTS}
    return answer


def _is_open(port: int) -> bool:
    try:
        socket.create_connection((SERVER, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def walled(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0
    assert reached()
    before = manifest(lab, "server1")
    folder = tmp_path_factory.mktemp("firewall") / "lab"
    shutil.copytree(INVENTORY, folder)
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "all.yml").write_text("gearman_firewall: true\n")
    assert deploy.deploy(folder, ROLES, YES) == 0
    yield folder
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0
    assert reached()
    assert root(lab, "server1", "nft list ruleset") == ""
    left = manifest(lab, "server1")
    assert left.keys() - before.keys() <= {"/etc/gearman"}


def test_the_fleet_is_served_and_nobody_else(
    walled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not reached()
    assert smoke(walled) == 0
    assert deploy.deploy(walled, ROLES, YES) == 0
    assert "3 ok; nothing to change" in capsys.readouterr().out


def test_others_are_let_in_by_address_or_network(walled: Path) -> None:
    variables = walled / "group_vars" / "all.yml"
    said = variables.read_text()
    try:
        for network in (HERE, f"{NETWORK}.0/24"):
            variables.write_text(f"{said}gearman_firewall_allow: [{network}, 'fd00::/64']\n")
            assert deploy.deploy(walled, ROLES, YES) == 0
            assert reached()
            assert deploy.plan(walled, ROLES) == 0
    finally:
        variables.write_text(said)
        assert deploy.deploy(walled, ROLES, YES) == 0
    assert not reached()


@pytest.mark.parametrize(
    ("tamper", "planned"),
    [
        ("nft flush ruleset", rf"~ reload {UNIT}  \(its table is gone\)"),
        (
            "nft add rule inet gearman input accept",
            rf"~ reload {UNIT}  \(its table was changed by hand\)",
        ),
        (
            f"nft add element inet gearman v4 '{{ {HERE} }}'",
            rf"~ reload {UNIT}  \(its table was changed by hand\)",
        ),
        ("echo >> /etc/gearman/firewall.nft", rf"~ reload {UNIT}  \(its rules change\)"),
        (f"systemctl stop {UNIT}", rf"\+ start {UNIT}  \(it is inactive\)"),
        (f"systemctl disable -q {UNIT}", rf"~ enable {UNIT}  \(it would not be loaded at boot\)"),
    ],
)
def test_what_is_changed_by_hand_is_mended(
    lab: ModuleType,
    walled: Path,
    capsys: pytest.CaptureFixture[str],
    tamper: str,
    planned: str,
) -> None:
    root(lab, "server1", tamper)
    assert deploy.deploy(walled, ROLES, YES) == 0
    assert re.search(planned, capsys.readouterr().out)
    assert deploy.plan(walled, ROLES) == 0
    assert not reached()


def test_what_else_a_host_filters_is_left_alone(lab: ModuleType, walled: Path) -> None:
    root(lab, "server1", "nft add table inet mine")
    try:
        root(lab, "server1", "echo >> /etc/gearman/firewall.nft")
        assert deploy.deploy(walled, ROLES, YES) == 0
        assert "table inet mine" in root(lab, "server1", "nft list ruleset")
    finally:
        root(lab, "server1", "nft delete table inet mine")


def test_it_stands_before_the_port_is_open_at_boot(lab: ModuleType, walled: Path) -> None:
    lab.power_off("server1")
    lab.boot("server1")
    assert not reached()
    assert deploy.plan(walled, ROLES) == 0
    assert smoke(walled) == 0
