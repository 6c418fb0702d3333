"""A job as the function that does it sees it."""

from collections.abc import Callable
from typing import NoReturn

from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import Assignment

Data = bytes | str
Send = Callable[..., None]


class Failed(Exception):
    """Raised by WorkerJob.fail() to leave the function."""


class WorkerJob:
    """What a function is given: the workload, and the ways to speak of it while it runs.

    What a function returns is the result. What it raises reaches the client as one line,
    ``Type: text``; fail() ends the job without that.
    """

    def __init__(self, assignment: Assignment, server: str, send: Send) -> None:
        self.handle, self.function, self.unique, self.workload = assignment
        self.server = server
        self._send = send

    def __repr__(self) -> str:
        return f"<WorkerJob {self.function} {self.handle}>"

    def send_data(self, data: Data) -> None:
        """Send a part of the result now. From any thread; waits while the server is slow."""
        self._send(Packet.WORK_DATA, as_bytes(data))

    def send_warning(self, data: Data) -> None:
        """Warn the client; the job goes on."""
        self._send(Packet.WORK_WARNING, as_bytes(data))

    def send_status(self, numerator: int, denominator: int) -> None:
        """Say how far the job is: ``numerator`` of ``denominator``, in any measure."""
        self._send(Packet.WORK_STATUS, b"%d" % numerator, b"%d" % denominator)

    def fail(self, text: str | None = None) -> NoReturn:
        """End the job with WORK_FAIL; ``text`` goes to the client before it, as a warning."""
        if text is not None:
            self.send_warning(text)
        raise Failed(text or "the function called fail()")


def as_bytes(data: Data | None) -> bytes:
    """What a function hands over, as it goes on the wire: text is UTF-8, None is empty."""
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"the function returned {type(data).__name__}, not bytes, str or None")
