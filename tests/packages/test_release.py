"""A release is what the changelog announces, checked and signed; else nothing is tagged."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from packages.build import build_distributions
from packages.release import make_release
from provision.errors import ToolkitError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("gpg"), reason="needs gpg"),
]

ROOT = Path(__file__).resolve().parents[2]
KEY = "releaser@example.org"


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A key of its own, in a folder whose name is short enough for gpg's socket."""
    home = Path("/tmp", f"gpg-{KEY.partition('@')[0]}-{id(monkeypatch)}")
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", KEY, cwd=home)
    yield KEY
    run("gpgconf", "--kill", "gpg-agent", cwd=home)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_distributions(ROOT, tmp_path_factory.mktemp("built"), "1795949335")[0]


@pytest.fixture
def checkout(sdist: Path, tmp_path: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / sdist.name.removesuffix(".tar.gz")
    run("git", "init", "--quiet", cwd=folder)
    run("git", "config", "user.name", "Releaser", cwd=folder)
    run("git", "config", "user.email", KEY, cwd=folder)
    return folder


def announce(checkout: Path, heading: str) -> None:
    """Commit a changelog that begins so."""
    page = checkout / "docs" / "changelog.md"
    rest = page.read_text().partition("\n## ")[2].partition("\n")[2]
    page.write_text(f"# Changelog\n\n## {heading}\n{rest}")
    run("git", "add", "--all", cwd=checkout)
    run("git", "commit", "--quiet", "--message", heading, cwd=checkout)


def version_of(checkout: Path) -> str:
    return checkout.name.partition("-")[2]


def test_a_release_is_built_checked_signed_and_tagged(
    checkout: Path, signer: str, tmp_path: Path
) -> None:
    announce(checkout, f"{version_of(checkout)} (2026-11-29)")
    dist = tmp_path / "dist"
    said: list[str] = []
    tag = make_release(dist, said.append, checkout, key=signer)
    assert tag == f"v{version_of(checkout)}"
    run("gpg", "--verify", "SHA256SUMS.asc", "SHA256SUMS", cwd=dist)
    checked = run("sha256sum", "--check", "SHA256SUMS", cwd=dist)
    assert checked.count(": OK\n") == 2
    run("git", "verify-tag", tag, cwd=checkout)
    assert f"  git push origin {tag}" in said

    with pytest.raises(ToolkitError, match=f"{tag} exists already"):
        make_release(dist, said.append, checkout, key=signer)


def test_without_a_key_nothing_is_tagged(checkout: Path, signer: str, tmp_path: Path) -> None:
    announce(checkout, f"{version_of(checkout)} (2026-11-29)")
    with pytest.raises(ToolkitError, match=r"gpg .*stranger@example\.org"):
        make_release(tmp_path, print, checkout, key="stranger@example.org")
    assert run("git", "tag", cwd=checkout) == ""


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("{} (unreleased)", r"begins with \S+ \(unreleased\); write the day of the release"),
        ("99.0 (2026-11-29)", r"begins with 99\.0, but gearman_py/__init__\.py has"),
    ],
)
def test_what_is_not_announced_is_not_released(
    checkout: Path, tmp_path: Path, heading: str, message: str
) -> None:
    announce(checkout, heading.format(version_of(checkout)))
    with pytest.raises(ToolkitError, match=message):
        make_release(tmp_path / "dist", print, checkout)


def test_uncommitted_changes_are_named(checkout: Path, tmp_path: Path) -> None:
    announce(checkout, f"{version_of(checkout)} (2026-11-29)")
    (checkout / "stray").touch()
    with pytest.raises(ToolkitError, match=r"commit or remove these first:\n\?\? stray"):
        make_release(tmp_path / "dist", print, checkout)
