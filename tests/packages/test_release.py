"""A release is what the changelog has as unreleased, dated, checked and signed; else no tag."""

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from packages.release import make_release
from provision.errors import ToolkitError
from tests.packages.versions import our_distributions

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
    return our_distributions(tmp_path_factory)[0]


@pytest.fixture
def checkout(sdist: Path, tmp_path: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / sdist.name.removesuffix(".tar.gz")
    run("git", "init", "--quiet", cwd=folder)
    run("git", "config", "user.name", "Releaser", cwd=folder)
    run("git", "config", "user.email", KEY, cwd=folder)
    changelog(folder).write_text("# Changelog\n\n## Unreleased\n\n- A change.\n")
    commit(folder)
    return folder


def commit(checkout: Path) -> None:
    run("git", "add", "--all", cwd=checkout)
    run("git", "commit", "--quiet", "--message", "All of it", cwd=checkout)


def changelog(checkout: Path) -> Path:
    return checkout / "docs" / "changelog.md"


def version_of(checkout: Path) -> str:
    return checkout.name.partition("-")[2]


def test_a_release_is_dated_built_checked_signed_and_tagged(
    checkout: Path, signer: str, tmp_path: Path
) -> None:
    dist = tmp_path / "dist"
    said: list[str] = []
    began = datetime.now(UTC).date()
    tag = make_release(dist, said.append, checkout, key=signer)
    version = version_of(checkout)
    assert tag == f"v{version}"
    headings = re.findall("^## (.*)$", changelog(checkout).read_text(), re.MULTILINE)
    assert headings[0] in {f"{version} ({day})" for day in (began, datetime.now(UTC).date())}
    assert "Unreleased" not in headings
    assert run("git", "log", "--format=%s", "-1", tag, cwd=checkout) == f"Release {version}\n"
    assert run("git", "status", "--porcelain", cwd=checkout) == ""
    run("gpg", "--verify", "SHA256SUMS.asc", "SHA256SUMS", cwd=dist)
    checked = run("sha256sum", "--check", "SHA256SUMS", cwd=dist)
    assert checked.count(": OK\n") == 2
    run("git", "verify-tag", tag, cwd=checkout)
    assert f"  git push origin HEAD {tag}" in said

    with pytest.raises(ToolkitError, match=f"{tag} exists already"):
        make_release(dist, said.append, checkout, key=signer)


@pytest.mark.usefixtures("signer")
def test_without_a_key_nothing_is_changed(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"(?s)stranger@example\.org.*name a key with --key, or"):
        make_release(tmp_path / "dist", print, checkout, key="stranger@example.org")
    assert run("git", "log", "--format=%s", cwd=checkout) == "All of it\n"
    assert not (tmp_path / "dist").exists()


@pytest.mark.usefixtures("signer")
def test_a_release_that_failed_goes_on_and_all_is_signed_by_one_key(
    checkout: Path, tmp_path: Path
) -> None:
    """gpg's own, where git would look for one of the committer's."""
    run("git", "config", "user.email", "committer@example.org", cwd=checkout)
    (tmp_path / "dist").touch()
    with pytest.raises(OSError, match="dist"):
        make_release(tmp_path / "dist", print, checkout)
    assert run("git", "tag", cwd=checkout) == ""
    tag = make_release(tmp_path / "built", print, checkout)
    run("git", "verify-tag", tag, cwd=checkout)
    assert run("git", "log", "--format=%s", cwd=checkout).count("Release ") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("## Unreleased\n\n## 0.0.9 (2026-11-01)\n\n- A change.\n", "has nothing under"),
        ("## 0.0.9 (2026-11-01)\n\n- A change.\n", "has no `## Unreleased`"),
    ],
)
def test_a_changelog_without_news_is_not_released(
    checkout: Path, tmp_path: Path, changes: str, message: str
) -> None:
    changelog(checkout).write_text(f"# Changelog\n\n{changes}")
    commit(checkout)
    with pytest.raises(ToolkitError, match=message):
        make_release(tmp_path / "dist", print, checkout)
    assert "Release" not in run("git", "log", "--format=%s", cwd=checkout)


def test_uncommitted_changes_are_named(checkout: Path, tmp_path: Path) -> None:
    (checkout / "stray").touch()
    with pytest.raises(ToolkitError, match=r"commit or remove these first:\n\?\? stray"):
        make_release(tmp_path / "dist", print, checkout)
