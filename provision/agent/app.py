"""An app on a host, removed when no worker needs it."""

from __future__ import annotations

import re
import shutil

from provision.agent.change import OPERATIONS
from provision.agent.files import Content, Failure, sync_folder
from provision.agent.link import FrameLink


def remove_app(link: FrameLink, content: Content, root: str, name: str) -> None:
    """Remove an app with all its releases."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise Failure(f"{name!r} is not a valid name of an app")
    shutil.rmtree(f"{root}/{name}")
    sync_folder(root)


OPERATIONS["remove_app"] = remove_app
