"""A job as its function sees it, and the exceptions that leave that function."""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, NamedTuple, NoReturn

from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.protocol.packets import Packet
from gearman_py.serializer import Serializer
from gearman_py.worker.session import Assignment, must_fit
from gearman_py.worker.validation import check_seconds

Data = bytes | str
Send = Callable[..., None]
"""Sends a packet, given its type and its arguments after the handle."""

_log = logging.getLogger("gearman_py.worker")


class FunctionFailed(Exception):
    """Raised by WorkerJob.fail() to leave the function; its argument, if any, is the reason."""


class Requeue(Exception):
    """Raise it to give the job back to its server; any worker, this one too, may take it later.

    ``delay``: not before that many seconds have passed. The server counts it as an attempt
    (--job-retries); nothing is sent to the client. Raises ValueError or TypeError for an
    invalid delay.
    """

    def __init__(self, *arguments: object, delay: float = 0.0) -> None:
        check_seconds("delay", delay, zero=True)
        super().__init__(*arguments)
        self.delay = delay


class TimeLimit(Exception):
    """Raised inside a plain function after its ``soft_timeout``: the function should end soon."""


How = Literal["complete", "failed", "given back"]


class Outcome(NamedTuple):
    """How a job ended, for Worker.on_outcome()."""

    how: How
    why: str
    """The reason for a failure, as sent to the client; otherwise empty."""
    seconds: float
    """How long it took in this worker, with the retries that it did not leave to the server."""


class WorkerJob:
    """The argument of a function: the workload, and methods to send updates while the job runs.

    The return value of the function is the result. An exception reaches the client as one line,
    ``Type: text``; fail() ends the job with another text, Requeue gives it back.
    """

    attempt = 1
    """1 for the first run, 2 for the first of the function's ``retries``, and so on. If the server
    counts, as ours does for background jobs, attempts of other workers are among them."""

    def __init__(
        self,
        assignment: Assignment,
        server: str,
        send: Send,
        serializer: Serializer | None = None,
        max_packet: int = MAX_PACKET,
    ) -> None:
        self.handle, self.function, self.unique, self.workload, self.reducer, *_ = assignment
        self.wire_function = self.function  # with prefix and address, as the job came
        self.is_postponable = assignment.attempt > 0  # whether the server takes it back for later
        if self.is_postponable:
            self.attempt = assignment.attempt
        self.server = server
        self._send = send
        self._serializer = serializer
        self._max_packet = max_packet

    def __repr__(self) -> str:
        return f"<WorkerJob {self.function} {self.handle}>"

    @property
    def value(self) -> Any:
        """The workload, decoded by the worker's serializer. Raises ValueError if it is invalid."""
        return self.workload if self._serializer is None else self._serializer.loads(self.workload)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that prefixes each line with function and handle.

        Its records have attributes: ``function``, ``handle``, ``unique`` and ``attempt``.
        """
        facts = {"function": self.function, "handle": self.handle, "unique": self.unique}
        return _JobLog(_log, {**facts, "attempt": self.attempt})

    def send_data(self, data: Data) -> None:
        """Send a part of the result now, from any thread; waits while the server is slow.

        Raises DataTooLarge for more than the worker's ``max_packet``, here and in send_warning().
        """
        self._send_bytes(Packet.WORK_DATA, data)

    def send_warning(self, data: Data) -> None:
        """Send the client a warning; the job continues."""
        self._send_bytes(Packet.WORK_WARNING, data)

    def send_status(self, numerator: int, denominator: int) -> None:
        """Report progress: ``numerator`` of ``denominator``, in any unit."""
        self._send(Packet.WORK_STATUS, b"%d" % numerator, b"%d" % denominator)

    def fail(self, text: str | None = None) -> NoReturn:
        """End the job as failed; its client gets ``text`` as the reason."""
        raise FunctionFailed(*([] if text is None else [text]))

    def _send_bytes(self, packet: Packet, data: Data) -> None:
        sent = as_bytes(data)
        must_fit(self._max_packet, self.handle, sent)
        self._send(packet, sent)


class _JobLog(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        facts = self.extra or {}
        job = f"{facts['function']} {facts['handle']}"
        if args:  # the message is a format string then, and the function's name may contain a %
            job = job.replace("%", "%%")
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, f"{job}: {msg}", *args, **kwargs)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


def as_bytes(data: Data | None) -> bytes:
    """A function's result as it goes on the wire: text as UTF-8, None as an empty result."""
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"the function returned {type(data).__name__}, not bytes, str or None")
