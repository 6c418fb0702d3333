"""Programs that build packages: run quietly, and shown when they fail."""

import os
import subprocess
from pathlib import Path

from provision.errors import ToolkitError


def run_command(*command: str, cwd: Path, **environment: str) -> str:
    """What the command prints. Raises :class:`ToolkitError` with all of it when it fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise ToolkitError(f"package: {command[0]} is not installed") from None
    if done.returncode:
        raise ToolkitError(f"package: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
