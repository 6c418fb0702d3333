"""What builds keep under .cache/ for the next one, and for how long."""

import hashlib
import os
import re
import shutil
import time
from functools import cache
from pathlib import Path
from threading import Lock

from provision.errors import ToolkitError

UNUSED_AGE = 30 * 86400  # seconds that something is kept which no build uses

_reading = Lock()  # so that hosts which are planned at once do not all read the same


def mark_used(path: Path) -> None:
    """Begin its age again."""
    os.utime(path)


def prune_unused(folder: Path, *patterns: str) -> None:
    """Remove the files and folders with such names that were not used for UNUSED_AGE."""
    oldest = time.time() - UNUSED_AGE
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if path.lstat().st_mtime >= oldest:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def prune_oldest(folder: Path, pattern: str, kept: int) -> None:
    """Remove the files with such names but for those that were used last."""
    known = sorted(folder.glob(pattern), key=lambda path: -path.stat().st_mtime)
    for path in known[kept:]:
        path.unlink()


def read_digest(path: Path) -> str:
    """The SHA-256 of a release that is kept here; a run over many hosts reads it once.

    Raises :class:`ToolkitError` if it is not the one that the release's name ends with.
    """
    with _reading:
        digest = _digest(path, path.stat().st_mtime_ns)
    named = re.search(r"-([0-9a-f]{12})$", path.stem)
    if named and not digest.startswith(named[1]):
        raise ToolkitError(f"{path} was changed after it was built: remove it, and build it again")
    return digest


@cache
def _digest(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
