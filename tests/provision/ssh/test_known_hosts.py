"""Which lines of known_hosts trust a key, and which revoke it, as sshd(8) has them."""

from pathlib import Path

import paramiko
import pytest

from provision.errors import InventoryError
from provision.ssh.known_hosts import KnownHosts
from provision.ssh.route import Hop
from tests.attacks import attack

KEY = paramiko.ECDSAKey.generate()
LINE = f"ecdsa-sha2-nistp256 {KEY.get_base64()}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's known_hosts."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home" / ".ssh" / "known_hosts"


def standing(folder: Path, *, port: int = 22) -> str:
    hop = Hop("web1", "Web1.example", port, "root", (), False, folder, folder, False)
    return KnownHosts(hop).standing(KEY)


@attack(
    "in the middle",
    "a key that `*`, another pattern, or the user's own known_hosts revokes",
    "mended",
)
@pytest.mark.parametrize(
    ("pattern", "port", "expected"),
    [
        ("*", 22, "revoked"),
        ("*", 2222, "revoked"),
        ("*.example", 22, "revoked"),
        ("web?.EXAMPLE", 22, "revoked"),
        ("other,web1.example", 22, "revoked"),
        ("[*.example]:2222", 2222, "revoked"),
        ("*,!web1.example", 22, "known"),
        ("web2.*", 22, "known"),
        ("web1.example", 2222, "known"),
        ("web[1].example", 22, "known"),
    ],
)
def test_a_pattern_revokes_in_either_file(
    tmp_path: Path, home: Path, pattern: str, port: int, expected: str
) -> None:
    name = "Web1.example" if port == 22 else f"[Web1.example]:{port}"
    trusting = tmp_path / "known_hosts"
    trusting.write_text(f"{name} {LINE}\n@revoked {pattern} {LINE}\n")
    assert standing(tmp_path, port=port) == expected
    trusting.write_text(f"{name} {LINE}\n")
    home.write_text(f"@revoked {pattern} {LINE}\n")
    assert standing(tmp_path, port=port) == expected


def test_the_user_s_lines_trust_where_the_inventory_s_only_revoke(
    tmp_path: Path, home: Path
) -> None:
    other = paramiko.ECDSAKey.generate().get_base64()
    (tmp_path / "known_hosts").write_text(f"@revoked * ecdsa-sha2-nistp256 {other}\n")
    home.write_text(f"Web1.example {LINE}\n")
    assert standing(tmp_path) == "known"


def test_a_key_that_cannot_be_read_cannot_be_revoked_in_silence(tmp_path: Path, home: Path) -> None:
    (tmp_path / "known_hosts").write_text(f"Web1.example {LINE}\n@revoked * ecdsa-sha2-nist AAAA\n")
    with pytest.raises(InventoryError, match=r"known_hosts:2: the key that this line revokes"):
        standing(tmp_path)
