"""SSH to real hosts: what it costs, whom it trusts, and what a person reads when it fails."""

import hashlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread, Timer
from types import ModuleType

import pytest

from provision.errors import InventoryError, Locked, ToolkitError, Unreachable
from provision.fleet import pool as hosts
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.remote import session
from provision.remote.handshake import START_TIMEOUT
from provision.remote.messages import Operation
from provision.ssh import connection as transport
from provision.ssh import stream as line
from tests.attacks import attack
from tests.lab.hosts import CLIENT, INVENTORY, NETWORK, PASSWORD, root, sudo_user

ADDRESS = CLIENT
CAREFUL = sudo_user("careful")


@pytest.fixture(autouse=True)
def folder(keyless_folder: Path) -> Path:
    return keyless_folder


def client(folder: Path, **variables: object) -> Host:
    """The lab's client, as an inventory with these variables has it."""
    values: dict[str, object] = {"ansible_host": ADDRESS, "ansible_user": "deploy"}
    values |= {"ansible_ssh_private_key_file": "id_ed25519", **variables}
    lines = "".join(f"      {name}: {value}\n" for name, value in values.items())
    (folder / "hosts.yml").write_text(f"client:\n  hosts:\n    client1:\n{lines}")
    return inventory.load(folder).hosts[0]


def complaint(host: Host) -> str:
    with pytest.raises(ToolkitError) as raised:
        hosts.connect(host).close()
    return str(raised.value)


def counts(lab: ModuleType) -> tuple[int, int, int]:
    sshd, sudo = "\n".join(lab.journal("client1")), "\n".join(lab.journal("client1", "-t", "sudo"))
    return (
        sshd.count("Connection from"),
        sshd.count("server_input_channel_open: ctype"),
        sudo.count("COMMAND="),
    )


def logins(lab: ModuleType) -> int:
    return "\n".join(lab.journal("client1")).count("userauth-request for user")


# -- what it costs ----------------------------------------------------------------------


# Whatever of it runs leaves a file that tells as whom.
TRAPS = r"""
cd ~deploy && mkdir -p traps .local/lib/python3.11/site-packages
for name in python3 systemctl setpriv dpkg-query; do
    printf '#!/bin/sh\n> /tmp/trapped-$(id -u)\nexec /usr/bin/%s "$@"\n' $name > traps/$name
done
chmod 755 traps/*
trap="import os; open('/tmp/trapped-%d' % os.getuid(), 'w')"
for name in sitecustomize.py usercustomize.py json.py x.pth; do
    echo "$trap" | tee traps/$name > .local/lib/python3.11/site-packages/$name
done
cp .bashrc bashrc.before
{ echo 'export PATH=/home/deploy/traps:$PATH PYTHONPATH=/home/deploy/traps'
  cat bashrc.before; } > .bashrc
chown -R deploy: .
"""


@attack(
    "user who logs in",
    "programs, modules, `.pth` and `sitecustomize` on their `PATH`, `PYTHONPATH` and in "
    "`~/.local`, to be run by root",
    "held",
)
def test_a_session_is_one_connection_one_channel_and_one_sudo(
    lab: ModuleType, folder: Path
) -> None:
    """And root runs nothing of what the user who logs in has on their paths."""
    root(lab, "client1", TRAPS)
    try:
        before = counts(lab)
        with hosts.connect(client(folder)) as opened:
            for _ in range(3):
                assert opened.ask([("user", "root")])["user", "root"]["uid"] == 0
            opened.lock(hosts.lock_holder())
        assert tuple(now - then for now, then in zip(counts(lab), before, strict=True)) == (1, 1, 1)
        spring = "runuser -u deploy -- sh -c '. ~deploy/.bashrc; python3 -c 1'; ls /tmp"
        left = root(lab, "client1", spring).split()
        assert "trapped-1000" in left, "the traps work"
        assert "trapped-0" not in left
    finally:
        tidy = "cd ~deploy; mv bashrc.before .bashrc; rm -rf traps .local /tmp/trapped-*"
        root(lab, "client1", tidy)


