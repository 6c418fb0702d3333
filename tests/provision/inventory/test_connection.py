"""How a host is reached, from the variables that people's inventories have."""

from getpass import getuser
from pathlib import Path

import pytest
import yaml

from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory.host import Host, Inventory
from provision.inventory.secrets import Secret
from provision.ssh.route import find_route


def read(folder: Path, **variables: object) -> Inventory:
    said = {"worker": {"hosts": {"w1": variables}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(said))
    return inventory.load(folder)


def host(folder: Path, **variables: object) -> Host:
    return read(folder, **variables).hosts[0]


def way(folder: Path, **variables: object) -> list[str]:
    hops = find_route(host(folder, **variables))
    return [f"{hop.user}@{hop.address}:{hop.port}" for hop in hops]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ansible_ssh_host": "a", "ansible_ssh_port": 2, "ansible_ssh_user": "u"}, "u@a:2"),
        ({"ansible_host": "b", "ansible_ssh_host": "a"}, f"{getuser()}@a:22"),
        ({"ansible_port": "2222"}, f"{getuser()}@w1:2222"),
        ({"ansible_user": 1000}, "1000@w1:22"),
        ({"ansible_host": None, "ansible_user": ""}, f"{getuser()}@w1:22"),
        ({"ansible_ssh_common_args": ""}, f"{getuser()}@w1:22"),
        ({"ansible_ssh_extra_args": "-p 2200 -l ana"}, "ana@w1:2200"),
        ({"ansible_ssh_args": "-o Port=2200 -oUser=ana"}, "ana@w1:2200"),
        ({"ansible_ssh_args": "-p 2200", "ansible_port": 22}, f"{getuser()}@w1:22"),
        (
            {"ansible_ssh_args": "-p 1", "ansible_ssh_common_args": "-p 2", "ansible_user": "u"},
            "u@w1:1",
        ),
    ],
)
def test_where_and_who(tmp_path: Path, variables: dict[str, object], expected: str) -> None:
    assert way(tmp_path, **variables) == [expected]


@pytest.mark.parametrize(
    ("arguments", "jumps"),
    [
        ("-J gate", [f"{getuser()}@gate:22"]),
        ("-J none", []),
        ("-o ProxyCommand=none", []),
        ('-o ProxyCommand="ssh -W %h:%p -q ana@gate"', ["ana@gate:22"]),
        ("-o ProxyCommand='ssh -p 2222 -W %h:%p -q user@203.0.113.7'", ["user@203.0.113.7:2222"]),
        ('-o ProxyCommand="ssh -l ana -W [%h]:%p gate.lan"', ["ana@gate.lan:22"]),
        ('-o ProxyCommand="ssh ana@gate nc %h %p"', ["ana@gate:22"]),
        ('-o ProxyCommand="/usr/bin/ssh ana@gate -W %h:%p -o ProxyCommand=none"', ["ana@gate:22"]),
        ('-o ProxyCommand="ssh -o StrictHostKeyChecking=no -A -W %h:%p a@b"', ["a@b:22"]),
        ('-C -o ControlMaster=auto -o ControlPersist=60s -o "ProxyJump a@b"', ["a@b:22"]),
    ],
)
def test_jump_hosts_in_all_their_forms(tmp_path: Path, arguments: str, jumps: list[str]) -> None:
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        found = way(tmp_path, ansible_user="u", **{name: arguments})
        assert found == [*jumps, "u@w1:22"]


def test_the_key_of_a_proxy_command_is_the_jump_host_s(tmp_path: Path) -> None:
    (tmp_path / "gate.pem").touch()
    (tmp_path / "own.pem").touch()
    arguments = '-o ProxyCommand="ssh -i gate.pem -W %h:%p ubuntu@gate"'
    gate, target = find_route(
        host(tmp_path, ansible_ssh_common_args=arguments, ansible_private_key_file="own.pem")
    )
    assert (gate.keys, target.keys) == ((tmp_path / "gate.pem",), (tmp_path / "own.pem",))


def test_files_are_found_from_the_current_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ssh finds them: inventories are in a folder of what they are run from."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "id").touch()
    (tmp_path / "ssh.cfg").write_text("Host w1\n  HostName 10.0.0.7\n")
    monkeypatch.chdir(tmp_path)
    found = host(folder, ansible_ssh_private_key_file="keys/id", ansible_ssh_args="-F ./ssh.cfg")
    assert found.key_file == tmp_path / "keys" / "id"
    assert find_route(found)[-1].address == "10.0.0.7"
    assert host(folder, ansible_ssh_args="-F /dev/null").ssh_config is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('-o ProxyCommand="nc %h %p"', "ProxyCommand 'nc %h %p': only a jump host is supported"),
        ('-o ProxyCommand="aws ssm start-session --target %h"', "only a jump host is supported"),
        ('-o ProxyCommand="ssh gate"', "only a jump host is supported"),
        ("-o HostKeyAlias=x", "HostKeyAlias is not supported: say ansible_host"),
        ("-o hostname=x", "hostname is not supported"),
    ],
)
def test_what_would_lead_elsewhere_is_refused(tmp_path: Path, arguments: str, message: str) -> None:
    with pytest.raises(InventoryError) as raised:
        read(tmp_path, ansible_ssh_extra_args=arguments)
    assert f"{tmp_path}/hosts.yml:4: ansible_ssh_extra_args: " in str(raised.value)
    assert message in str(raised.value)


