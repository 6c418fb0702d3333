"""Jump hosts, the lab's own: each verified as a target is, and shared by all behind it."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from provision.errors import ToolkitError, Unreachable
from provision.fleet import pool as hosts
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.remote.session import ANSWER_TIMEOUT, Session
from provision.ssh import stream as line
from tests.attacks import attack
from tests.lab.hosts import CLIENT, SERVER, WORKER

GATE = f"-J deploy@{CLIENT}"
HOPPER = """
useradd --create-home hopper
install -d -o hopper -m 700 ~hopper/.ssh
sed 's/^/restrict /' ~deploy/.ssh/authorized_keys > ~hopper/.ssh/authorized_keys
"""


@pytest.fixture(autouse=True)
def folder(keyless_folder: Path) -> Path:
    return keyless_folder


def behind(
    folder: Path, gate: str = GATE, names: Sequence[str] = ("worker1",), **variables: object
) -> tuple[Host, ...]:
    """The lab's worker, under these names, behind a jump host."""
    values: dict[str, object] = {"ansible_host": WORKER, "ansible_user": "deploy"}
    values |= {"ansible_ssh_private_key_file": "id_ed25519", "ansible_ssh_common_args": gate}
    lines = "".join(f"    {name}: {value}\n" for name, value in (values | variables).items())
    members = "".join(f"    {name}:\n" for name in names)
    (folder / "hosts.yml").write_text(f"worker:\n  vars:\n{lines}  hosts:\n{members}")
    return inventory.load(folder).hosts


def hostname(session: Session) -> str:
    return str(session.ask([("host",)])["host",]["hostname"])


def complaint(host: Host) -> str:
    with pytest.raises(ToolkitError) as raised:
        hosts.connect(host).close()
    return str(raised.value)


def connections(lab: ModuleType, host: str) -> list[str]:
    """Where sshd there was connected to from, each time."""
    said: list[str] = lab.journal(host)
    return [entry.split()[entry.split().index("from") + 1] for entry in said if _is_new(entry)]


def _is_new(entry: str) -> bool:
    return "Connection from" in entry


# -- the way ----------------------------------------------------------------------------


def test_a_host_is_reached_through_its_jump_hosts(lab: ModuleType, folder: Path) -> None:
    before = len(connections(lab, "worker1"))
    (host,) = behind(folder, f"{GATE},deploy@{SERVER}")
    with hosts.connect(host) as session:
        assert hostname(session) == "worker1"
    assert connections(lab, "worker1")[before:] == [SERVER]
    assert connections(lab, "server1")[-1] == CLIENT


def test_all_hosts_behind_a_jump_host_share_one_connection_to_it(
    lab: ModuleType, folder: Path
) -> None:
    names = [f"w{number:02}" for number in range(24)]
    before = len(connections(lab, "client1")), len(connections(lab, "worker1"))
    # Of more than 10 that are not logged in yet, sshd refuses some by chance (MaxStartups).
    opened = dict(hosts.run_on_each(behind(folder, names=names), hosts.connect, parallel=8))
    sessions = [each for each in opened.values() if isinstance(each, Session)]
    assert len(sessions) == len(names), opened
    assert {hostname(session) for session in sessions} == {"worker1"}
    assert len(connections(lab, "client1")) == before[0] + 1
    assert len(connections(lab, "worker1")) == before[1] + len(names)
    for session in sessions:
        session.close()
    deadline = time.monotonic() + 10
    while established(lab, "client1"):  # closed with the last of them
        assert time.monotonic() < deadline
        time.sleep(0.05)


def established(lab: ModuleType, host: str) -> str:
    return str(lab.run(host, ["ss", "-Htn", "state", "established", "sport", "=", ":22"]).stdout)


def test_an_ssh_config_leads_there_too(folder: Path) -> None:
    config = f"""
        Host gate
            HostName {CLIENT}
        Host behind
            HostName {WORKER}
            ProxyJump gate
        Host *
            User deploy
            IdentityFile {folder}/id_ed25519
    """
    (folder / "config").write_text(config)
    (folder / "hosts.yml").write_text(
        "worker:\n  hosts:\n    w1: {ansible_host: behind, gearman_ssh_config: config}\n"
    )
    with hosts.connect(inventory.load(folder).hosts[0]) as session:
        assert hostname(session) == "worker1"


# -- whom it trusts ---------------------------------------------------------------------


def forget(folder: Path, address: str) -> None:
    known = folder / "known_hosts"
    lines = known.read_text().splitlines()
    known.write_text("".join(f"{each}\n" for each in lines if address not in each))


