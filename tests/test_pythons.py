"""A little of each layer runs on the other Pythons that gearman_py is for."""

import os
import subprocess
import sys

import pytest

from provision.lab import programs
from tests.pythons import PYTHONS, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a chroot"),
    pytest.mark.skipif(
        bool(programs.missing({"apt-get": "apt", "dpkg-deb": "dpkg"})), reason="needs Debian's apt"
    ),
]


@pytest.mark.parametrize("version", PYTHONS)
def test_it_runs_on(version: str) -> None:
    command = [sys.executable, "-m", "tests.pythons", version]
    done = subprocess.run([*command, "--fast"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
