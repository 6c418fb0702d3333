"""`./invoke release`: what the changelog has as unreleased becomes a version, built and tagged.

The commit that dates it comes before the build, the tag last: a release that fails leaves that
commit and files in dist/, and no tag; the next attempt goes on from there.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from packages.build import ROOT, build_packages
from packages.commands import run_command
from provision.errors import ToolkitError

CHANGELOG = Path("docs", "changelog.md")
FRONT = Path("gearman_py", "__init__.py")
UNRELEASED = "## Unreleased\n"
SUMS = "SHA256SUMS"
PYROMA = ("-n", "10", "--skip-tests", "AuthorEmail")  # the authors have no common address


def make_release(
    dist: Path,
    say: Callable[[str], None],
    root: Path = ROOT,
    *,
    key: str = "",
    formats: Collection[str] = (),
) -> str:
    """Release what the last commit has; the tag. ``key``: the signer's OpenPGP key (gpg's default).

    Raises :class:`ToolkitError`, before anything is changed, for a tree that cannot be released.
    """
    version = _own_version(root)
    tag = f"v{version}"
    if changed := run_command("git", "status", "--porcelain", cwd=root):
        raise ToolkitError(f"release: commit or remove these first:\n{changed}")
    if run_command("git", "tag", "--list", tag, cwd=root):
        raise ToolkitError(f"release: {tag} exists already; set another __version__ in {FRONT}")
    _date_changes(root, version, say)
    files = build_packages(dist, say, root, formats=formats)
    sdist, _ = uploads = [str(path) for path in files[:2]]  # the others are not for PyPI
    run_command(sys.executable, "-m", "twine", "check", "--strict", *uploads, cwd=dist)
    run_command(sys.executable, "-m", "pyroma", *PYROMA, sdist, cwd=dist)
    sums = dist / SUMS
    sums.write_text("".join(f"{_digest(path)}  {path.name}\n" for path in files))
    signer = ("--local-user", key) if key else ()
    run_command("gpg", "--batch", "--yes", *signer, "--armor", "--detach-sign", SUMS, cwd=dist)
    sign = ("--local-user", key) if key else ("--sign",)
    run_command("git", "tag", *sign, "--message", f"gearman_py {version}", tag, cwd=root)
    say(f"release: {tag} is tagged and {dist / SUMS}.asc signed; to publish them:")
    say(f"  git push origin HEAD {tag}")
    say(f"  twine upload {' '.join(uploads)}")
    return tag


def _own_version(root: Path) -> str:
    own = re.search(r'^__version__ = "(.*)"$', (root / FRONT).read_text(), re.MULTILINE)
    if own is None:
        raise ToolkitError(f"release: no __version__ in {FRONT}")
    return own[1]


def _date_changes(root: Path, version: str, say: Callable[[str], None]) -> None:
    """Head what is unreleased with this version and today, and commit that, unless it is so."""
    page = root / CHANGELOG
    before, heading, changes = page.read_text().partition(UNRELEASED)
    if not heading:
        dated = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$"
        if re.search(dated, before, re.MULTILINE):
            return  # by an attempt that failed later
        raise ToolkitError(f"release: {CHANGELOG} has no `{UNRELEASED.strip()}`")
    if not changes.partition("\n## ")[0].strip():
        raise ToolkitError(f"release: {CHANGELOG} has nothing under `{UNRELEASED.strip()}`")
    day = datetime.now(UTC).date()
    page.write_text(f"{before}## {version} ({day})\n{changes}")
    message = ("--message", f"Release {version}")
    run_command("git", "commit", "--quiet", *message, str(CHANGELOG), cwd=root)
    say(f"release: {CHANGELOG} has {version} ({day}), committed")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
