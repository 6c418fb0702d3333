"""What was done is written down on a host: lines of JSON that are only ever added to."""

from __future__ import annotations

import json
import os
from typing import Any

from provision.agent.link import COMMANDS, FrameLink


def record_entry(link: FrameLink, header: dict[str, Any], size: int) -> None:
    """Add a line to a file: what was done, by whom."""
    path = header["path"]
    try:
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o640)  # for the folder's group, whatever the umask is
            os.write(descriptor, json.dumps(header["entry"]).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        link.send({"refused": f"{error.filename or path}: {error.strerror}"})
    else:
        link.send({"refused": None})


COMMANDS["record"] = record_entry
