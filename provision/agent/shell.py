"""A command that an operator wants to see run: what it says goes out as it says it.

It ends, with all it started, when the operator's side is gone.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from provision.agent.command import stop
from provision.agent.link import COMMANDS, ENVIRONMENT, PIECE, Gone, Link


def stream(link: Link, header: dict[str, Any], size: int) -> None:
    """Run ``argv`` for at most ``seconds``; tell its output in pieces, and then how it ended."""
    deadline = time.monotonic() + header["seconds"]
    try:
        process = subprocess.Popen(
            header["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ if os.geteuid() else ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        link.send({"ended": None, "why": f"{header['argv'][0]}: {error.strerror}"})
        return
    assert process.stdout  # noqa: S101  # for mypy: it is a pipe
    output, late = process.stdout.fileno(), False
    try:
        while not late:
            late = time.monotonic() > deadline
            if link.wait(output, 0.5):
                piece = os.read(output, PIECE)
                if not piece:
                    break
                link.send({"said": piece.decode(errors="backslashreplace")})
            elif process.poll() is not None:
                break  # what it started keeps its output open
    except Gone:
        stop(process)
        raise
    if late:
        stop(process)
        link.send({"ended": None, "why": f"it was not over after {header['seconds']:g} s"})
    else:
        link.send({"ended": process.wait(), "why": None})


COMMANDS["stream"] = stream
