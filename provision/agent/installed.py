"""Whether what a release installed is still as it was. It only reads: 3 ms for 340 files.

A release's `.complete` says of each file whose it is, how long, and when it was written; what
Python compiles beside them is left out. A release that was made while it ran, because it was
damaged, says in `.before` which processes were there first.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from typing import Any

from provision.agent.processes import began_at


def list_files(folder: str) -> list[str]:
    """A line for each file and folder of a release's venv, and of its app, its name last.

    Raises FileNotFoundError when it has neither.
    """
    parts = [each for each in ("venv", "app") if os.path.exists(f"{folder}/{each}")]
    if not parts:
        raise FileNotFoundError(folder)
    return [line for each in parts for line in _lines_of(folder, each)]


def _lines_of(folder: str, below: str) -> Iterator[str]:
    with os.scandir(f"{folder}/{below}") as entries:
        for entry in entries:
            if entry.name == "__pycache__":
                continue
            name = f"{below}/{entry.name}"
            shown = name if name.splitlines() == [name] else ascii(name)  # each has one line
            found = entry.stat(follow_symlinks=False)
            written = f"{found.st_size} {found.st_mtime_ns}"
            if stat.S_ISDIR(found.st_mode):  # it is written to when something is compiled in it
                written = "- -"
                yield from _lines_of(folder, name)
            yield f"{found.st_mode:o} {found.st_uid} {found.st_gid} {written} {shown}"


def find_damage(folder: str) -> str | None:
    """A file of a complete release that is not as it was. One that says nothing is believed."""
    noted = _read_lines(f"{folder}/.complete")
    if noted and not os.path.exists(f"{folder}/units"):
        return "units"
    try:
        changed = set(noted) ^ set(list_files(folder)) if noted else ()
    except FileNotFoundError:
        return "venv"
    return min((line.split(" ", 5)[-1] for line in changed), default=None)


def was_there_before(folder: str, pid: int) -> bool:
    """Whether a process was started from what was at ``folder`` before it was rebuilt."""
    return f"{pid} {began_at(pid)}" in _read_lines(f"{folder}/.before")


def _read_lines(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def describe_release(folder: str) -> dict[str, Any] | None:
    """A complete release: since when it is there, why it is bad, if it is, and what it is made of.

    ``source`` is the same for all that differ in their accelerator alone.
    """
    try:
        at = os.stat(f"{folder}/.complete").st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    told = _read_manifest(folder)
    source, accelerated = str(told.get("source", "")), told.get("accelerated") is True
    return {"at": at, "bad": why_bad(folder), "source": source, "accelerated": accelerated}


def _read_manifest(folder: str) -> dict[str, Any]:
    try:
        with open(f"{folder}/MANIFEST.json", encoding="utf-8") as file:
            told = json.load(file)
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def why_bad(folder: str) -> str | None:
    """Why a release is bad, as its mark says; the mark stays when the release is removed."""
    try:
        with open(f"{folder}/.bad", encoding="utf-8", errors="replace") as file:
            return file.read(1000)
    except (FileNotFoundError, NotADirectoryError):
        return None
