"""Secrets of workers: kept where root alone can read."""

from __future__ import annotations

import os

from provision.agent.files import Content, write_file
from provision.agent.link import FrameLink


def write_secret(link: FrameLink, content: Content, path: str) -> None:
    """A file of root's alone, in a folder that is root's alone."""
    os.makedirs(os.path.dirname(os.path.dirname(path)), 0o755, exist_ok=True)
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    write_file(link, content, path, owner="root", group="root", mode="0600")
