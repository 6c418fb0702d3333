"""Groups are the user's: which of them play our parts, and which hosts are left alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory.host import Inventory

ROOT = Path(__file__).resolve().parents[3]
COMMON = """
webservers dbservers appservers workers_eu worker_gpu log_server job_servers jobs clients client_a
worker-eu staging production atlanta southeast targets lb loadbalancer redis celery_workers queue
queue_servers kube_node kube_control_plane etcd masters nodes managers docker_swarm_worker vagrant
servers monitoring prometheus node_exporter bastion proxy mail dns windows ios routers spines leafs
jobserver gearman gearmand gearman_workers gearman_clients work clientele job-server jenkins_slave
k3s_cluster agent consul_clients nomad_clients vault_servers
"""


def read(folder: Path, text: str, **more: str) -> Inventory:
    (folder / "hosts.yml").write_text(text)
    for name, content in more.items():
        path = folder / (name.replace("__", "/") + ".yml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return inventory.read_inventory(folder)


@pytest.mark.parametrize("name", COMMON.split())
def test_a_group_may_have_any_name(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, f"{name}: {{hosts: {{a: }}}}\nworker: {{hosts: {{w1: }}}}\n")
    assert [host.name for host in found.hosts] == ["w1"]
    assert [(other.name, other.groups) for other in found.others] == [("a", frozenset({name}))]


def test_hosts_in_none_of_our_groups_are_listed_and_nothing_is_asked_of_them(
    tmp_path: Path,
) -> None:
    text = """
worker: {hosts: {w1: {rack: 3}}}
windows:
  hosts: {win1: , 'name with spaces': }
  vars: {ansible_connection: winrm, ansible_become_method: runas, ansible_port: many}
"""
    found = read(tmp_path, text)
    assert [host.name for host in found.everyone] == ["w1"]
    assert {other.name for other in found.others} == {"win1", "name with spaces"}
    assert found.others[0].where == f"{tmp_path}/hosts.yml:4"
    with pytest.raises(InventoryError, match="--limit win1: win1: in none of the groups that are"):
        inventory.load(tmp_path, "win1")
    assert [host.name for host in inventory.load(tmp_path, "all").hosts] == ["w1"]


def test_a_wrong_value_of_ours_is_refused_where_a_host_of_ours_has_it(tmp_path: Path) -> None:
    ini = """
