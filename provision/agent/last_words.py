"""What a program on trial wrote last, and which line of it tells why the program ended."""

from __future__ import annotations

import os
import re
import select
import threading

from provision.agent.command import OUTPUT_LIMIT

# What PHP, Perl, Node.js, Java, Ruby and Go write after the line that says why they end, ...
AFTER_CAUSE = re.compile(r"\s|#\d|[})]|BEGIN failed|Node\.js v|exit status \d")
# ... and such a line.
CAUSE = re.compile(r"(?!\s|#\d).*(error|exception|fatal|panic|can't|cannot)", re.IGNORECASE)
PIPE_SIZE = 1 << 16  # bytes that a pipe holds
POLL_INTERVAL = 0.1  # seconds


def find_cause(said: str) -> str:
    """The line of a program's last words that says why it ended: the last, or that of an error."""
    lines = [line for line in said.splitlines() if line.strip()]
    if AFTER_CAUSE.match(lines[-1]):
        causes = [line for line in lines if CAUSE.match(line)]
        return (causes or lines)[-1].strip()
    return lines[-1]


class LastWords:
    """Reads what is written to a named pipe, which it makes at ``path``, and keeps the end of it.

    A file in /run would grow in memory, as long as a program writes.
    """

    def __init__(self, path: str) -> None:
        os.mkfifo(path, 0o600)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # as a writer too: it has no end
        self._said = b""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read_on, daemon=True, name=path)
        self._reader.start()

    def read(self) -> str:
        """The end of what was written until now."""
        self._take()
        return self._said.decode(errors="backslashreplace").strip()

    def close(self) -> None:
        """Whoever still writes is told that the pipe is broken."""
        self._ended.set()
        self._reader.join()
        os.close(self._pipe)

    def _read_on(self) -> None:
        while not self._ended.is_set():
            if select.select([self._pipe], [], [], POLL_INTERVAL)[0]:
                self._take()

    def _take(self) -> None:
        """Take what the pipe holds."""
        with self._lock:
            try:
                piece = os.read(self._pipe, PIPE_SIZE)
            except BlockingIOError:  # nothing
                return
            self._said = (self._said + piece)[-OUTPUT_LIMIT:]
