"""What an inventory may be read from: files of any form, folders of several, programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.inventory import document
from provision.inventory import load as inventory

ROOT = Path(__file__).resolve().parents[3]
INI = """\
# the fleet
lonely ansible_host=10.0.0.9

[job_server]
job1 ansible_host=10.0.0.247 gearman_durable=yes   # and kept
[worker]
w[1:2].lan:2222 gearman_functions="['wc', 'reverse']"
[2001:db8::7]:22022
[eu:children]
worker ; of Europe only
""".replace(" ; of Europe only", "  # of Europe only")
VARS = """
[eu:vars]
ansible_user = deploy
gearman_worker_memory=2G
ansible_ssh_private_key_file = "~/.ssh/id"
note = {'a': (1, 2), 'b': None}
"""


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "name", ["hosts", "hosts.ini", "inventory.ini", "production", "fleet.prod"]
)
@pytest.mark.parametrize("as_folder", [False, True])
def test_an_ini_inventory_of_any_name_is_read(tmp_path: Path, name: str, as_folder: bool) -> None:
    (tmp_path / name).write_text(INI + VARS)
    found = inventory.load(tmp_path if as_folder else tmp_path / name)
    hosts = {host.name: host for host in found.hosts}
    assert list(hosts) == ["job1", "w1.lan", "w2.lan", "2001:db8::7"]
    assert hosts["job1"].variables["gearman_durable"] is True
    w1 = hosts["w1.lan"]
    assert (w1.port, w1.user, sorted(w1.groups)) == (2222, "deploy", ["eu", "worker"])
    assert w1.variables["gearman_functions"] == ["wc", "reverse"]
    assert w1.variables["note"] == {"a": [1, 2], "b": None}
    assert w1.key_file == Path("~/.ssh/id").expanduser()
    assert (hosts["2001:db8::7"].port, hosts["2001:db8::7"].address) == (22022, "2001:db8::7")
    assert w1.where == f"{tmp_path}/{name}:7"
    assert w1.where_is("ansible_user") == f"{tmp_path}/{name}:13"
    assert [other.name for other in found.others] == ["lonely"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[worker]\nw1 gearman_prot=1", "2: unknown variable 'gearman_prot'; did you mean 'gearm"),
        ("[worker]\nw1 gearman_port=high", "2: gearman_port should be a whole number, and is 'hi"),
        ("[worker]\nw1 gearman_port", "2: 'gearman_port' should be NAME=VALUE"),
        ("[worker]\nw1 a='b", "2: no closing quotation (w1 a='b)"),
        ("[worker]\nw[1:", "2: 'w[1:' is not a host"),
        ("[my worker]\nw1", "1: [my worker] is not a section: write [GROUP], [GROUP:children] or"),
        ("[worker\nw1", "1: [worker is not a section: write [GROUP], [GROUP:children] or"),
        ("[worker]\ndb[01:03.example.com", "2: db[01:03.example.com: its range has no end; ranges"),
        ("[worker:host]\nw1", "1: [worker:host]: unknown kind of section; expected [worker], [wor"),
        ("[eu:children]\nworker", "2: [eu:children]: no group is named 'worker'"),
        ("[worker]\nw1\n[eu:vars]\na=1", "3: [eu:vars]: no group is named 'eu'; write [eu] too"),
        ("[worker]\nw1\n[worker:vars]\na", "4: 'a' should be NAME=VALUE"),
        ("[worker]\nw1\n[eu:children]\na b", "4: 'a b' is not the name of a group"),
        ("[worker]\nall:", "2: 'all:' is not a host: is this a file in YAML?"),
        ("[a:children]\nb\n[b:children]\na", "1: group 'a' is among its own children"),
    ],
)
def test_a_mistake_in_ini_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "hosts").write_text(text)
    for path in (tmp_path, tmp_path / "hosts"):
        with pytest.raises(InventoryError) as raised:
            inventory.load(path)
        assert str(raised.value).startswith(f"{tmp_path}/hosts:{message}")


def test_a_file_is_an_inventory_of_its_own_with_the_variables_beside_it(tmp_path: Path) -> None:
    (tmp_path / "production.yml").write_text("worker: {hosts: {p1: }}\n")
    (tmp_path / "staging.yml").write_text("worker: {hosts: {s1: }}\n")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "worker.yml").write_text("gearman_port: 4731\n")
    found = inventory.load(tmp_path / "production.yml")
    assert [host.name for host in found.everyone] == ["p1"]
    (p1,) = found.hosts
    assert p1.variables["gearman_port"] == 4731
    assert (p1.folder, p1.inventory) == (tmp_path, tmp_path / "production.yml")
    assert {host.name for host in inventory.load(tmp_path).hosts} == {"p1", "s1"}


def test_a_folder_merges_what_it_holds_and_passes_over_the_rest(tmp_path: Path) -> None:
    (tmp_path / "01-hosts").write_text("[worker]\nw1 gearman_port=1\n[eu:children]\nworker\n")
    (tmp_path / "02-more.yml").write_text("worker: {hosts: {w1: {gearman_port: 2}, w2: }}\n")
    (tmp_path / "03-vars.ini").write_text("[eu:vars]\ngearman_memory=1G\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "hosts").write_text("[worker]\nw3\n")
    for name in ("known_hosts", "id_rsa", "id_rsa.pub", ".hidden", "ansible.cfg", "notes.md"):
        key = name == "id_rsa"
        (tmp_path / name).write_text("-----BEGIN KEY-----\nx\n" if key else "w7 ssh-rsa AAAA=\n")
    (tmp_path / "Makefile").write_text("all: deploy\n\tinvoke deploy\n")
    (tmp_path / "site.yml").write_text("- hosts: all\n  roles: [common]\n")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca").write_text("-----BEGIN CERTIFICATE-----\n")
    found = inventory.load(tmp_path)
    hosts = {host.name: host.variables for host in found.hosts}
    assert list(hosts) == ["w1", "w2", "w3"]
    assert [hosts[name]["gearman_port"] for name in hosts] == [2, 4730, 4730]
    assert hosts["w3"]["gearman_memory"] == "1G"
    assert [text.replace(f"{tmp_path}/", "") for text in found.warnings] == [
        "Makefile:1: 'all:' is not a host: is this a file in YAML?: the file is passed over",
        "site.yml:1: expected `name:` lines, found a list: the file is passed over",
    ]


def test_gearman_groups_may_be_said_in_ini(tmp_path: Path) -> None:
    text = "[queue]\nq\n[all:vars]\ngearman_groups={'job_server': 'queue', 'worker': ['queue']}\n"
    (tmp_path / "hosts").write_text(text)
    (queue,) = inventory.load(tmp_path).hosts
    assert queue.groups == {"queue", "job_server", "worker"}


def test_only_a_comment_may_be_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(b"[worker]\n# caf\xe9\nw1\n")
    assert [host.name for host in inventory.load(tmp_path).hosts] == ["w1"]
    (tmp_path / "hosts").write_bytes(b"[worker]\nw1 a=caf\xe9\n")
    with pytest.raises(InventoryError, match="hosts:2: it is not UTF-8 text"):
        inventory.load(tmp_path / "hosts")


@pytest.mark.parametrize("name", ["dump", "dump.img"])
@pytest.mark.parametrize(
    ("piece", "said"),
    [
        (b"\0", "it is not text"),
        (b"INSERT INTO a VALUES (1);\n", "'INTO' should be NAME=VALUE"),
        (b"x", "its first line is too long for a list of hosts"),
    ],
)
def test_a_large_file_beside_an_inventory_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, piece: bytes, said: str
) -> None:
    (tmp_path / "hosts.ini").write_text("[worker]\nw1\n")
    (tmp_path / name).write_bytes(piece * (1 << 20))
    read: list[int] = []

    def read_text(path: Path) -> str:
        read.append(path.stat().st_size)
        return path.read_text()

    monkeypatch.setattr(document, "read_text", read_text)
    found = inventory.load(tmp_path)
    assert [host.name for host in found.hosts] == ["w1"]
    assert found.warnings and said in found.warnings[0]
    assert max(read) < 1 << 16


@pytest.mark.parametrize("text", ["w1\n", "[worker]\nw1\n", "worker: {hosts: {w1: }}\n"])
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text("[worker]\nw1\n")
    (tmp_path / "hosts").write_text(f"\ufeff{text}")
    assert [host.name for host in inventory.load(tmp_path).hosts] == ["w1"]


def test_an_inventory_without_hosts_tells_what_was_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "cloud", "print('loading ...')")
    (tmp_path / "hosts.yml").write_text("all: {worker: {hosts: {w1: }}}\n")
    with pytest.raises(InventoryError) as raised:
        inventory.load(tmp_path)
    first, *more = str(raised.value).splitlines()
    assert first == f"{tmp_path}: it has no hosts"
    assert "cloud:1: what it prints is not JSON" in more[0]
    assert more[1].endswith("no 'worker': it is not read (group all)")


def test_what_ansible_tells_of_a_host_can_be_referred_to(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "hosts.yml").write_text(
        "worker: {hosts: {w1: }, vars: {ansible_ssh_private_key_file: '{{ inventory_dir }}/key', "
        "ansible_user: '{{ who | default(\"deploy\") }}'}}"
    )
    (w1,) = inventory.load(tmp_path).hosts
    assert (w1.key_file, w1.user) == (tmp_path / "more" / "key", "deploy")


def test_two_names_of_one_machine_are_told(tmp_path: Path) -> None:
    text = "[worker]\nw1 ansible_host=10.0.0.7\nw2 ansible_host=10.0.0.7\n"
    (tmp_path / "hosts").write_text(text + "w3 ansible_host=10.0.0.7 ansible_port=2222\n")
    (warning,) = inventory.load(tmp_path).warnings
    assert warning == (
        f"{tmp_path}/hosts:3: w2 is at 10.0.0.7:22, as w1 is ({tmp_path}/hosts:2): if they are one "
        "machine, leave one out"
    )


def test_a_folder_of_inventories_is_not_one(tmp_path: Path) -> None:
    """Ansible would take the hosts of both, and none of their variables."""
    for name in ("prod", "staging"):
        (tmp_path / name / "group_vars").mkdir(parents=True)
        (tmp_path / name / "hosts").write_text(f"[worker]\n{name}1\n")
    with pytest.raises(InventoryError) as raised:
        inventory.load(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/prod is an inventory of its own, for it has group_vars: name it, or a file of "
        f"{tmp_path}"
    )


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[worker]\nw1\n")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [host.name for host in inventory.load(tmp_path).hosts] == ["w1"]


def test_programs_in_folders_of_an_inventory_are_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran.txt"
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "cleanup", f"open({str(ran)!r}, 'w').close()")
    (tmp_path / "hosts").write_text("[worker]\nw1\n")
    with pytest.raises(
        InventoryError, match="bin/cleanup: programs in folders of an inventory are"
    ):
        inventory.load(tmp_path)
    assert not ran.exists()


DYNAMIC = """
import json, sys
said = {"worker": {"hosts": ["w1", "w2"], "vars": {"gearman_port": 4731}},
        "eu": {"children": ["worker"]}, "old": ["w9"],
        "_meta": {"hostvars": {"w1": {"ansible_host": "10.0.0.7",
                                      "motd": {"__ansible_unsafe": "{{ x }}"}}}}}
