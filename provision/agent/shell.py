"""A command that an operator wants to see run: what it says goes out as it says it.

It ends, with all it started, when its time is over, or the operator's side is gone or silent.
"""

from __future__ import annotations

import codecs
import os
import subprocess
import time
from typing import Any

from provision.agent.command import stop_command
from provision.agent.link import CHUNK_SIZE, COMMANDS, ENVIRONMENT, FrameLink, Gone


def stream_command(link: FrameLink, header: dict[str, Any], size: int) -> None:
    """Run ``argv`` for at most ``seconds``; tell its output in pieces, and then how it ended."""
    link.patience = header["patience"]
    deadline = time.monotonic() + header["seconds"]
    try:
        process = subprocess.Popen(
            header["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ if os.geteuid() else ENVIRONMENT,
            umask=0o022,
            start_new_session=True,
        )
    except OSError as error:
        link.send({"ended": None, "why": f"{header['argv'][0]}: {error.strerror}"})
        return
    assert process.stdout  # noqa: S101  # for mypy: it is a pipe
    output, open_, late = process.stdout.fileno(), True, False
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    try:
        # It may close its output and go on; or end, and leave it open to what it started.
        while (process.poll() is None or open_) and not late:
            left = deadline - time.monotonic()
            late = left < 0
            if not open_:
                link.wait(seconds=min(max(left, 0), 0.05))
            elif link.wait(output, min(max(left, 0), 0.5)):
                piece = os.read(output, CHUNK_SIZE)
                open_ = bool(piece)
                link.send({"said": decoder.decode(piece, final=not piece)})
            else:
                open_ = process.poll() is None
    except Gone:
        stop_command(process)
        raise
    if late:
        stop_command(process)
        link.send({"ended": None, "why": f"it did not end within {header['seconds']:g} s"})
    else:
        link.send({"ended": process.wait(), "why": None})


COMMANDS["stream"] = stream_command
