"""Bytecode of a release's modules: compiled once on a host, and taken over by later releases.

Most modules of two releases are the same, and to compile them takes longer than to install them.
A release's `.bytecode` says which code was compiled from which source when it was staged, by their
SHA-256; code that is still the same is copied beside the same source. An app's releases take it
from those of gearman_py too, and never the other way: who makes an app could choose its code.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, cache_from_source

NOTE = ".bytecode"  # {digest of a source: [digest of its code, its path in the release]}
HEADER = struct.Struct("<4sIII")  # PEP 552: magic, flags, when the source was written, its size
LOW_32 = 0xFFFFFFFF


def take_bytecode(folder: str, root: str) -> None:
    """Copy to a release that is being made what those of ``root`` have compiled already."""
    known = dict(_known_code(root))
    for source in _sources(folder):
        digest, code = known.get(_digest(_read(source)), ("", ""))
        if code and (body := _read_code(code)) and _digest(body) == digest:
            _write_code(source, body)


def note_bytecode(folder: str) -> None:
    """Write down what a release has compiled, of its sources as they are."""
    noted = {}
    for source in _sources(folder):
        compiled = _read(cache_from_source(source))
        if compiled.startswith(_header_of(source)):
            path = os.path.relpath(source, folder)
            noted[_digest(_read(source))] = [_digest(compiled[HEADER.size :]), path]
    with open(f"{folder}/{NOTE}", "w", encoding="utf-8") as file:
        json.dump(noted, file)


def _known_code(root: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """By the digest of a source: that of its code, and where that is."""
    roots = [root, root.rpartition("/apps/")[0]] if "/apps/" in root else [root]
    for note in (path for each in roots for path in glob.glob(f"{each}/releases/*/{NOTE}")):
        folder = os.path.dirname(note)
        if os.path.exists(f"{folder}/.complete"):
            for source, (code, path) in _read_note(note).items():
                yield source, (code, cache_from_source(f"{folder}/{path}"))


def _read_note(note: str) -> dict[str, tuple[str, str]]:
    try:
        return dict(json.loads(_read(note)))
    except ValueError:
        return {}  # half of one, after a disk failed


def _sources(folder: str) -> Iterator[str]:
    for place, _, names in os.walk(f"{folder}/venv/lib"):
        yield from (f"{place}/{name}" for name in names if name.endswith(".py"))


def _header_of(source: str) -> bytes:
    found = os.stat(source)
    return HEADER.pack(MAGIC_NUMBER, 0, int(found.st_mtime) & LOW_32, found.st_size & LOW_32)


def _read_code(path: str) -> bytes:
    """Code of this Python without its header, or nothing."""
    compiled = _read(path)
    return compiled[HEADER.size :] if compiled.startswith(MAGIC_NUMBER) else b""


def _write_code(source: str, code: bytes) -> None:
    path = cache_from_source(source)
    if not os.path.isdir(folder := os.path.dirname(path)):
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103  # services that are not root read it
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(_header_of(source) + code)


def _read(path: str) -> bytes:
    """A file's content; nothing if it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
