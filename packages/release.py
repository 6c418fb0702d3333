"""`./invoke release`: what the changelog has as unreleased becomes a version, built and tagged.

The commit that dates it comes before the build, the tag last: a release that fails leaves that
commit and files in dist/, and no tag; the next attempt goes on from there.
"""

import hashlib
import os
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
GPG = ("gpg", "--batch", "--yes")
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
    page = _dated_page(root, version)
    signer = ("--local-user", _signing_key(key, root))
    _commit_page(root, page, version, say)
    files = build_packages(dist, say, root, formats=formats)
    sdist, _ = uploads = [str(path) for path in files[:2]]  # the others are not for PyPI
    run_command(sys.executable, "-m", "twine", "check", "--strict", *uploads, cwd=dist)
    run_command(sys.executable, "-m", "pyroma", *PYROMA, sdist, cwd=dist)
    sums = dist / SUMS
    sums.write_text("".join(f"{_digest(path)}  {path.name}\n" for path in files))
    run_command(*GPG, *signer, "--armor", "--detach-sign", SUMS, cwd=dist)
    run_command("git", "tag", *signer, "--message", f"gearman_py {version}", tag, cwd=root)
    say(f"release: {tag} is tagged and {dist / SUMS}.asc signed; to publish them:")
    say(f"  git push origin HEAD {tag}")
    say(f"  {Path(sys.executable).with_name('twine')} upload {' '.join(uploads)}")
    return tag


def _own_version(root: Path) -> str:
    own = re.search(r'^__version__ = "(.*)"$', (root / FRONT).read_text(), re.MULTILINE)
    if own is None:
        raise ToolkitError(f"release: no __version__ in {FRONT}")
    return own[1]


def _signing_key(key: str, root: Path) -> str:
    """The fingerprint of this key, or of gpg's default, which has just signed nothing.

    git by itself would take the key of the committer's address for the tag.
    """
    chosen = ("--local-user", key) if key else ()
    trial = ("--status-fd", "1", "--output", os.devnull, "--detach-sign", os.devnull)
    try:
        said = run_command(*GPG, *chosen, *trial, cwd=root)
    except ToolkitError as error:
        advice = "name a key with --key, or make one: gpg --quick-generate-key ADDRESS"
        raise ToolkitError(f"{error}release: {advice}") from None
    return next(line.split()[-1] for line in said.splitlines() if " SIG_CREATED " in line)


def _dated_page(root: Path, version: str) -> str:
    """The changelog with this version and today over what is unreleased, unless it is so."""
    page = (root / CHANGELOG).read_text()
    before, heading, changes = page.partition(UNRELEASED)
    if not heading:
        dated = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$"
        if re.search(dated, before, re.MULTILINE):
            return page  # by an attempt that failed later
        raise ToolkitError(f"release: {CHANGELOG} has no `{UNRELEASED.strip()}`")
    if not changes.partition("\n## ")[0].strip():
        raise ToolkitError(f"release: {CHANGELOG} has nothing under `{UNRELEASED.strip()}`")
    return f"{before}## {version} ({datetime.now(UTC).date()})\n{changes}"


def _commit_page(root: Path, page: str, version: str, say: Callable[[str], None]) -> None:
    if page == (root / CHANGELOG).read_text():
        return
    (root / CHANGELOG).write_text(page)
    message = ("--message", f"Release {version}")
    run_command("git", "commit", "--quiet", *message, str(CHANGELOG), cwd=root)
    say(f"release: {CHANGELOG} has {version} with today's date, committed")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
