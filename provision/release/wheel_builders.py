"""What makes wheels on this machine: pip, and the backend of our own wheel."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.errors import LoginRefused, ToolkitError

# zip cannot hold a date before 1980; this is the one hatchling takes when told nothing.
ENVIRONMENT = {"SOURCE_DATE_EPOCH": "1580601600"}
PURE = {"GEARMAN_PURE": "1"}


class PipFailed(ToolkitError):
    """pip ended with an error; the message has its last lines."""


LOGIN_REFUSED = re.compile(r"\b40[13] Client Error: .* for url: \w+://(?:[^/\s]*@)?([^/\s]+)")


def run_pip(*arguments: str) -> None:
    """Run pip with the operator's configuration. Raises PipFailed, LoginRefused."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        command += ["--log", log.name, *arguments]
        done = _run(command, ENVIRONMENT | PURE)
        absent = done.returncode and "No matching distribution" in done.stderr
        refused = LOGIN_REFUSED.search(log.read() if absent else done.stderr)
    if done.returncode and refused:
        raise LoginRefused(
            f"the package index at {refused[1]} refused the login: mend user and password where "
            "pip has them on this machine (`pip config debug` lists the files; PIP_INDEX_URL and "
            "~/.netrc count too)"
        )
    if done.returncode:
        raise PipFailed(f"pip {arguments[0]} said:\n{_last_lines(done.stderr)}")


def build_wheel(project: Path, folder: Path, platforms: Sequence[str] = ()) -> None:
    """Build gearman_py's wheel from a checkout of it, as pip would, in half the CPU time.

    With ``platforms`` it has the accelerator, for one of these platform tags. Raises ToolkitError.
    """
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = _run(command, ENVIRONMENT | ({} if platforms else PURE), project)
    said = _last_lines(done.stderr)
    if done.returncode:
        raise ToolkitError(f"gearman_py's wheel cannot be built; hatchling said:\n{said}")
    built = {path.stem.rpartition("-")[2] for path in folder.glob("gearman_py-*.whl")}
    if platforms and not built & set(platforms):
        raise ToolkitError(
            f"gearman_py's accelerator cannot be built for {platforms[0]}; with GEARMAN_PURE=1 in "
            f"the environment, releases are built without it. hatchling said:\n{said}"
        )


def _run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _last_lines(said: str) -> str:
    return "\n".join(f"    {line}" for line in said.splitlines()[-12:])
