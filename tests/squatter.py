"""Another user of this machine, who takes abstract socket names and never accepts a connection."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
