"""The dashboard on a host: on loopback, or with TLS and users; and what is left when it leaves."""

from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.resources.dashboard import PageHealth
from provision.resources.firewall import Firewall
from provision.resources.unit import UnitFile
from tests.provision.fake_host import FakeHost, directory, file
from tests.roles.test_roles import HOSTS, load, planned, resources

HASH = "alice:operate:scrypt:32768:8:3:00ff:1234"
USERS = "/etc/gearman/secrets/dashboard"
VARIABLES = f"""\
  vars:
    gearman_tls: true
    gearman_firewall: true
    gearman_dashboard_users: {HASH}
"""
PUBLIC = HOSTS.replace("all:\n", f"all:\n{VARIABLES}").replace(
    "198.18.10.249", "198.18.10.249, gearman_dashboard_listen: 0.0.0.0"
)
OPEN = PUBLIC.replace("gearman_firewall: true", "gearman_firewall: false")  # as fake hosts can be


def unit_text(folder: Path, hosts: str) -> str:
    found = resources(load(folder, hosts), "page")
    (text,) = (each.content.decode() for each in found if isinstance(each, UnitFile))
    return text


def test_on_loopback_it_needs_neither_users_nor_tls(tmp_path: Path) -> None:
    text = unit_text(tmp_path, HOSTS)
    assert "gearman-web -L 127.0.0.1 --web-port 4780 --history" in text
    assert " --name job\n" in text
    assert "--users" not in text
    assert "--tls" not in text
    (health,) = (each for each in resources(load(tmp_path), "page") if isinstance(each, PageHealth))
    assert health.url == "http://127.0.0.1:4780/"


def test_for_others_it_has_users_tls_and_a_firewall(tmp_path: Path) -> None:
    known = load(tmp_path, PUBLIC)
    wanted = resources(known, "page")
    files = [each for each in wanted if isinstance(each, UnitFile)]
    (text,) = (each.content.decode() for each in files if "gearman-web" in each.path)
    assert "--users ${CREDENTIALS_DIRECTORY}/users --name job --tls-certificate" in text
    assert f"\nLoadCredential=users:{USERS}\n" in text
    (wall,) = (each for each in wanted if isinstance(each, Firewall))
    assert "tcp dport != { 4780 } accept" in wall.rules.content.decode()
    (health,) = (each for each in wanted if isinstance(each, PageHealth))
    (proof,) = health.running_proofs()
    assert proof.operation.arguments["command"][-1] == "https://198.18.10.249:4780/"
    assert proof.judge(b"<title>Log in \xc2\xb7 Gearman</title></html>") is None
    assert proof.judge(b"<title>Log in</title></html>")

    wanted = resources(load(tmp_path, OPEN), "page")
    host = FakeHost()
    made = planned(host, wanted)
    shown = "".join(f"{each.summary}{each.reason}{each.diff}" for each in made.changes)
    assert "secret users of the dashboard" in shown
    assert "scrypt" not in shown
    host.apply([change.operation for change in made.changes])
    assert planned(host, wanted).changes == ()
    assert host.paths[USERS] == file(HASH.encode(), mode="0600")


def test_a_host_with_a_job_server_too_has_one_firewall_for_both(tmp_path: Path) -> None:
    own = "    dashboard:\n      hosts:\n        job: {gearman_dashboard_listen: 198.18.10.247}\n"
    hosts = PUBLIC[: PUBLIC.index("    dashboard:")] + own
    walls = {each for each in resources(load(tmp_path, hosts), "job") if isinstance(each, Firewall)}
    assert [each.rules.content.decode().count("{ 4730, 9418, 4780 }") for each in walls] == [1]


def test_beside_a_job_server_users_who_operate_use_its_admin_socket(tmp_path: Path) -> None:
    own = HOSTS.replace("        page: {ansible_host: 198.18.10.249}\n", "        job: {}\n")
    assert own != HOSTS

    def unit_of_page(hosts: str) -> str:
        found = resources(load(tmp_path, hosts), "job")
        files = (each for each in found if isinstance(each, UnitFile))
        (text,) = (each.content.decode() for each in files if "gearman-web" in each.path)
        return text

    assert "admin" not in unit_of_page(own)  # everyone on the host may use that page
    users = own.replace("all:\n", f"all:\n  vars:\n    gearman_dashboard_users: {HASH}\n")
    text = unit_of_page(users)
    assert " --admin-socket job=unix:/run/gearmand/admin.sock\n" in text
    assert "\nSupplementaryGroups=gearmand\n" in text
    planned_changes = planned(FakeHost(), resources(load(tmp_path, users), "job")).changes
    told = {each.summary: each.reason for each in planned_changes}
    reason = told["file /etc/systemd/system/gearman-web.service"]
    assert reason.endswith("may do what group gearmand may")


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("gearman_tls: true", r"hosts\.yml:\d+: .*0\.0\.0\.0 is not loopback.* set gearman_tls"),
        (
            f"gearman_dashboard_users: {HASH}",
            r"everyone could read it: set gearman_dashboard_users",
        ),
    ],
)
def test_a_page_that_others_could_read_is_refused(
    tmp_path: Path, variable: str, message: str
) -> None:
    hosts = PUBLIC.replace(f"    {variable}\n", "")
    assert hosts != PUBLIC
    with pytest.raises(InventoryError, match=message):
        resources(load(tmp_path, hosts), "page")


@pytest.mark.parametrize(
    ("users", "message"),
    [("alice:secret", "line 1: expected NAME:ROLE:scrypt"), ('"# nobody"', "no user is in it")],
)
def test_users_that_could_not_log_in_are_refused_by_the_plan(
    tmp_path: Path, users: str, message: str
) -> None:
    wanted = resources(load(tmp_path, OPEN.replace(HASH, users)), "page")
    with pytest.raises(InventoryError, match=f"gearman_dashboard_users: .*{message}"):
        planned(FakeHost(), wanted)


def test_it_leaves_with_its_history_and_its_account(tmp_path: Path) -> None:
    host = FakeHost()
    host.paths["/var/lib"] = directory()
    wanted = resources(load(tmp_path, OPEN), "page")
    host.apply([each.operation for each in planned(host, wanted).changes])
    host.paths["/var/lib/gearman-web"] = directory("gearman-web", "gearman-web", "0700")
    without = resources(load(tmp_path, HOSTS.replace("dashboard:", "worker:")), "page")
    host.apply([change.operation for change in planned(host, without).changes])
    assert planned(host, without).changes == ()
    assert "/var/lib/gearman-web" not in host.paths
    assert USERS not in host.paths
    assert "gearman-web" not in host.users
    assert "gearman-web.service" not in host.processes


def test_a_folder_of_that_name_that_is_another_s_stays(tmp_path: Path) -> None:
    host = FakeHost()
    host.paths["/var/lib/gearman-web"] = directory()
    wanted = resources(load(tmp_path), "client")
    assert "history" not in "".join(each.summary for each in planned(host, wanted).changes)
