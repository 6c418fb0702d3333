"""Whom the toolkit trusts: keys are shown, asked about, recorded; a changed one is not taken."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.commands import trust
from provision.errors import InventoryError, ToolkitError
from provision.fleet import deploy
from provision.fleet import pool as hosts
from provision.inventory import load as inventory
from provision.options import Options
from roles import ROLES
from tests.attacks import attack
from tests.lab.hosts import CLIENT, NETWORK, SERVER, WORKER

KEYS = 6  # two of each of three hosts


@pytest.fixture
def folder(lab: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the lab's inventory that knows no key yet; nor does the user."""
    monkeypatch.setenv("HOME", str(tmp_path))
    copy = tmp_path / "inventory"
    copy.mkdir()
    for path in (lab.INVENTORY / "hosts.yml", lab.KEY):
        shutil.copy2(path, copy)
    return copy


def trusted(folder: Path, replace: str = "") -> int:
    return trust.trust(folder, Options(yes=True), replace)


def test_what_is_shown_is_what_ssh_keygen_says_and_is_then_trusted(
    lab: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.plan(folder, ROLES) == 4
    assert f"./invoke trust --hosts {folder} --limit worker1" in capsys.readouterr().out
    assert trusted(folder) == 0
    shown = re.findall(r"SHA256:\S+(?=  new)", capsys.readouterr().out)
    assert len(shown) == KEYS
    said = lab.run("worker1", ["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    assert said.split()[1] in shown
    assert deploy.plan(folder, ROLES) in (0, 2)
    assert len((folder / "known_hosts").read_text().splitlines()) == KEYS
    assert trusted(folder) == 0
    assert "nothing to do" in capsys.readouterr().out


@attack("in the middle", "have `trust` take a changed key", "held")
def test_a_changed_key_is_only_taken_for_a_host_that_is_named(
    lab: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted(folder)
    file = folder / "known_hosts"
    right = set(file.read_text().splitlines())
    other = next(line.split()[2] for line in right if line.startswith(f"{SERVER} ssh-ed25519"))
    lines = [line for line in right if not line.startswith(f"{WORKER} ssh-ed25519")]
    file.write_text("\n".join([*lines, f"{WORKER} ssh-ed25519 {other}", ""]))
    wrong = file.read_text()

    assert trusted(folder) == 4
    assert "CHANGED" in capsys.readouterr().out
    assert file.read_text() == wrong
    with pytest.raises(InventoryError, match="--replace worker9"):
        trusted(folder, "worker9")
    assert trusted(folder, "worker1") == 0
    assert set(file.read_text().splitlines()) == right


def test_nothing_is_recorded_when_nobody_can_be_asked(lab: ModuleType, folder: Path) -> None:
    with pytest.raises(ToolkitError, match="you cannot be asked"):
        trust.trust(folder, Options())
    assert not (folder / "known_hosts").exists()


# -- the file ---------------------------------------------------------------------------


def test_the_file_is_in_order_and_keeps_its_comments(lab: ModuleType, folder: Path) -> None:
    file = folder / "known_hosts"
    file.write_text("# ours\n\n# the last one\nzz.example.com ssh-ed25519 AAAA\n")
    assert trusted(folder) == 0
    lines = file.read_text().splitlines()
    assert lines[:3] == ["# ours", "", "# the last one"]
    assert [" ".join(line.split()[:2]) for line in lines[3:]] == [
        f"{NETWORK}.{number} {kind}"
        for number in (246, 247, 248)
        for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256")
    ] + ["zz.example.com ssh-ed25519"]
    assert [path.name for path in folder.iterdir() if path.name.startswith("tmp")] == []


def test_a_replaced_key_is_forgotten_under_a_hashed_name_too(lab: ModuleType, folder: Path) -> None:
    trusted(folder)
    file = folder / "known_hosts"
    right = file.read_text()
    other = next(line.split()[2] for line in right.splitlines() if "247 ssh-ed25519" in line)
    file.write_text(f"{WORKER} ssh-ed25519 {other}\n")
    subprocess.run(["ssh-keygen", "-qHf", file], check=True, capture_output=True)
    hashed = file.read_text()
    assert "198.18" not in hashed
    assert trusted(folder, "worker1") == 0
    assert hashed not in file.read_text()
    assert file.read_text() == right


def test_a_file_that_cannot_be_used_is_told(
    lab: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "known_hosts").mkdir()
    assert trusted(folder) == 1
    assert f"{folder}/known_hosts: it cannot be read: Is a dir" in capsys.readouterr().out


# -- where hosts are --------------------------------------------------------------------


@pytest.fixture
def other_port(lab: ModuleType) -> Iterator[int]:
    """A port of the client where another sshd listens."""
    port, pid = 2222, "/run/other-sshd.pid"
    lab.run("client1", ["/usr/sbin/sshd", "-p", str(port), "-o", f"PidFile={pid}"])
    yield port
    lab.run("client1", ["sh", "-c", f"kill $(cat {pid})"])


def test_a_host_on_another_port_is_known_by_it(
    lab: ModuleType, folder: Path, other_port: int
) -> None:
    say_more(folder, CLIENT, f"ansible_port: {other_port}")
    assert trusted(folder) == 0
    text = (folder / "known_hosts").read_text()
    assert f"[{CLIENT}]:{other_port} ssh-ed25519 " in text
    assert f"{CLIENT} " not in text
    hosts.connect(inventory.load(folder, "client1").hosts[0]).close()


def test_keys_of_jump_hosts_are_recorded_before_those_behind_them(
    lab: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = f"-J deploy@{CLIENT}", f"-J deploy@{CLIENT},deploy@{SERVER}"
    say_more(folder, SERVER, f"ansible_ssh_common_args: '{gates[0]}'")
    say_more(folder, WORKER, f"ansible_ssh_common_args: '{gates[1]}'")
    assert trusted(folder) == 0
    shown = capsys.readouterr().out.splitlines()
    assert sum("2 keys recorded" in line for line in shown) == 3  # one machine after the other
    assert f"{CLIENT}, client1  {CLIENT}  ed25519 " in "\n".join(shown)
    assert len((folder / "known_hosts").read_text().splitlines()) == KEYS
    for host in inventory.load(folder).hosts:
        hosts.connect(host).close()
    assert trusted(folder) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_nobody_is_looked_at_through_a_jump_host_whose_key_has_changed(
    lab: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted(folder)
    say_more(folder, WORKER, f"ansible_ssh_common_args: -J deploy@{CLIENT}")
    file = folder / "known_hosts"
    lines = file.read_text().splitlines()
    other = next(line.split()[2] for line in lines if line.startswith(f"{SERVER} ssh-ed25519"))
    kept = [line for line in lines if not line.startswith((f"{CLIENT} ", f"{WORKER} "))]
    file.write_text("".join(f"{line}\n" for line in [*kept, f"{CLIENT} ssh-ed25519 {other}"]))
    wrong = file.read_text()
    capsys.readouterr()
    assert trusted(folder) == 4
    assert f"worker1: jump host {CLIENT}: its host key has changed" in capsys.readouterr().out
    assert file.read_text() == wrong


def say_more(folder: Path, address: str, variable: str) -> None:
    """Give the host at this address one more variable."""
    file = folder / "hosts.yml"
    assert address in file.read_text()
    file.write_text(file.read_text().replace(address, f"{address}, {variable}"))
