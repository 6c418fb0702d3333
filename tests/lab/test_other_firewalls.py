"""Hosts that have a firewall already: what is told opens it, and it is left alone.

firewalld and ufw, from Debian's packages.
"""

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.commands.smoke import smoke
from provision.doctor.doctor import doctor
from provision.errors import HostFailed
from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY, SERVER, root

HOST = "server1"
YES = Options(yes=True)
ENABLE = {
    "firewalld": "systemctl restart firewalld",  # it lets SSH in
    "ufw": "ufw allow OpenSSH && ufw --force enable",
}
DISABLE = {"firewalld": "systemctl stop firewalld", "ufw": "ufw disable"}
RELOAD = {"firewalld": "systemctl restart firewalld", "ufw": "ufw reload"}


@pytest.fixture(scope="module")
def deployed(lab: ModuleType) -> ModuleType:
    """The lab, whose hosts can install both."""
    lab.up(print, packages=[*ENABLE, "netbase"])
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0
    return lab


@pytest.fixture(params=ENABLE)
def firewall(request: pytest.FixtureRequest, deployed: ModuleType) -> Iterator[str]:
    """The one that runs on the job server's host."""
    name = str(request.param)
    # firewalld knows protocols by /etc/protocols.
    install = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"
    root(deployed, HOST, f"apt-get update && {install} netbase {name} && {ENABLE[name]}")
    yield name
    root(deployed, HOST, f"{DISABLE[name]}; apt-get purge --yes {name} && nft flush ruleset")
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0


def test_what_is_told_lets_the_fleet_in_and_a_firewall_of_ours_stands_beside_it(
    deployed: ModuleType, firewall: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(INVENTORY, ROLES, Options()) == HostFailed.status
    (command,) = set(re.findall(rf"with {firewall}: (.*?)[;)]", capsys.readouterr().out))
    for port in ("4730", "9418"):  # jobs; metrics, which smoke looks at
        root(deployed, HOST, command.replace("4730", port))
    assert doctor(INVENTORY, ROLES, Options()) == 0
    assert smoke(INVENTORY) == 0

    before = root(deployed, HOST, "nft -s list ruleset")
    folder = tmp_path / "hosts"
    shutil.copytree(INVENTORY, folder)
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "all.yml").write_text("gearman_firewall: true\n")
    assert deploy.deploy(folder, ROLES, YES) == 0
    root(deployed, HOST, RELOAD[firewall])
    assert deploy.plan(folder, ROLES) == 0, "our table is gone"
    assert smoke(folder) == 0
    with pytest.raises(ConnectionRefusedError):  # this machine is no host of the inventory
        socket.create_connection((SERVER, 4730), 5)
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0
    assert root(deployed, HOST, "nft -s list ruleset") == before
    assert smoke(INVENTORY) == 0