# What an agent leaves that was killed in a trial: one unit runs, one has failed.
LEFT_ON_TRIAL = r"""
systemd-run --quiet --unit=gearman-trial-left-1 sleep 600
systemd-run --quiet --unit=gearman-trial-left-2 false
until systemctl is-failed --quiet gearman-trial-left-2; do :; done
mkdir /run/gearman-trial-left
"""


def test_who_locks_ends_what_was_left_on_trial(lab: ModuleType, folder: Path) -> None:
    root(lab, "client1", LEFT_ON_TRIAL)
    with hosts.connect(client(folder)) as opened:
        opened.lock(hosts.lock_holder())
    units = "systemctl list-units --all --no-legend 'gearman-trial*'"
    assert root(lab, "client1", f"{units}; ls /run | grep gearman-trial || true") == ""


def test_what_is_sent_arrives_whole_as_root_s(lab: ModuleType, folder: Path) -> None:
    big = folder / "big"
    big.write_bytes(bytes(range(256)) * 120_000)
    digest = hashlib.sha256(big.read_bytes()).hexdigest()
    path = "/root/big"
    attributes = {"path": path, "owner": "root", "group": "root", "mode": "0600"}
    with hosts.connect(client(folder)) as opened:
        opened.lock(hosts.lock_holder())
        (outcome,) = opened.apply([Operation("file", attributes, big)])
        assert outcome.error is None
        question = ("path", path, digest, "")
        assert opened.ask([question])[question]["digest"] == digest
        list(opened.apply([Operation("remove", {"path": path})]))
        assert opened.ask([question])[question] is None


def test_a_command_runs_as_the_ordinary_user_with_bytes_in_and_out(folder: Path) -> None:
    with transport.connect(client(folder)) as connection:
        done = connection.run("cat; id -un >&2; exit 3", bytes(range(256)) * 10_000)
        assert (done.status, done.stdout) == (3, bytes(range(256)) * 10_000)
        assert done.stderr == b"deploy\n"
        assert connection.run(["echo", "a  b"]).stdout == b"a  b\n"
        with pytest.raises(ToolkitError, match=r"`yes` said more than 64 MiB"):
            connection.run("yes")
        with pytest.raises(ToolkitError, match=r"`yes >&2` said more than 64 MiB"):
            connection.run("yes >&2")
        with pytest.raises(ToolkitError, match=r"`sleep 9` did not end within 0\.2 s"):
            connection.run("sleep 9", seconds=0.2)


# -- whom it trusts ---------------------------------------------------------------------


