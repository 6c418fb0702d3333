"""Whom the firewall's rules let in, and what an inventory may say of it."""

from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.release.build import named_release
from provision.resources.firewall import Firewall
from roles.job_server import job_server

HOSTS = """
all:
  vars: {{ gearman_firewall: true, {more} }}
  children:
    job_server: {{ hosts: {{ job: {{ ansible_host: 10.0.0.2 }} }} }}
    worker: {{ hosts: {{ w1: {{ ansible_host: 10.0.0.3 }}, w2: {{ ansible_host: "{other}" }} }} }}
"""


def rules(folder: Path, more: str = "", other: str = "fd00::3") -> str:
    (folder / "hosts.yml").write_text(HOSTS.format(more=more, other=other))
    known = inventory.load(folder)
    (host,) = known.group("job_server")
    found = job_server(host, known, named_release("1.0-abc"))
    (wall,) = (each for each in found if isinstance(each, Firewall))
    return wall.rules.content.decode() if wall.rules else ""


def test_every_host_of_the_inventory_and_who_is_named_are_let_in(tmp_path: Path) -> None:
    said = rules(tmp_path, "gearman_firewall_allow: [10.1.2.3/16, 192.0.2.7, 'fd01::/64']")
    assert "elements = { 10.0.0.2, 10.0.0.3, 10.1.0.0/16, 192.0.2.7 }" in said
    assert "elements = { fd00::3, fd01::/64 }" in said
    assert "tcp dport != { 4730, 9418 } accept" in said


def test_a_set_without_addresses_stays_empty(tmp_path: Path) -> None:
    said = rules(tmp_path, "gearman_port: 7003, gearman_metrics_port: 0", other="10.0.0.9")
    assert said.count("elements") == 1
    assert "tcp dport != { 7003 } accept" in said


def test_what_cannot_be_an_address_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"hosts\.yml:3: 'here' is neither an address"):
        rules(tmp_path, "gearman_firewall_allow: [here]")
    with pytest.raises(InventoryError, match=r"the address of w2: 'no\.such\.invalid' cannot be"):
        rules(tmp_path, other="no.such.invalid")
