"""Secrets of workers: kept where root alone can read."""

from __future__ import annotations

import os

from provision.agent.files import Content, write_file
from provision.agent.link import FrameLink


def write_secret(link: FrameLink, content: Content, path: str) -> None:
    """A file of root's alone, in a folder that is root's alone."""
    folder = os.path.dirname(path)
    above = os.path.dirname(folder)
    if not os.path.isdir(above):  # it comes before what makes this one, when a release is tried
        os.makedirs(above)
        os.chmod(above, 0o755)  # noqa: S103  the umask here would make it root alone its reader
    os.makedirs(folder, 0o700, exist_ok=True)
    write_file(link, content, path, owner="root", group="root", mode="0600")
