"""A fleet that speaks TLS: one variable turns it on, and nobody else is let in."""

import contextlib
import re
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, GearmanError
from gearman_py.protocol.packets import Packet
from provision.commands.smoke import smoke
from provision.doctor.doctor import doctor
from provision.fleet import begin, deploy
from provision.options import Options
from roles import ROLES
from tests.attacks import attack
from tests.lab.hosts import INVENTORY, NETWORK, WORKER, root
from tests.lab.test_upgrade import invoke, tree
from tests.peer import Peer
from tests.waiting import await_true

ROOT = Path(__file__).resolve().parents[2]
SERVER = (f"{NETWORK}.247", 4730)
HOSTS = ("client1", "server1", "worker1")
YES = Options(yes=True)
KEY = "/etc/gearman/tls/host.key"


def inventory(folder: Path, **variables: object) -> Path:
    """The lab's inventory with these variables for all."""
    shutil.copytree(INVENTORY, folder)
    (folder / "group_vars").mkdir()
    more = "".join(f"{name}: {str(value).lower()}\n" for name, value in variables.items())
    (folder / "group_vars" / "all.yml").write_text(more)
    return folder


@pytest.fixture(scope="module")
def secured(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = inventory(tmp_path_factory.mktemp("tls") / "lab", gearman_tls=True)
    assert deploy.plan(folder, ROLES) == begin.CHANGES_PENDING
    assert not (folder / "tls").exists(), "a plan writes nothing"
    assert deploy.deploy(folder, ROLES, YES) == 0
    yield folder
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0
    assert smoke(INVENTORY) == 0


def shown(folder: Path, files: Path) -> bytes:
    """The certificate that the job server shows to who has one himself."""
    context = ssl.create_default_context(cafile=str(folder / "tls" / "ca.pem"))
    context.load_cert_chain(files / "host.pem", files / "host.key")
    with (
        socket.create_connection(SERVER, 10) as plain,
        context.wrap_socket(plain, server_hostname=SERVER[0]) as peer,
    ):
        return peer.getpeercert(binary_form=True) or b""


def worker_s_own(lab: ModuleType, folder: Path) -> Path:
    """The files of worker1, for use here."""
    folder.mkdir()
    for name in ("host.pem", "host.key"):
        (folder / name).write_text(root(lab, "worker1", f"cat /etc/gearman/tls/{name}"))
    return folder


def test_jobs_are_done_and_a_second_deploy_changes_nothing(
    secured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smoke(secured) == 0
    assert deploy.deploy(secured, ROLES, YES) == 0
    assert "3 ok; nothing to change" in capsys.readouterr().out


def test_who_has_no_certificate_is_not_served(lab: ModuleType, secured: Path) -> None:
    with (
        Client(f"{SERVER[0]}:{SERVER[1]}", submit_timeout=5) as client,
        pytest.raises(GearmanError),
    ):
        client.submit("wc", background=True)
    # Who may log in to the client host may not for that submit jobs.
    other = "su -s /bin/sh nobody -c \"sh -lc 'gearman -f wc < /etc/passwd'\" 2>&1 || true"
    assert f"{KEY}: Permission denied" in root(lab, "client1", other)


@attack("local user", "keys of TLS", "held")
def test_no_key_is_seen_anywhere(
    lab: ModuleType, secured: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = [root(lab, host, f"cat {KEY}") for host in HOSTS]
    keys.append((secured / "tls" / "ca.key").read_text())
    secrets = [line for key in keys for line in key.splitlines() if len(line) > 60]
    assert len(secrets) >= len(keys)
    assert (secured / "tls" / "ca.key").stat().st_mode & 0o777 == 0o600
    for host in HOSTS:
        root(lab, host, f"rm {KEY}")
    everything = Options(yes=True, verbose=True)
    assert deploy.deploy(secured, ROLES, everything) == 0
    assert deploy.deploy(secured, ROLES, Options(yes=True, json=True)) == 0
    said = "".join(capfd.readouterr())
    said += "".join(line for host in HOSTS for line in lab.journal(host))
    secrets += [line for host in HOSTS for line in root(lab, host, f"cat {KEY}").splitlines()]
    assert [secret for secret in secrets if len(secret) > 60 and secret in said] == []
    assert "PRIVATE" not in said


@pytest.mark.parametrize(
    ("tamper", "planned"),
    [
        (f"chmod 644 {KEY}", rf"~ file {KEY}  \(mode 0644 -> 0640\)"),
        (f"echo >> {KEY}", r"~ certificate .*  \(its key is a different one\)"),
        ("echo x > /etc/gearman/tls/host.pem", r"\(no certificate of the authority\)"),
        ("rm -r /etc/gearman", rf"\+ certificate .*  \(for worker1, {WORKER}, 90 days\)"),
    ],
)
def test_what_is_changed_by_hand_is_mended(
    lab: ModuleType,
    secured: Path,
    capsys: pytest.CaptureFixture[str],
    tamper: str,
    planned: str,
) -> None:
    root(lab, "worker1", tamper)
    assert deploy.deploy(secured, ROLES, YES) == 0
    assert re.search(planned, capsys.readouterr().out)
    assert deploy.plan(secured, ROLES) == 0


def test_a_certificate_is_renewed_before_it_ends_and_nothing_is_restarted(
    lab: ModuleType, secured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = worker_s_own(lab, tmp_path / "files")
    before = shown(secured, files)
    pid = root(lab, "server1", "systemctl show -P MainPID gearmand")
    variables = secured / "group_vars" / "all.yml"
    said = variables.read_text()
    variables.write_text(f"{said}gearman_certificate_days: 400\n")
    try:
        assert deploy.deploy(secured, ROLES, YES) == 0
        assert "(it ends in 89 days)" in capsys.readouterr().out
        await_true(lambda: shown(secured, files) != before)
        assert root(lab, "server1", "systemctl show -P MainPID gearmand") == pid
        assert smoke(secured) == 0
    finally:
        variables.write_text(said)


def test_a_job_server_is_upgraded_under_its_connections(
    lab: ModuleType, secured: Path, tmp_path: Path
) -> None:
    """And rolled back. systemd follows the new process, and stops those that relay with it."""
    files = worker_s_own(lab, tmp_path / "files")
    context = ssl.create_default_context(cafile=str(secured / "tls" / "ca.pem"))
    context.load_cert_chain(files / "host.pem", files / "host.key")
    with contextlib.ExitStack() as opened:
        client, worker = Peer(SERVER), Peer(SERVER)
        for peer in (client, worker):
            peer.socket = context.wrap_socket(peer.socket, server_hostname=SERVER[0])
            opened.enter_context(peer.socket)
        worker.say(Packet.CAN_DO, b"held")
        _, handle = client.ask(Packet.SUBMIT_JOB, b"held", b"", b"w")
        assert worker.ask(Packet.GRAB_JOB)[1] == handle
        pids = [main_process(lab)]
        another_release = tree(tmp_path / "tree")
        for task in ("upgrade", "rollback"):
            done = invoke(another_release, task, "--yes", "--limit", "job_server", hosts=secured)
            assert done.status == 0, done.said
            pids.append(main_process(lab))
        assert len(set(pids)) == 3
        watched = "systemctl show -P WatchdogTimestampMonotonic gearmand"
        before = root(lab, "server1", watched)
        await_true(lambda: root(lab, "server1", watched) != before, interval=0.5)
        worker.say(Packet.WORK_COMPLETE, handle, b"r")
        assert client.hear() == ("WORK_COMPLETE", handle, b"r")
        assert main_process(lab) == pids[-1]
        assert root(lab, "server1", "systemctl show -P NRestarts gearmand") == "0\n"
        assert "gearman-relay" in root(lab, "server1", f"cat /proc/{pids[0].strip()}/comm")
        assert smoke(secured) == 0
        root(lab, "server1", "systemctl restart gearmand")
        assert client.closed()
        assert worker.closed()
    assert root(lab, "server1", f"ls -d /proc/{pids[0].strip()} || echo none") == "none\n"
    assert smoke(secured) == 0


def main_process(lab: ModuleType) -> str:
    return root(lab, "server1", "systemctl show -P MainPID gearmand")


def test_another_authority_takes_the_place_of_one_that_is_lost(
    lab: ModuleType, secured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = inventory(tmp_path / "lab", gearman_tls=True)
    assert deploy.deploy(folder, ROLES, YES) == 0
    assert "(of another authority)" in capsys.readouterr().out
    assert smoke(folder) == 0
    assert deploy.plan(folder, ROLES) == 0
    assert deploy.deploy(secured, ROLES, YES) == 0


def test_doctor_speaks_it_too(secured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(secured, ROLES, Options()) == 0
    said = capsys.readouterr().out
    assert f"gearmans://{NETWORK}.247:4730 answers" in said
    assert said.count("/etc/gearman/tls/host.pem is good") == 3
