"""`invoke demo` where the lab cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
# Root in a container has root's uid, and not its rights.
CONTAINED = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]


def demo(*arguments: str, through: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*through, sys.executable, "-m", "invoke", "demo", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_three_parts_run_on_this_machine() -> None:
    done = demo("--local", through=[])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("ok")] == lines[-3:]
    assert "lab cannot run" not in done.stdout


def test_a_machine_that_cannot_have_the_lab_is_told_why_and_served_all_the_same() -> None:
    done = demo(through=[] if os.geteuid() else CONTAINED)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("the lab cannot run here: ")
    assert ("root" if os.geteuid() else "namespaces") in first
    assert done.stdout.count("\nok ") == 3