@attack(
    "in the middle",
    "an unknown or another host key, also one after `@cert-authority`, which is not read",
    "held",
)
def test_an_unknown_host_key_is_refused_with_its_fingerprint(lab: ModuleType, folder: Path) -> None:
    known = folder / "known_hosts"
    ours = (line for line in known.read_text().splitlines() if not line.startswith("#"))
    known.write_text("".join(f"@cert-authority {line}\n" for line in ours))  # trusts no plain key
    asked = logins(lab)
    lines = complaint(client(folder)).splitlines()
    assert logins(lab) == asked  # nobody tried to log in
    shown = lab.run("client1", ["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    assert lines[0] == f"client1: its host key is not known: ed25519 {shown.split()[1]}"
    assert lines[-1] == f"  ./invoke trust --hosts {folder} --limit client1"


@attack(
    "in the middle",
    "an unknown or another host key, also one after `@cert-authority`, which is not read",
    "held",
)
def test_a_changed_host_key_is_refused_with_the_line_of_the_old_one(folder: Path) -> None:
    known = folder / "known_hosts"
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", folder / "other"], check=True)
    kind, key = (folder / "other.pub").read_text().split()[:2]
    known.write_text(f"# ours\n{ADDRESS} {kind} {key}\n")
    message = complaint(client(folder))
    assert message.startswith("client1: its host key has changed: it shows SHA256:")
    assert f"and {known}:2 has SHA256:" in message
    assert f"./invoke trust --hosts {folder} --limit client1 --replace client1" in message


@attack("in the middle", "a revoked key; hashed names; lines that make no sense", "held")
def test_hashed_names_count_and_lines_that_make_no_sense_do_not(folder: Path) -> None:
    known = folder / "known_hosts"
    subprocess.run(["ssh-keygen", "-qHf", known], check=True, capture_output=True)
    known.write_text(f"@cert-authority * x\n{ADDRESS} ssh-ed25519 nonsense\n" + known.read_text())
    assert ADDRESS not in known.read_text().splitlines()[2]
    hosts.connect(client(folder)).close()


def test_the_user_s_known_hosts_serve_for_who_is_not_in_the_inventory_s(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (folder / "known_hosts").rename(tmp_path / "home" / ".ssh" / "known_hosts")
    hosts.connect(client(folder)).close()


@attack("in the middle", "a revoked key; hashed names; lines that make no sense", "held")
def test_a_revoked_host_key_is_refused(folder: Path) -> None:
    known = folder / "known_hosts"
    lines = known.read_text().splitlines()
    revoked = [f"@revoked {line}" for line in lines if not line.startswith("#")]
    known.write_text("\n".join([*lines, *revoked]))
    message = complaint(client(folder))
    assert "is revoked (" in message
    assert f"{known}:" in message


# -- what a person reads ----------------------------------------------------------------


def test_a_port_where_nobody_listens(folder: Path) -> None:
    assert complaint(client(folder, ansible_port=2)) == (
        f"client1: {ADDRESS}:2 refused the connection; is sshd listening there? "
        f"(ansible_port, {folder}/hosts.yml:7)"
    )


def test_an_address_where_nobody_is(folder: Path) -> None:
    message = complaint(client(folder, ansible_host=f"{NETWORK}.99"))
    assert message == (
        f"client1: no route to {NETWORK}.99:22 from here: is it up, and is this its address?"
    )


def test_a_name_that_nobody_has(folder: Path) -> None:
    assert complaint(client(folder, ansible_host="wrk1.invalid")) == (
        f"client1: cannot resolve 'wrk1.invalid' (ansible_host, {folder}/hosts.yml:4)"
    )


def test_somebody_who_does_not_speak_ssh(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        Thread(target=answer).start()
        port = server.getsockname()[1]
        message = complaint(client(folder, ansible_host="127.0.0.1", ansible_port=port))
    assert message.startswith(f"client1: 127.0.0.1:{port} answers, and not as an SSH server should")


def test_a_key_that_is_not_let_in(folder: Path) -> None:
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", folder / "other"], check=True)
    message = complaint(client(folder, ansible_ssh_private_key_file="other"))
    assert message.startswith(f"client1: 'deploy' was refused; offered: {folder}/other (SHA256:")
    assert message.endswith(f"; try ssh -p 22 deploy@{ADDRESS}")


def test_a_key_file_that_cannot_be_used(folder: Path) -> None:
    place = f"{folder}/hosts.yml:6: ansible_ssh_private_key_file: {folder}"
    name = "ansible_ssh_private_key_file"
    assert complaint(client(folder, **{name: "absent"})) == (
        f"{place}/absent: No such file or directory"
    )
    assert complaint(client(folder, **{name: "known_hosts"})) == (
        f"{place}/known_hosts is not a private key"
    )
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "words", "-f", folder / "x"], check=True)
    assert complaint(client(folder, **{name: "x"})) == (
        f"{place}/x has a passphrase: ssh-add it first"
    )


@pytest.fixture(scope="module")
def _careful(lab: ModuleType) -> Iterator[None]:
    """A user on the client who has to tell sudo a password."""
    assert lab.run("client1", ["sh", "-c", CAREFUL]).returncode == 0
    yield
    lab.run("client1", ["sh", "-c", "userdel -r careful; rm /etc/sudoers.d/careful"])


@pytest.mark.usefixtures("_careful")
def test_the_sudo_password_is_given_only_when_asked_for(
    lab: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = client(folder, ansible_user="careful")
    assert complaint(careful) == (
        "client1: sudo asks for a password, and there is none: set GEARMAN_SUDO_PASSWORD, "
        "or run this at a terminal"
    )
    monkeypatch.setenv("GEARMAN_SUDO_PASSWORD", PASSWORD)
    with hosts.connect(careful) as opened:
        assert opened.ask([("user", "root")])["user", "root"]["uid"] == 0
    hosts.connect(client(folder)).close()  # sudo asks this user for none
    assert PASSWORD not in "\n".join(lab.journal("client1", "--boot"))


@pytest.mark.usefixtures("_careful")
def test_a_wrong_sudo_password_is_tried_once(folder: Path) -> None:
    start = time.monotonic()
    careful = client(folder, ansible_user="careful", ansible_become_password="wrong")  # noqa: S106  # it is wrong
    assert complaint(careful) == "client1: sudo refused the password: it was tried once"
    assert time.monotonic() - start < START_TIMEOUT, "sudo was not waited for"


@pytest.mark.usefixtures("_careful")
def test_a_user_who_may_not_become_root(lab: ModuleType, folder: Path) -> None:
    careful = client(folder, ansible_user="careful", ansible_become_password=repr(PASSWORD))
    lab.run("client1", ["mv", "/etc/sudoers.d/careful", "/root/careful"])
    try:
        message = complaint(careful)
    finally:
        lab.run("client1", ["mv", "/root/careful", "/etc/sudoers.d/careful"])
    assert message.startswith("client1: sudo does not let this user become root; the host said:")


# -- a link that dies -------------------------------------------------------------------


def test_a_dead_link_frees_the_lock_and_is_told(
    lab: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PING_INTERVAL", 0.5)
    monkeypatch.setattr(session, "SILENCE_TIMEOUT", 3.0)
    monkeypatch.setattr(line, "KEEPALIVE_INTERVAL", 1)
    monkeypatch.setattr(line, "KEEPALIVE_TIMEOUT", 2.0)
    with hosts.connect(client(folder)) as lost:
        lost.lock({"who": "ana@laptop"})
        lab.unplug("client1")
        try:
            with pytest.raises(Unreachable, match="client1: the connection was lost"):
                lost.ask([("host",)])
        finally:
            lab.plug("client1")
    with hosts.connect(client(folder)) as next_one:
        deadline = time.monotonic() + 10
        while True:
            try:
                next_one.lock(hosts.lock_holder())
                break
            except Locked:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_a_link_that_dies_while_much_is_sent_is_told(
    lab: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "KEEPALIVE_INTERVAL", 1)
    monkeypatch.setattr(line, "KEEPALIVE_TIMEOUT", 2.0)
    with transport.connect(client(folder)) as connection:
        unplug = Timer(0.3, lab.unplug, ["client1"])
        unplug.start()
        try:
            with pytest.raises(Unreachable, match="client1: the connection was lost"):
                connection.run("cat > /dev/null; sleep 30", bytes(1 << 28))
        finally:
            unplug.join()
            lab.plug("client1")


def test_every_host_gets_its_result_or_its_error(lab: ModuleType) -> None:
    known = inventory.load(INVENTORY).hosts
    results = dict(
        hosts.run_on_each(known, lambda host: _ask(host) if host.name != "worker1" else _no())
    )
    assert {host.name: str(result) for host, result in results.items()} == {
        **{host.name: host.name for host in known},
        "worker1": "no",
    }


def _ask(host: Host) -> str:
    with hosts.connect(host) as opened:
        return str(opened.ask([("host",)])["host",]["hostname"])


def _no() -> str:
    raise InventoryError("no")
