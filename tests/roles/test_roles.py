"""What each role makes of a bare host, as a text to review. To accept a change of it:

UPDATE_GOLDEN=1 .venv/bin/pytest tests/roles
"""

import os
from pathlib import Path
from textwrap import indent

import pytest

from provision import plan
from provision.build import Artifact
from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory.host import Inventory
from provision.resources.base import Resource
from provision.resources.unit import Unit, UnitFile
from roles import ROLES
from tests.provision.fake_host import FakeHost

GOLDEN = Path(__file__).parent / "golden"
ARTIFACT = Artifact("0.1.0-0123456789ab", "0123456789ab", 13 * 2**20, Path("release.tar"))
HOSTS = """\
all:
  children:
    job_server:
      hosts:
        job: {ansible_host: 198.18.10.247}
    worker:
      hosts:
        worker: {ansible_host: 198.18.10.248}
    client:
      hosts:
        client: {ansible_host: 198.18.10.246}
"""


def load(folder: Path, hosts: str = HOSTS) -> Inventory:
    (folder / "hosts.yml").write_text(hosts)
    return inventory.load(folder)


def resources(known: Inventory, name: str) -> list[Resource]:
    host = next(host for host in known.hosts if host.name == name)
    groups = (roles for group, roles in ROLES.items() if group in host.groups)
    return [each for roles in groups for role in roles for each in role(host, known, ARTIFACT)]


def planned(host: FakeHost, wanted: list[Resource]) -> plan.Plan:
    return plan.make_plan(wanted, host.answer(plan.questions_of(wanted)))


@pytest.mark.parametrize("name", ["job", "worker", "client"])
def test_a_bare_host_becomes_what_its_golden_plan_says(name: str, tmp_path: Path) -> None:
    wanted = resources(load(tmp_path), name)
    host = FakeHost()
    made = planned(host, wanted)
    text = "".join(
        f"{change.sign} {change.summary}  {change.reason}".rstrip()
        + f"\n{indent(change.diff, '    ')}"
        for change in made.changes
    )
    golden = GOLDEN / f"{name}.txt"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text()

    host.apply([change.operation for change in made.changes])
    assert planned(host, wanted).changes == ()


def test_one_host_may_be_of_every_kind(tmp_path: Path) -> None:
    groups = "{job_server: {hosts: {all1: }}, worker: {hosts: {all1: }}, client: {hosts: {all1: }}}"
    hosts = f"all: {{vars: {{gearman_listen: 10.0.0.1}}, children: {groups}}}"
    wanted = resources(load(tmp_path, hosts), "all1")
    host = FakeHost()
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert planned(host, wanted).changes == ()
    assert len(host.processes) == 5
    users = {unit: process.get("user") for unit, process in host.processes.items()}
    assert users.pop("gearmand.service") == "gearmand"
    assert users.pop("gearmand.socket") is None
    assert set(users.values()) == {"gearman-worker"}


@pytest.mark.parametrize("secured", [False, True])
def test_a_host_where_all_ran_as_one_account_is_taken_over(tmp_path: Path, secured: bool) -> None:
    groups = "{job_server: {hosts: {all1: }}, worker: {hosts: {all1: }}}"
    own = f"gearman_listen: 10.0.0.1, gearman_tls: {str(secured).lower()}"
    wanted = resources(load(tmp_path, f"all: {{vars: {{{own}}}, children: {groups}}}"), "all1")
    host = FakeHost(groups={"root", "gearman"}, users={"root": {"group": "root"}})
    host.users["gearman"] = {"group": "gearman", "home": "/nonexistent", "groups": []}
    host.users["gearman"]["shell"] = "/usr/sbin/nologin"
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert planned(host, wanted).changes == ()
    host.users["gearman-worker"]["groups"] = []
    told = [change.summary for change in planned(host, wanted).changes]
    assert told == (["user gearman-worker"] if secured else [])
    # As it was before.
    host.users["gearman"] = {**host.users["gearmand"], "group": "gearman", "groups": []}
    host.groups.add("gearman")
    for process in host.processes.values():
        process |= {"user": process.get("user") and "gearman", "config": "before"}
    changes = planned(host, wanted).changes
    told = [change.summary for change in changes]
    assert told[0] == "restart gearmand.service"
    assert told[-1] == ("user gearman" if secured else "user gearman and its group")
    host.apply([change.operation for change in changes])
    assert planned(host, wanted).changes == ()
    assert "gearman" not in host.users
    assert ("gearman" in host.groups) == secured, "the group reads the host's key"


def test_a_worker_serves_the_functions_its_inventory_names_and_no_other(tmp_path: Path) -> None:
    hosts = HOSTS.replace("198.18.10.248", "198.18.10.248, gearman_functions: [wc, thumbnail]")
    units = [each for each in resources(load(tmp_path, hosts), "worker") if isinstance(each, Unit)]
    assert {unit.name: unit.wanted for unit in units} == {
        "gearman-worker@wc.service": True,
        "gearman-worker@thumbnail.service": True,
        "gearman-worker@reverse.service": False,
        "gearman-worker@resize.service": False,
    }


def test_workers_and_clients_know_every_job_server_by_address_and_port(tmp_path: Path) -> None:
    hosts = HOSTS.replace(
        "job: {ansible_host: 198.18.10.247}",
        "job: {ansible_host: 198.18.10.247, gearman_port: 4731}\n"
        "        spare: {ansible_host: '2001:db8::7'}",
    )
    known = load(tmp_path, hosts)
    for name in ("worker", "client"):
        assert "198.18.10.247:4731,[2001:db8::7]:4730" in str(resources(known, name))


def test_a_job_server_listens_at_an_address_of_either_kind_and_at_no_name(tmp_path: Path) -> None:
    hosts = HOSTS.replace("198.18.10.247", "job.example.com")
    with pytest.raises(InventoryError, match=r"hosts.yml:5: job is a job server, and 'job.example"):
        resources(load(tmp_path, hosts), "job")
    hosts = hosts.replace("job.example.com", "job.example.com, gearman_listen: '::'")
    socket = next(
        each
        for each in resources(load(tmp_path, hosts), "job")
        if isinstance(each, UnitFile) and each.path.endswith(".socket")
    )
    assert b"\nListenStream=[::]:4730\n" in socket.content
    assert "job.example.com:4730" in str(resources(load(tmp_path, hosts), "worker"))


def test_workers_without_a_job_server_are_refused(tmp_path: Path) -> None:
    hosts = "all: {children: {worker: {hosts: {worker: {ansible_host: 198.18.10.248}}}}}"
    with pytest.raises(InventoryError, match="no host is in group job_server"):
        resources(load(tmp_path, hosts), "worker")
