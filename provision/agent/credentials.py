"""Secrets of workers: kept where root alone can read, and lent to a worker that is tried."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from provision.agent.files import Content, write_file
from provision.agent.link import FrameLink


def write_secret(link: FrameLink, content: Content, path: str) -> None:
    """A file of root's alone, in a folder that is root's alone."""
    os.makedirs(os.path.dirname(os.path.dirname(path)), 0o755, exist_ok=True)
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    write_file(link, content, path, owner="root", group="root", mode="0600")


@contextmanager
def lend_credentials(user: str, credentials: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a process of ``user`` that finds these files as systemd would give them.

    ``credentials``: name -> the file that holds it.
    """
    if not credentials:
        yield {}
        return
    owner = pwd.getpwnam(user)
    folder = tempfile.mkdtemp(prefix="gearman-trial-", dir="/run")  # which is never on a disk
    try:
        for name, path in credentials.items():
            copy = os.path.join(folder, name)
            descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            with open(descriptor, "wb") as target, open(path, "rb") as source:
                os.fchown(target.fileno(), owner.pw_uid, owner.pw_gid)
                shutil.copyfileobj(source, target)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        os.chmod(folder, 0o500)
        yield {"CREDENTIALS_DIRECTORY": folder}
    finally:
        shutil.rmtree(folder)