[worker]
w1
[databases]
db1 gearman_apps=7
[databases:vars]
gearman_memry=1G
"""
    (tmp_path / "fleet").write_text(ini)
    found = inventory.load(tmp_path)
    assert [host.name for host in found.hosts] == ["w1"]
    assert [other.name for other in found.others] == ["db1"]
    passed = "(passed over: no host of ours has it)"
    unknown, kind = found.notes
    assert unknown.startswith(f"{tmp_path}/fleet:7: unknown variable 'gearman_memry'; did you mean")
    assert kind.startswith(f"{tmp_path}/fleet:5: gearman_apps should be `name: value` pairs")
    assert unknown.endswith(passed)
    assert kind.endswith(passed)
    for mistake, line in (("gearman_memry", 7), ("gearman_apps", 3)):
        wrong = "\n[databases:children]\nworker\n" if line == 7 else ""
        own = "w1 gearman_apps=7 " if line == 3 else "w1"
        (tmp_path / "fleet").write_text(ini.replace("w1", own) + wrong)
        with pytest.raises(InventoryError, match=f"fleet:{line}: .*{mistake}"):
            inventory.load(tmp_path)


def test_their_files_of_variables_are_not_even_opened(tmp_path: Path) -> None:
    """They may be encrypted with a password that is not ours."""
    sealed = "$ANSIBLE_VAULT;1.1;AES256\n00\n"
    text = "worker: {hosts: {w1: }}\ndb: {hosts: {d1: }}\n"
    found = read(tmp_path, text, group_vars__db=sealed, host_vars__d1=sealed)
    assert [host.name for host in found.hosts] == ["w1"]


@pytest.mark.slow
def test_an_inventory_of_which_no_host_is_ours_is_shown_and_not_deployed(tmp_path: Path) -> None:
    assert read(tmp_path, "web: {hosts: {a: }}\n").hosts == ()
    with pytest.raises(InventoryError, match="none of its hosts is in a group that is ours"):
        inventory.load(tmp_path)
    shown = invoke("inventory", "--hosts", str(tmp_path))
    assert shown.returncode == 0
    assert "not ours, in none of these groups; they are left alone:\n  a  web  hosts.yml:1" in (
        shown.stdout
    )
    rows = [
        json.loads(line)
        for line in invoke("inventory", "--hosts", str(tmp_path), "--json").stdout.splitlines()
    ]
    assert rows == [{"other": "a", "groups": ["web"]}]
    planned = invoke("plan", "--hosts", str(tmp_path))
    assert planned.returncode == 1 and "gearman_groups" in planned.stderr


def invoke(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


PARTS = "gearman_groups: {job_server: queue, worker: [pictures, mail], client: web}\n"
HOSTS = """
queue: {hosts: {q: }}
media: {children: {pictures: {hosts: {p1: , p2: }}}}
mail: {hosts: {m: }}
web: {children: {eu: {hosts: {w: , p1: }}}}
db: {hosts: {d: }}
"""


def test_groups_of_other_names_play_our_parts(tmp_path: Path) -> None:
    found = read(tmp_path, HOSTS, group_vars__all=PARTS)
    groups = {host.name: host.groups for host in found.hosts}
    assert groups == {
        "q": {"job_server", "queue"},
        "p1": {"worker", "client", "media", "pictures", "web", "eu"},
        "p2": {"worker", "media", "pictures"},
        "m": {"worker", "mail"},
        "w": {"client", "web", "eu"},
    }
    assert [host.name for host in found.group("worker")] == ["p1", "p2", "m"]
    assert [host.name for host in inventory.load(tmp_path, "worker:&client").hosts] == ["p1"]
    assert found.warnings == ()


@pytest.mark.parametrize("where", ["vars of all", "group_vars/all"])
def test_a_group_of_our_name_that_is_somebody_elses_is_left_alone(
    tmp_path: Path, where: str
) -> None:
    text = "worker: {hosts: {kube1: }}\nqueue: {hosts: {q: }}\n"
    said = "{job_server: queue, worker: }"
    if where == "vars of all":
        found = read(tmp_path, text + f"all: {{vars: {{gearman_groups: {said}}}}}\n")
    else:
        found = read(tmp_path, text, group_vars__all=f"gearman_groups: {said}\n")
    assert [host.name for host in found.hosts] == ["q"]
    assert [(other.name, other.groups) for other in found.others] == [
        ("kube1", frozenset({"worker"}))
    ]


def test_all_may_play_a_part(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "worker: {hosts: {w: }}\nx: {hosts: {a: }}\nall: {hosts: {b: }}\n",
        group_vars__all="gearman_groups: {client: all}\n",
    )
    assert {host.name: host.groups for host in found.hosts} == {
        "w": {"worker", "client"},
        "a": {"client", "x"},
        "b": {"client"},
    }


def test_a_hint_is_for_a_part_that_has_no_hosts_and_refuses_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, "job_server: {hosts: {j: }}\nworkers:\n  hosts: {w1: }\n")
    (warning,) = found.warnings
    assert warning == (
        f"{tmp_path}/hosts.yml:2: group worker has no hosts; did you mean 'workers'? Then rename "
        "it, or set gearman_groups: {worker: workers}"
    )
    found = read(tmp_path, "worker: {hosts: {w: }}\nworkers: {hosts: {x: }}\n")
    assert found.warnings == ()
    said = "gearman_groups: {client: wrker}"
    (warning,) = read(tmp_path, "worker: {hosts: {w: }}\n", group_vars__all=said).warnings
    assert warning == (
        f"{tmp_path}/group_vars/all.yml:1: gearman_groups: no group is named 'wrker'; did you mean "
        "'worker'?"
    )


def test_a_name_that_cannot_be_shown_is_a_name(tmp_path: Path) -> None:
    """Found by mutation: a NUL in the name of a group that is nearly one of ours."""
    (warning,) = read(tmp_path, '"\\0worker": {hosts: {a: }}\n').warnings
    assert "did you mean '\\x00worker'?" in warning


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{workers: x}", "unknown role 'workers'; expected client, dashboard, job_server, worker"),
        ("{worker: [1]}", "worker should be the name of a group or a list of them, and is [1]"),
        ("[worker]", "gearman_groups should be `name: value` pairs, and is ['worker']"),
    ],
)
def test_a_mistake_in_it_is_told(tmp_path: Path, said: str, message: str) -> None:
    with pytest.raises(InventoryError) as raised:
        read(tmp_path, "worker: {hosts: {w: }}\n", group_vars__all=f"gearman_groups: {said}\n")
    assert str(raised.value).startswith(f"{tmp_path}/group_vars/all.yml:1: ")
    assert str(raised.value).endswith(message)


def test_it_is_for_the_whole_inventory(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"worker\.yml:1: gearman_groups is for the whole inv"):
        read(tmp_path, "worker: {hosts: {w: }}\n", group_vars__worker=PARTS)


def test_variables_of_groups_and_hosts_that_are_not_there_are_passed_over(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "worker: {hosts: {w: }}\n",
        group_vars__staging="gearman_prot: 1",
        host_vars__w9="gearman_port: high",
    )
    assert found.warnings == ()
    assert found.notes == (
        f"{tmp_path}/group_vars/staging.yml: this inventory has no group of that name",
        f"{tmp_path}/host_vars/w9.yml: this inventory has no host of that name",
    )