if sys.argv[1:] == ["--list"]:
    if META:
        print(json.dumps(said))
    else:
        del said["_meta"]
        print(json.dumps(said))
elif sys.argv[1] == "--host":
    print(json.dumps({"ansible_host": "10.0.0.7"} if sys.argv[2] == "w1" else {}))
"""


@pytest.mark.parametrize("meta", [True, False])
def test_an_executable_inventory_is_asked(tmp_path: Path, meta: bool) -> None:
    path = program(tmp_path / "cloud.py", f"META = {meta}{DYNAMIC}")
    for each in (path, tmp_path):
        found = inventory.load(each)
        hosts = {host.name: host for host in found.hosts}
        assert list(hosts) == ["w1", "w2"]
        assert hosts["w1"].address == "10.0.0.7"
        assert hosts["w1"].groups == {"worker", "eu"}
        assert {host.variables["gearman_port"] for host in found.hosts} == {4731}
        assert [other.name for other in found.others] == ["w9"]
        assert hosts["w2"].where == f"{path}:1"


def test_a_list_that_is_marked_executable_by_mistake_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {w1: }}\n")
    (tmp_path / "hosts.yml").chmod(0o777)
    assert [host.name for host in inventory.load(tmp_path).hosts] == ["w1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit('no credentials')", "cloud ended with status 1\n  no credentials"),
        ("print('[')", "what it prints is not JSON: Expecting value"),
        ("print('[]')", "what it prints should be a JSON object"),
        ('print(\'{"worker": {"hosts": {}, "vars": [1]}}\')', "worker' should be an object"),
        ('print(\'{"worker": {"hosts": [1]}}\')', "hosts of group 'worker' should be a list"),
        ('print(\'{"_meta": [], "a": []}\')', "_meta should be an object"),
        ('print(\'{"worker": {"hosts": ["w"], "vars": {"gearman_prt": 1}}}\')', "unknown var"),
    ],
)
def test_one_that_fails_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = program(tmp_path / "cloud", text)
    with pytest.raises(InventoryError) as raised:
        inventory.load(path)
    assert str(raised.value).startswith(f"{path}:1: ")
    assert message in str(raised.value)


LISTED = {
    "_meta": {"hostvars": {"w1": {"ansible_port": 2222, "gearman_port": 4731}}},
    "all": {"children": ["ungrouped", "worker"]},
    "worker": {"hosts": ["w1"]},
}


@pytest.mark.parametrize("indent", [None, 4, "\t"])
def test_what_ansible_inventory_printed_is_read(tmp_path: Path, indent: "int | str | None") -> None:
    (tmp_path / "hosts.json").write_text(json.dumps(LISTED, indent=indent))
    (w1,) = inventory.load(tmp_path).hosts
    assert (w1.port, w1.variables["gearman_port"], *w1.groups) == (2222, 4731, "worker")


def test_groups_of_ours_are_known_from_a_list_that_has_them_with_each_host(tmp_path: Path) -> None:
    """As `ansible-inventory --list` prints the variables of all without --export."""
    parts = {"gearman_groups": {"worker": "bild", "job_server": ["queues"]}}
    vars_of = {name: {**parts, "colour": name} for name in ("w1", "q1", "db1")}
    listed = {
        "_meta": {"hostvars": vars_of},
        "all": {"children": ["ungrouped", "bild", "queues", "dbservers"]},
        "bild": {"hosts": ["w1"]},
        "queues": {"hosts": ["q1"]},
        "dbservers": {"hosts": ["db1"]},
    }
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps(listed, indent=1))
    found = inventory.load(tmp_path)
    roles = {host.name: sorted(host.groups & {"worker", "job_server"}) for host in found.hosts}
    assert roles == {"w1": ["worker"], "q1": ["job_server"]}
    assert [other.name for other in found.others] == ["db1"]
    assert found.warnings == ()

    vars_of["q1"]["gearman_groups"] = {"job_server": "dbservers"}
    file.write_text(json.dumps({**listed, "worker": {"hosts": ["q1"]}}, indent=1))
    with pytest.raises(InventoryError, match=r"hosts.json:\d+: gearman_groups is for the whole"):
        inventory.load(tmp_path)


@pytest.mark.slow
def test_it_may_be_piped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "invoke", "--search-root", str(ROOT), "inventory", "--hosts"]
    for text in (
        json.dumps(LISTED),
        "[worker]\nw1 ansible_port=2222\n",
        "worker: {hosts: {'w1:2222': }}",
    ):
        done = subprocess.run(
            [*command, "-"], input=text, capture_output=True, text=True, cwd=tmp_path, check=True
        )
        assert "@w1:2222" in done.stdout
    pipe = f"{' '.join(command)} <(printf '[worker]\\nw1:2222\\n')"
    done = subprocess.run(
        ["bash", "-c", pipe], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "@w1:2222" in done.stdout, done.stderr


def test_a_plugin_is_asked_of_ansible_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts.ini").write_text("[web]\nw1 colour=red\n")
    (tmp_path / "z_constructed.yml").write_text(
        "plugin: constructed\nstrict: true\ngroups: {worker: colour == 'red'}\n"
    )
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("gearman_port: 4731\n")
    tools = tmp_path / ".tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(InventoryError) as raised:
        inventory.load(tmp_path)
    said = str(raised.value).replace(f"{tmp_path}/", "")
    assert said == (
        "z_constructed.yml: it is a configuration of Ansible's constructed, which takes "
        "ansible-core: install it (pipx install ansible-core), or keep as hosts.json what "
        "`ansible-inventory -i hosts.ini -i z_constructed.yml --list --export` prints elsewhere"
    )
    program(
        tools / "ansible-inventory",
        f"import json, sys\nassert sys.argv[1:] == ['-i', {str(tmp_path / 'hosts.ini')!r}, '-i', "
        f"{str(tmp_path / 'z_constructed.yml')!r}, '--list', '--export']\n"
        f"print(json.dumps({LISTED}))",
    )
    (w1,) = inventory.load(tmp_path).hosts
    assert (w1.port, w1.variables["gearman_port"]) == (2222, 4731)
