"""Another user of this machine, who can take abstract socket names and accept no connection."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
PROGRAM = f"""
import contextlib, os, socket, sys
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
kept = []
for name in sys.argv[1:]:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("\\0" + name)
    listening.listen(0)
    kept.append(listening)
    with contextlib.suppress(BlockingIOError):  # there is no room for more
        while True:
            kept.append(connecting := socket.socket(socket.AF_UNIX))
            connecting.setblocking(False)
            connecting.connect("\\0" + name)
print("taken", flush=True)
sys.stdin.read()
"""


def let_others_in(folder: Path) -> None:
    """Let other users reach a folder of a test; how deep pytest makes it depends on the run."""
    for each in (folder, *folder.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)


@contextmanager
def taken_names(*names: str) -> Iterator[None]:
    """While another user has these names."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    words = [sys.executable, "-c", PROGRAM, *names]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        yield
        process.kill()
