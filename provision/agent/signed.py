"""Signed releases: what a host unpacks, if it says whose signature releases need.

ROOT/release_signers is a file of allowed signers, as ssh-keygen(1) reads it. Without it nothing has
to be signed. What is signed is a statement: which release of which root, its digest, and when. The
latest statement of each root is kept, so that an older one is not accepted again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from provision.agent.command import run_command
from provision.agent.files import Content, Failure, copy_content, sync_folder
from provision.agent.link import CHUNK_SIZE, FrameLink

SIGNERS = "release_signers"
UNSIGNED = "it is not signed"  # how such a refusal begins
LATEST = ".release_signatures"
IDENTITY = "gearman-release"  # the signer's name and the signature's namespace
CLOCKS_APART = 300.0  # seconds by which the operator's clock may be ahead

accepted: set[tuple[str, str, str]] = set()  # root, id, digest: by this process


def accept_signature(
    link: FrameLink, content: Content, root: str, statement: str, signature: str
) -> None:
    """Verify who signed a statement, and that none that is newer was accepted before."""
    place = _find_place(root)
    if place is None:
        return
    _verify(link, f"{place}/{SIGNERS}", statement, signature)
    told = json.loads(statement)
    if told["root"] != root:
        raise Failure(f"its signature is for {told['root']}, and not for {root}")
    _note_latest(f"{place}/{LATEST}", told)
    accepted.add((root, told["id"], told["digest"]))


def must_be_signed(root: str, id: str, digest: str) -> bool:
    """Whether this has to be signed. Raises :class:`Failure` if it has and is not."""
    place = _find_place(root)
    if place is None:
        return False
    if (root, id, digest) not in accepted:
        raise Failure(
            f"{UNSIGNED}, and {place}/{SIGNERS} says that it must be: set gearman_signing_key; "
            "nothing was changed"
        )
    return True


@contextmanager
def received_whole(content: Content, folder: str, digest: str) -> Iterator[Any]:
    """The content as a file without a name, once all of it has come and is what was signed."""
    with tempfile.TemporaryFile(dir=folder) as file:
        copy_content(content, file)
        content.verify_digest(digest)
        file.seek(0)
        yield file


def write_signers(link: FrameLink, content: Content, root: str) -> None:
    """Say whose signature counts from now on: signed by one whose signature counts now."""
    data = b"".join(iter(lambda: content.read(CHUNK_SIZE), b""))
    content.verify_digest()
    must_be_signed(root, SIGNERS, hashlib.sha256(data).hexdigest())
    _replace(f"{root}/{SIGNERS}", data)


def _find_place(root: str) -> str | None:
    """Where the signers of a root stand: there, or, of an app's, in the one above apps/NAME."""
    for place in (root, os.path.dirname(os.path.dirname(root))):
        if os.path.exists(f"{place}/{SIGNERS}"):
            return place
    return None


def _verify(link: FrameLink, signers: str, statement: str, signature: str) -> None:
    if shutil.which("ssh-keygen") is None:
        raise Failure("ssh-keygen, which verifies signatures, is missing: install openssh-client")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as signed:
        path = f"{folder}/signature"
        with open(path, "w", encoding="utf-8") as file:
            file.write(signature)
        signed.write(statement.encode())
        signed.seek(0)
        verify = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", IDENTITY, "-n", IDENTITY]
        try:
            run_command(link, [*verify, "-s", path], stdin=signed.fileno())
        except Failure as failure:
            raise Failure(
                f"its signature is not by a key in {signers}; nothing was changed", failure.output
            ) from None


def _note_latest(path: str, told: dict[str, Any]) -> None:
    """Keep the latest statement of a root. Raises :class:`Failure` for an older one."""
    try:
        with open(path, encoding="utf-8") as file:
            latest = json.load(file)
    except FileNotFoundError:
        latest = {}
    before = latest.get(told["root"])
    if before and told != before and told["time"] <= before["time"]:
        raise Failure(
            f"it was signed {_format_time(told['time'])}, and what was signed "
            f"{_format_time(before['time'])} was accepted here since: an old signature does not "
            "count again; deploy again to sign it now, and compare the clocks of those who sign"
        )
    if told["time"] > time.time() + CLOCKS_APART:
        raise Failure(f"it was signed {_format_time(told['time'])}, which is later than now here")
    latest[told["root"]] = told
    _replace(path, json.dumps(latest).encode())


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _replace(path: str, data: bytes) -> None:
    """Write a file of root's, atomically."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".gp-")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(os.path.dirname(path))
