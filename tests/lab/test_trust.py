"""Whom the toolkit trusts: keys are shown, asked about, recorded; a changed one is not taken."""

import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from provision import deploy, trust
from provision.errors import InventoryError, ToolkitError
from provision.options import Options
from roles import ROLES

KEYS = 6  # two of each of three hosts


@pytest.fixture
def folder(lab: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the lab's inventory that knows no key yet; nor does the user."""
    monkeypatch.setenv("HOME", str(tmp_path))
    copy = tmp_path / "inventory"
    copy.mkdir()
    for path in (lab.HOSTS, lab.KEY):
        shutil.copy2(path, copy)
    return copy


def trusted(folder: Path, replace: str = "") -> int:
    return trust.trust(folder, Options(yes=True), replace)


def test_what_is_shown_is_what_ssh_keygen_says_and_is_then_trusted(
    lab: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.plan(folder, ROLES) == 4
    assert f"invoke trust --hosts {folder} --limit worker1" in capsys.readouterr().out
    assert trusted(folder) == 0
    shown = re.findall(r"SHA256:\S+(?=  new)", capsys.readouterr().out)
    assert len(shown) == KEYS
    said = lab.run("worker1", ["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    assert said.split()[1] in shown
    assert deploy.plan(folder, ROLES) in (0, 2)
    assert len((folder / "known_hosts").read_text().splitlines()) == KEYS
    assert trusted(folder) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_changed_key_is_only_taken_for_a_host_that_is_named(
    lab: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted(folder)
    file = folder / "known_hosts"
    right = set(file.read_text().splitlines())
    other = next(line.split()[2] for line in right if line.startswith("198.18.10.247 ssh-ed25519"))
    lines = [line for line in right if not line.startswith("198.18.10.248 ssh-ed25519")]
    file.write_text("\n".join([*lines, f"198.18.10.248 ssh-ed25519 {other}", ""]))
    wrong = file.read_text()

    assert trusted(folder) == 4
    assert "CHANGED" in capsys.readouterr().out
    assert file.read_text() == wrong
    with pytest.raises(InventoryError, match="--replace worker9"):
        trusted(folder, "worker9")
    assert trusted(folder, "worker1") == 0
    assert set(file.read_text().splitlines()) == right


def test_nothing_is_recorded_when_nobody_can_be_asked(lab: ModuleType, folder: Path) -> None:
    with pytest.raises(ToolkitError, match="nobody can be asked"):
        trust.trust(folder, Options())
    assert not (folder / "known_hosts").exists()