def test_what_has_no_effect_is_named_by_invoke_inventory(tmp_path: Path) -> None:
    said = {
        "ansible_ssh_args": "-C -o ControlPath=/tmp/%h -o StrictHostKeyChecking=no",
        "ansible_ssh_pass": "hunter2",
    }
    found = read(tmp_path, **said)
    login, arguments = (note.replace(f"{tmp_path}/", "") for note in found.notes)
    assert login == "hosts.yml:5: ansible_ssh_pass is not used: logins are by key only"
    assert arguments == (
        "hosts.yml:4: ansible_ssh_args: without effect here: -C, ControlPath, "
        "StrictHostKeyChecking; host keys are always verified"
    )
    assert found.hosts[0].variables["ansible_ssh_pass"] == Secret("hunter2")


@pytest.mark.parametrize(
    "name", ["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"]
)
def test_the_password_for_sudo_has_three_names(tmp_path: Path, name: str) -> None:
    found = host(tmp_path, **{name: "open sesame"})
    assert found.variables["ansible_become_password"] == Secret("open sesame")
    assert "sesame" not in repr(found)


@pytest.mark.parametrize("value", ["yes", "true", "True", "on", "1", 1, True])
def test_become_is_said_in_many_words(tmp_path: Path, value: object) -> None:
    assert host(tmp_path, ansible_become=value).become is True


@pytest.mark.parametrize("value", ["no", "False", "0", "off", False])
def test_and_so_is_the_contrary(tmp_path: Path, value: object) -> None:
    assert host(tmp_path, ansible_become=value).become is False


@pytest.mark.parametrize(
    ("name", "value", "supported"),
    [
        ("ansible_connection", "ssh", True),
        ("ansible_connection", "ansible.builtin.ssh", True),
        ("ansible_connection", "smart", True),
        ("ansible_connection", "docker", False),
        ("ansible_become_method", "sudo", True),
        ("ansible_become_method", "ansible.builtin.sudo", True),
        ("ansible_become_method", "community.general.doas", False),
        ("ansible_become_method", "su", False),
        ("ansible_become_user", "root", True),
        ("ansible_become_user", "postgres", False),
    ],
)
def test_what_is_not_supported_is_a_clear_no(
    tmp_path: Path, name: str, value: str, supported: bool
) -> None:
    if supported:
        host(tmp_path, **{name: value})
        return
    with pytest.raises(InventoryError) as raised:
        host(tmp_path, **{name: value})
    bare = value.rpartition(".")[2]
    assert f"hosts.yml:4: {name}: only " in str(raised.value)
    assert f"is supported, and not '{bare}': " in str(raised.value)


@pytest.mark.parametrize(
    ("written", "python"),
    [
        ("/usr/bin/python3.11", "/usr/bin/python3.11"),
        ("/opt/py/bin/python", "/opt/py/bin/python"),
        ("/usr/bin/env python3", "python3"),
        ("python3.12", "python3.12"),
        ("auto_silent", "/usr/bin/python3"),
        ("auto", "/usr/bin/python3"),
    ],
)
def test_the_python_may_be_any(tmp_path: Path, written: str, python: str) -> None:
    assert host(tmp_path, ansible_python_interpreter=written).python == python


@pytest.mark.parametrize("written", ["python3 -E", "./python", "/bin/python;reboot$x", "ruby"])
def test_but_a_program_and_nothing_else(tmp_path: Path, written: str) -> None:
    with pytest.raises(InventoryError, match=r"hosts\.yml:4: ansible_python_interpreter should be"):
        host(tmp_path, ansible_python_interpreter=written)


def test_variables_of_other_software_are_let_be(tmp_path: Path) -> None:
    others: dict[str, object] = {
        "packages": {"nginx": "latest"},
        "ssh_config": ["Host *"],
        "package": "curl",
        "ansible_winrm_transport": "kerberos",
        "ansible_network_os": "ios",
        "ansible_hots": "typo of someone else's",
        "ansible_become_flags": "-H -S -n",
        "environment": {"http_proxy": "http://proxy:3128"},
        "workers": 4,
        "gearman": {"port": 1},
        "my-var": 1,
    }
    found = read(tmp_path, **others)
    assert found.warnings == () and found.notes == ()
    assert {name: found.hosts[0].variables[name] for name in others} == others
