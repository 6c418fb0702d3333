"""This machine: the programs it must have, by their Debian packages, and running them."""

import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from provision.errors import ToolkitError

Say = Callable[[str], None]
"""Shows a person one line about a step that takes a while."""

PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
# To run what mounts things: in namespaces that end when this process does, one that is killed
# leaves neither a mount nor a process behind.
ALONE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
OUTPUT_LINES = 8  # lines of a failed command's output that a person gets to see
SAID = 70  # characters of its line then
SAY_INTERVAL = 5.0  # seconds after which a person is told how far a command is


def ensure(programs: Mapping[str, str], say: Say) -> None:
    """Install the packages of the programs that are missing.

    ``programs`` maps a program on PATH, or a file by its absolute path, to the Debian package
    that brings it. Raises :class:`ToolkitError`, naming every missing package, where they
    cannot be installed.
    """
    packages = missing(programs)
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() or not shutil.which("apt-get"):
        raise ToolkitError(f"missing on this machine; as root: {' '.join(command)}")
    say(f"installing {', '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    execute_shown(["apt-get", "update"], say, env=quiet)
    with _no_services():
        execute_shown(command, say, env=quiet)
    if packages := missing(programs):
        raise ToolkitError(f"installed, and still not found: {', '.join(packages)}")


@contextmanager
def _no_services() -> Iterator[None]:
    """Packages bring their programs here, and start no daemon (policy-rc.d, invoke-rc.d(8))."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def missing(programs: Mapping[str, str]) -> list[str]:
    """The packages of those programs that are not on this machine."""
    return sorted({package for program, package in programs.items() if not _is_present(program)})


def execute(argv: Sequence[str], input: str = "", env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it wrote to stdout.

    Raises :class:`ToolkitError` with the command and the end of its output when it fails.
    """
    try:
        done = subprocess.run(
            argv,
            input=input,
            env={**os.environ, "PATH": PATH, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise ToolkitError(f"{argv[0]} is not installed on this machine") from None
    if done.returncode:
        raise _failed(argv, (done.stdout + done.stderr).strip().splitlines()[-OUTPUT_LINES:])
    return done.stdout


def execute_shown(
    argv: Sequence[str],
    say: Say,
    env: Mapping[str, str] | None = None,
    *,
    interval: float = SAY_INTERVAL,
) -> None:
    """Run a command that takes a while: what it does is said every ``interval`` seconds.

    Raises :class:`ToolkitError` as :func:`execute` does.
    """
    began = told = time.monotonic()
    last = deque[str](maxlen=OUTPUT_LINES)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": PATH, **(env or {})},
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise ToolkitError(f"{argv[0]} is not installed on this machine") from None
    with process:
        for line in process.stdout or ():
            last.append(line.strip().removeprefix("I: "))  # debootstrap's information
            if (now := time.monotonic()) - told >= interval:
                say(f"  {now - began:.0f} s: {last[-1][:SAID]}")
                told = now
    if process.returncode:
        raise _failed(argv, last)


def _failed(argv: Sequence[str], last: Iterable[str]) -> ToolkitError:
    lines = "\n  ".join(last)
    return ToolkitError(f"`{' '.join(argv)}` failed:\n  {lines}")


def _is_present(program: str) -> bool:
    found = os.path.exists(program) if program.startswith("/") else shutil.which(program, path=PATH)
    return bool(found)
