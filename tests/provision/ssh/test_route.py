"""The way to a host, as an inventory and an ssh_config say it; no host is needed."""

from getpass import getuser
from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory.ssh_args import parse_ssh_arguments
from provision.ssh.route import Route, find_route
from tests.attacks import attack

CONFIG = """\
Host gate
    HostName 10.0.0.1
    Port 2222
    User ana
    IdentityFile {folder}/gate_key
    IdentitiesOnly yes
Host inner
    ProxyJump gate
Host w?
    HostName %h.example.com
    User deploy
    IdentityFile {folder}/absent
    ProxyJump inner
Host piped
    ProxyCommand nc %h %p
"""


def way(folder: Path, config: str = "", **variables: object) -> Route:
    """The way to worker w1, of an inventory with these variables."""
    if config:
        (folder / "gate_key").touch()
        (folder / "config").write_text(config.format(folder=folder))
        variables["gearman_ssh_config"] = "config"
    lines = "".join(f"      {name}: {value}\n" for name, value in variables.items())
    (folder / "hosts.yml").write_text(f"worker:\n  hosts:\n    w1:\n{lines}")
    return find_route(inventory.load(folder).hosts[0])


def shown(route: Route) -> list[str]:
    return [f"{hop.user}@{hop.address}:{hop.port}" for hop in route]


def test_without_jump_hosts_the_way_is_the_host(tmp_path: Path) -> None:
    (host,) = way(tmp_path, ansible_host="10.0.0.9", ansible_user="deploy")
    assert shown((host,)) == ["deploy@10.0.0.9:22"]
    assert (str(host), host.known_as, host.jump) == ("w1", "10.0.0.9", False)


@pytest.mark.parametrize(
    "arguments",
    [
        "-o ProxyJump=ana@gate:2222,inner",
        "-oProxyJump=ana@gate:2222,inner",
        "-o 'ProxyJump ana@gate:2222,inner'",
        "-J ana@gate:2222,inner",
        "-Jana@gate:2222,inner",
    ],
)
def test_jump_hosts_are_gone_through_in_order_each_with_its_own_user_and_port(
    tmp_path: Path, arguments: str
) -> None:
    found = way(tmp_path, ansible_user="deploy", ansible_ssh_common_args=f'"{arguments}"')
    assert shown(found) == ["ana@gate:2222", f"{getuser()}@inner:22", "deploy@w1:22"]
    assert [stop.known_as for stop in found] == ["[gate]:2222", "inner", "w1"]
    assert [str(stop) for stop in found] == ["jump host gate", "jump host inner", "w1"]


def test_a_jump_host_may_have_an_ipv6_address() -> None:
    assert parse_ssh_arguments("-J ana@[fd00::1]:2222,[fd00::2]").jump == (
        "ana@[fd00::1]:2222",
        "[fd00::2]",
    )


@pytest.mark.parametrize(
    "arguments", ["-o HostKeyAlias=x", "-J a b", "-J a:b:c", "-J ,", "-Z", "'"]
)
def test_other_arguments_of_ssh_are_refused_where_they_stand(
    tmp_path: Path, arguments: str
) -> None:
    with pytest.raises(InventoryError, match=r"hosts\.yml:4: ansible_ssh_common_args: "):
        way(tmp_path, ansible_ssh_common_args=f'"{arguments}"')


def test_an_ssh_config_is_read_when_the_inventory_names_it(tmp_path: Path) -> None:
    found = way(tmp_path, CONFIG)
    assert shown(found) == [
        "ana@10.0.0.1:2222",
        f"{getuser()}@inner:22",
        "deploy@w1.example.com:22",
    ]
    gate, _, host = found
    assert (gate.keys, gate.only) == ((tmp_path / "gate_key",), True)
    assert (host.keys, host.only) == ((), False)  # as with ssh: a key that is not there


def test_what_the_inventory_says_wins(tmp_path: Path) -> None:
    found = way(
        tmp_path,
        CONFIG,
        ansible_user="root",
        ansible_port=22022,
        ansible_ssh_private_key_file="key",
        ansible_ssh_common_args="-J none",
    )
    assert shown(found) == ["root@w1.example.com:22022"]
    assert (found[0].keys, found[0].only) == ((tmp_path / "key",), True)


def test_under_host_star_a_jump_host_is_not_reached_through_itself(tmp_path: Path) -> None:
    config = "Host *\n  User u\n  ProxyJump gate\n"
    assert shown(way(tmp_path, config)) == ["u@gate:22", "u@w1:22"]
    assert shown(way(tmp_path, config, ansible_host="gate")) == ["u@gate:22"]


@attack("colleague", "an `ssh_config` that leads elsewhere or runs something", "held")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("Host a\n  User b\nInclude x\n", r"config:3: Include is not supported"),
        ("match user b\n  Port 1\n", r"config:1: match is not supported"),
        ("ProxyCommand nc %h\n", r"proxycommand for 'w1' is not supported; ProxyJump is"),
        ("HostKeyAlias x\n", r"hostkeyalias for 'w1' is not supported"),
        ("Port none\n", r"config: Port none is not a port"),
        ("ProxyJump a:b:c\n", r"config: ProxyJump a:b:c: write \[user@\]host"),
        ("Host w1\n  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump a\n", "in a circle"),
    ],
)
def test_what_would_lead_elsewhere_is_refused(tmp_path: Path, config: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message):
        way(tmp_path, config)


def test_an_ssh_config_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"hosts\.yml:4: gearman_ssh_config: .*No such file"):
        way(tmp_path, gearman_ssh_config="nowhere")
