"""A job server's `gearmand --check-queue` in a transient unit with the settings of its own unit."""

from __future__ import annotations

import os
from collections.abc import Iterable


def unit_command(command: list[str], properties: Iterable[str], seconds: float) -> list[str]:
    """What runs ``command`` in such a unit for at most so long, and tells what it said."""
    options = [f"--property={each}" for each in (*properties, f"RuntimeMaxSec={seconds:.0f}")]
    unit = [f"--unit=gearman-queue-check-{os.getpid()}.service", "--collect", "--wait", "--pipe"]
    return ["systemd-run", "--quiet", *unit, *options, "--", *command]
