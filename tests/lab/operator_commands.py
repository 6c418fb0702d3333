"""Commands of an operator, `./invoke deploy` and its like, as processes of their own."""

import os
import subprocess
from pathlib import Path

from tests.forked import ForkedProcess

ROOT = Path(__file__).resolve().parents[2]


def start_command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command without input; ``stdout`` has its errors too."""
    return _start(arguments, environment, subprocess.STDOUT)


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output and its errors are apart."""
    with _start(arguments, environment, subprocess.PIPE) as command:
        output, errors = command.communicate()
    return subprocess.CompletedProcess(arguments, command.returncode, output, errors)


def _start(
    arguments: tuple[str, ...], environment: dict[str, str], stderr: int
) -> subprocess.Popen[str]:
    return ForkedProcess(
        "tests.lab.toolkit",
        ("--search-root", str(ROOT), *arguments),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
        errors="replace",
    )