def test_a_jump_host_whose_key_is_not_known_is_not_gone_through(
    lab: ModuleType, folder: Path
) -> None:
    forget(folder, CLIENT)
    before = connections(lab, "worker1"), len(lab.journal("client1", "-g", "Accepted publickey"))
    message = complaint(behind(folder)[0])
    assert message.startswith(
        f"worker1: jump host {CLIENT}: its host key is not known: ed25519 SHA256:"
    )
    assert message.splitlines()[-1] == f"  ./invoke trust --hosts {folder}"
    assert connections(lab, "worker1") == before[0]
    assert len(lab.journal("client1", "-g", "Accepted publickey")) == before[1]


@attack("in the middle", "another key of a jump host, or of a host behind it", "held")
def test_a_jump_host_whose_key_has_changed_is_not_gone_through(folder: Path) -> None:
    known = folder / "known_hosts"
    known.write_text(known.read_text().replace(CLIENT, "x").replace(SERVER, CLIENT))
    message = complaint(behind(folder)[0])
    assert message.startswith(f"worker1: jump host {CLIENT}: its host key has changed: it shows")
    assert f"./invoke trust --hosts {folder} --replace {CLIENT}\n" in message


@attack("in the middle", "another key of a jump host, or of a host behind it", "held")
def test_a_host_behind_is_verified_as_any_other(folder: Path) -> None:
    forget(folder, WORKER)
    message = complaint(behind(folder)[0])
    assert message.startswith("worker1: its host key is not known: ed25519 SHA256:")


# -- what a person reads ----------------------------------------------------------------


def test_a_jump_host_that_does_not_answer_is_told_to_all_behind_it(folder: Path) -> None:
    known = behind(folder, f"-J deploy@{CLIENT}:2", names=("w1", "w2", "w3"))
    told = dict(hosts.run_on_each(known, hosts.connect))
    assert {host.name: str(error) for host, error in told.items()} == {
        name: f"{name}: jump host {CLIENT}: {CLIENT}:2 refused the connection; is sshd listening "
        f"there? (ansible_ssh_common_args, {folder}/hosts.yml:6)"
        for name in ("w1", "w2", "w3")
    }


def test_a_host_behind_that_is_not_there(folder: Path) -> None:
    (host,) = behind(folder, ansible_port=2)
    assert complaint(host) == (
        f"worker1: jump host {CLIENT} finds no way to {WORKER}:2: is it up, is sshd listening "
        f"there, and is this its address? (ansible_host, {folder}/hosts.yml:3)"
    )


@pytest.fixture(scope="module")
def _hopper(lab: ModuleType) -> Iterator[None]:
    """A user on the client whose key may not go on from there."""
    assert lab.run("client1", ["sh", "-c", HOPPER]).returncode == 0
    yield
    lab.run("client1", ["userdel", "-r", "hopper"])


@pytest.mark.usefixtures("_hopper")
def test_a_jump_host_that_lets_nobody_go_on(folder: Path) -> None:
    (host,) = behind(folder, f"-J hopper@{CLIENT}")
    assert complaint(host).startswith(
        f"worker1: jump host {CLIENT} does not forward to {WORKER}:22: look at AllowTcpForwarding"
    )


def test_a_user_whom_the_jump_host_refuses_is_named(folder: Path) -> None:
    (host,) = behind(folder, f"-J nobody-here@{CLIENT}")
    message = complaint(host)
    assert message.startswith(f"worker1: jump host {CLIENT}: 'nobody-here' was refused; offered: ")
    assert message.endswith(f"; try ssh -p 22 nobody-here@{CLIENT}")


# -- a link that dies -------------------------------------------------------------------


@pytest.mark.parametrize("dead", ["client1", "worker1"])
def test_a_dead_link_is_noticed_on_either_side_of_the_jump_host(
    lab: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    monkeypatch.setattr(line, "KEEPALIVE_INTERVAL", 1)
    monkeypatch.setattr(line, "KEEPALIVE_TIMEOUT", 2.0)
    with hosts.connect(behind(folder)[0]) as session:
        assert hostname(session) == "worker1"
        lab.unplug(dead)
        try:
            started = time.monotonic()
            with pytest.raises(Unreachable, match="worker1: the connection was lost"):
                hostname(session)
            assert time.monotonic() - started < ANSWER_TIMEOUT, "it is not an answer that was late"
        finally:
            lab.plug(dead)


def test_the_next_one_through_a_jump_host_that_was_lost_opens_it_anew(
    lab: ModuleType, folder: Path
) -> None:
    one, other = behind(folder, names=("w1", "w2"))
    with hosts.connect(one) as first:
        lab.run("client1", ["pkill", "-f", "sshd: deploy"])
        with pytest.raises(ToolkitError, match="w1: "):
            while True:
                hostname(first)
        with hosts.connect(other) as second:
            assert hostname(second) == "worker1"
