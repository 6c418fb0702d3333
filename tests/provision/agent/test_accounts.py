"""What an account has left on a host is found beside what others do there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provision.agent.accounts import find_traces
from tests.attacks import attack

FLAPPING = """
import os, pathlib, sys
paths = [pathlib.Path(sys.argv[1], str(n)) for n in range(300)]
print(flush=True)
while os.getppid() == int(sys.argv[2]):
    for path in paths: path.touch()
    for path in paths: path.unlink()
"""


@pytest.mark.slow
@attack("local user", "fail a retirement by files that come and go", "mended")
def test_files_that_come_and_go_are_passed_over(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FLAPPING, str(tmp_path), str(os.getpid())]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as flapping:
        assert flapping.stdout
        flapping.stdout.readline()
        try:
            for place in (f"{tmp_path}/*", str(tmp_path)):
                assert find_traces("daemon", [place] * 200)
        finally:
            flapping.kill()
