"""Who is let in: keys of a real agent, keys with a passphrase, and sudo at a real terminal."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.errors import ToolkitError
from provision.fleet import pool as hosts
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.remote.handshake import START_TIMEOUT
from tests.lab.hosts import PASSWORD, sudo_user

ROOT = Path(__file__).resolve().parents[2]
THREE = ("client1", "server1", "worker1")
WORDS = "four words of mine"
LOOK = (sys.executable, "-m", "invoke", "history", "--hosts")
USER = sudo_user("typist")


@pytest.fixture(autouse=True)
def folder(lab: ModuleType, keyless_folder: Path) -> Path:
    """A copy of the lab's inventory, and no keys of whoever runs this."""
    shutil.copy2(lab.INVENTORY / "hosts.yml", keyless_folder)
    return keyless_folder


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / "hosts.yml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def client(folder: Path) -> Host:
    return inventory.load(folder, "client1").hosts[0]


def complaint(host: Host) -> str:
    with pytest.raises(ToolkitError) as raised:
        hosts.connect(host).close()
    return str(raised.value)


def key(path: Path, passphrase: str = "") -> Path:
    argv = ["ssh-keygen", "-qt", "ed25519", "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(argv, check=True)
    return path


def lock(folder: Path) -> Path:
    """Give the lab's key, which hosts know, a passphrase."""
    path = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-qp", "-P", "", "-N", WORDS, "-f", path], check=True)
    return path


# -- the agent --------------------------------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real ssh-agent, which knows no key yet."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield
    finally:
        process.terminate()
        process.wait()


def add(path: Path) -> None:
    subprocess.run(["ssh-add", "-q", path], check=True)


@pytest.mark.usefixtures("agent")
def test_the_agent_s_keys_serve_when_the_inventory_names_none(folder: Path) -> None:
    edit(folder, "ansible_ssh_private_key_file: id_ed25519", "")
    assert "offered: no key, for there is none;" in complaint(client(folder))
    add(key(folder / "another"))
    add(folder / "id_ed25519")
    hosts.connect(client(folder)).close()


@pytest.mark.usefixtures("agent")
def test_no_more_than_five_keys_are_offered_and_each_is_named(folder: Path) -> None:
    edit(folder, "ansible_ssh_private_key_file: id_ed25519", "")
    for number in range(6):
        add(key(folder / f"k{number}"))
    add(folder / "id_ed25519")  # the seventh: a person with so many has to say which
    message = complaint(client(folder))
    assert re.findall(r"k\d(?= \(SHA256:)", message) == ["k0", "k1", "k2", "k3", "k4"]


@pytest.mark.usefixtures("agent")
def test_a_named_key_with_a_passphrase_is_used_through_the_agent(folder: Path) -> None:
    for number in range(6):
        add(key(folder / f"k{number}"))
    add(folder / "id_ed25519")
    lock(folder)
    hosts.connect(client(folder)).close()


def test_a_key_of_one_s_own_that_is_locked_is_named(folder: Path, tmp_path: Path) -> None:
    edit(folder, "ansible_ssh_private_key_file: id_ed25519", "")
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    own = key(tmp_path / "home" / ".ssh" / "id_ed25519", WORDS)
    assert f"; {own} has a passphrase: ssh-add it; try ssh" in complaint(client(folder))


# -- accounts that will not do ----------------------------------------------------------


@pytest.fixture(scope="module")
def _typist(lab: ModuleType) -> Iterator[None]:
    """A user on each host who has to tell sudo a password."""
    for name in THREE:
        assert lab.run(name, ["sh", "-c", USER]).returncode == 0
    yield
    for name in THREE:
        lab.run(name, ["sh", "-c", "userdel -rf typist; rm /etc/sudoers.d/typist"])


@pytest.fixture
def careful(_typist: None, folder: Path) -> Path:
    edit(folder, "ansible_user: deploy", "ansible_user: typist")
    return folder


@pytest.mark.parametrize(
    ("spoil", "mend", "message"),
    [
        (
            "echo 'Defaults requiretty' > /etc/sudoers.d/zz",
            "rm /etc/sudoers.d/zz",
            "client1: sudo wants a terminal: set `Defaults:USER !requiretty` in its rules there",
        ),
        (
            "echo 'typist ALL=(ALL) /bin/ls' > /etc/sudoers.d/typist",
            "echo 'typist ALL=(ALL) ALL' > /etc/sudoers.d/typist",
            "client1: sudo does not let this user become root; the host said: Sorry, user typist",
        ),
        (
            "chage -E 2020-01-01 typist",
            "chage -E -1 typist",
            "client1: 'typist' was refused; it said: Your account has expired; please contact",
        ),
        (
            "chage -d 0 typist",
            "chage -d 2026-01-01 typist",
            "client1: the password there has expired: log in and change it",
        ),
        (
            "usermod -s /usr/sbin/nologin typist",
            "usermod -s /bin/sh typist",
            "client1: the agent did not start; the host said: This account is currently not avail",
        ),
    ],
    ids=["requiretty", "another command", "expired", "password expired", "no login"],
)
def test_an_account_that_will_not_do_is_told_at_once(
    lab: ModuleType,
    careful: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: str,
    mend: str,
    message: str,
) -> None:
    monkeypatch.setenv("GEARMAN_SUDO_PASSWORD", PASSWORD)
    hosts.connect(client(careful)).close()
    assert lab.run("client1", ["sh", "-c", spoil]).returncode == 0
    try:
        started = time.monotonic()
        told = complaint(client(careful))
        assert time.monotonic() - started < START_TIMEOUT, "it was not waited for"
    finally:
        lab.run("client1", ["sh", "-c", mend])
    assert told.startswith(message)
    assert len(told) < 400


# -- at a terminal ----------------------------------------------------------------------


class Terminal:
    """A command with a terminal of its own, and a person at it."""

    def __init__(self, *argv: str) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self._process = subprocess.Popen(
            argv, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, preexec_fn=_own_terminal
        )
        os.close(slave)

    def await_text(self, text: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read(0.1), self.shown

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def end(self, seconds: float = 30) -> int:
        deadline = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < deadline, self.shown
        status = self._process.wait(seconds)
        os.close(self.master)
        return status

    def _read(self, seconds: float) -> bool:
        """Whether more may come."""
        if not select.select([self.master], [], [], seconds)[0]:
            return self._process.poll() is None
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # how Linux says that nobody has it open any more
            return False
        self.shown += piece.decode()
        return bool(piece)


def _own_terminal() -> None:
    os.setsid()
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first that is opened is the session's


def test_the_sudo_password_is_asked_for_once_and_never_shown(careful: Path) -> None:
    terminal = Terminal(*LOOK, str(careful))
    terminal.await_text("sudo password (first asked for by ")
    assert not terminal.echoes
    terminal.type(f"{PASSWORD}\n")
    assert terminal.end() == 0, terminal.shown
    assert terminal.shown.count("sudo password") == 1
    assert PASSWORD not in terminal.shown


def test_a_mistyped_sudo_password_is_tried_on_two_hosts_alone(
    lab: ModuleType, careful: Path
) -> None:
    before = sum(map(wrong_passwords, [lab] * 3, THREE))
    terminal = Terminal(*LOOK, str(careful))
    terminal.await_text("sudo password (first asked for by ")
    terminal.type("correct hose\n")
    assert terminal.end() == 4, terminal.shown
    assert terminal.shown.count("sudo refused the password: it was tried once") == 2
    assert terminal.shown.count("refused it: it was not tried here") == 1
    assert sum(map(wrong_passwords, [lab] * 3, THREE)) == before + 2


def wrong_passwords(lab: ModuleType, host: str) -> int:
    return sum("authentication failure" in line for line in lab.journal(host, "-t", "sudo"))


def test_ctrl_c_at_the_question_gives_the_terminal_back(careful: Path) -> None:
    terminal = Terminal(*LOOK, str(careful))
    terminal.await_text("sudo password (first asked for by ")
    terminal.type("half a pass\x03")
    terminal.await_text("interrupted")
    assert terminal.echoes
    assert terminal.end() == 130, terminal.shown
    assert terminal.shown.count("sudo password") == 1
    assert "Traceback" not in terminal.shown


def test_a_passphrase_is_asked_for_once_for_all_hosts(folder: Path) -> None:
    path = lock(folder)
    terminal = Terminal(*LOOK, str(folder))
    terminal.await_text(f"passphrase of {path}: ")
    terminal.type(f"{WORDS}\n")
    assert terminal.end() == 0, terminal.shown
    assert terminal.shown.count("passphrase of") == 1
    assert WORDS not in terminal.shown


def test_a_wrong_passphrase_is_told_and_not_asked_for_again(folder: Path) -> None:
    path = lock(folder)
    terminal = Terminal(*LOOK, str(folder))
    terminal.await_text(f"passphrase of {path}: ")
    terminal.type("other words\n")
    assert terminal.end() == 1, terminal.shown
    assert f"that is not the passphrase of {path}" in terminal.shown
    assert terminal.shown.count("passphrase of") == 1 + len(THREE)
