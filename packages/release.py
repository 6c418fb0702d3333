"""`./invoke release`: the version that the changelog announces, built, checked, signed and tagged.

The tag comes last: a release that fails leaves files in dist/, and no tag.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from packages.build import ROOT, build_packages
from packages.commands import run_command
from provision.errors import ToolkitError

CHANGELOG = Path("docs", "changelog.md")
FRONT = Path("gearman_py", "__init__.py")
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
    """Release the last commit; the tag. ``key`` names the signer's OpenPGP key (gpg's default).

    Raises :class:`ToolkitError`, before anything is built, for a tree that cannot be released.
    """
    tag = f"v{_announced_version(root)}"
    if changed := run_command("git", "status", "--porcelain", cwd=root):
        raise ToolkitError(f"release: commit or remove these first:\n{changed}")
    if run_command("git", "tag", "--list", tag, cwd=root):
        raise ToolkitError(f"release: {tag} exists already; a new release needs a new version")
    files = build_packages(dist, say, root, formats=formats)
    sdist, _ = uploads = [str(path) for path in files[:2]]  # the others are not for PyPI
    run_command(sys.executable, "-m", "twine", "check", "--strict", *uploads, cwd=dist)
    run_command(sys.executable, "-m", "pyroma", *PYROMA, sdist, cwd=dist)
    sums = dist / SUMS
    sums.write_text("".join(f"{_digest(path)}  {path.name}\n" for path in files))
    signer = ("--local-user", key) if key else ()
    run_command("gpg", "--batch", "--yes", *signer, "--armor", "--detach-sign", SUMS, cwd=dist)
    sign = ("--local-user", key) if key else ("--sign",)
    run_command("git", "tag", *sign, "--message", f"gearman_py {tag[1:]}", tag, cwd=root)
    say(f"release: {tag} is tagged and {dist / SUMS}.asc signed; to publish them:")
    say(f"  git push origin {tag}")
    say(f"  twine upload {' '.join(uploads)}")
    return tag


def _announced_version(root: Path) -> str:
    """The version at the head of the changelog, with the day of its release."""
    head = re.search(r"^## (\S+) \((.*)\)$", (root / CHANGELOG).read_text(), re.MULTILINE)
    own = re.search(r'^__version__ = "(.*)"$', (root / FRONT).read_text(), re.MULTILINE)
    if head is None or own is None:
        raise ToolkitError(f"release: no version in {CHANGELOG} or {FRONT}")
    version, day = head.groups()
    if version != own[1]:
        raise ToolkitError(f"release: {CHANGELOG} begins with {version}, but {FRONT} has {own[1]}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
        raise ToolkitError(
            f"release: {CHANGELOG} begins with {version} ({day}); write the day of the release, "
            f"such as `## {version} (2026-11-29)`, and commit that"
        )
    return version


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
