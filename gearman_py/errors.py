"""All errors that this package raises to its callers.

Messages are written for people and stand alone; the facts are also attributes of the error.
``JobTimeout`` is a ``TimeoutError``; ``ServerUnavailable`` and ``ConnectionLost`` are
``ConnectionError``.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from gearman_py.printable import printable, shorten

_SHOWN_REASON = 10_000  # characters


class JobFacts(Protocol):
    """What an error needs to know about its job."""

    @property
    def function(self) -> str: ...
    @property
    def handle(self) -> str: ...
    def snapshot(self) -> "JobFacts":
        """The facts without connections and locks, which belong to this process."""


class GearmanError(Exception):
    """The base class. All errors can be copied and pickled, with their attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_error, (type(self), self.args, self._pickled_facts())

    def _pickled_facts(self) -> dict[str, Any]:
        return vars(self)


def _restore_error(
    kind: type[GearmanError], arguments: tuple[Any, ...], facts: dict[str, Any]
) -> Any:
    """Unpickle without the constructor, whose arguments differ from ``error.args``."""
    error = kind.__new__(kind)
    error.args = arguments
    vars(error).update(facts)
    return error


class ServerUnavailable(GearmanError, ConnectionError):
    """No server could be reached.

    ``attempts`` lists what was tried: each server as ``host:port``, and why it failed. ``others``
    says what became of the command at other servers, if all of them were to be asked.
    """

    def __init__(self, attempts: Sequence[tuple[str, str]], others: str = "") -> None:
        self.attempts = list(attempts)
        tried = "; ".join(f"{server}: {why}" for server, why in self.attempts)
        if others:
            super().__init__(f"not all job servers answer ({tried}); {others}")
        else:
            super().__init__(f"no job server answers ({tried})")


class ConnectionLost(GearmanError, ConnectionError):
    """The connection to ``server`` ended before the answer.

    A job with a ``handle`` was accepted: it may have run or may still run. Without one, the
    server may or may not have received it.
    """

    def __init__(self, server: str, why: str, *, handle: str = "") -> None:
        self.server = server
        self.handle = handle
        fate = f"; job {handle} may have run or may still run" if handle else ""
        super().__init__(f"lost the connection to {server}: {why}{fate}")


class ProtocolError(GearmanError):
    """A server sent something that the Gearman protocol does not allow."""


class SubmitError(GearmanError):
    """A job was refused, usually by the server, with an error ``code`` and ``text``."""

    _what_happened = "the job was refused"

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{self._what_happened}: {text} ({code})")


class QueueFull(SubmitError):
    """The queue of the function is full."""


class ArgumentTooLarge(SubmitError):
    """A unique is longer than 64 bytes, or a packet is larger than client or server allow."""

    _what_happened = "the job was not submitted"


class UnknownJob(GearmanError):
    """result() was asked for a job that no server knows, or not any longer."""

    def __init__(self, handle: str, why: str) -> None:
        self.handle = handle
        super().__init__(f"job {handle} is unknown: {why}")


class ResultsUnsupported(GearmanError):
    """result() was asked for a job that is at none of our servers, and others keep no results."""

    def __init__(self, handle: str, servers: Sequence[str]) -> None:
        self.handle = handle
        self.servers = list(servers)
        names = " and ".join(self.servers)
        super().__init__(
            f"no result of job {handle}: {names} cannot be asked for results, which only job "
            "servers of gearman_py keep"
        )


class JobFailed(GearmanError):
    """The worker reported that the job failed; earlier warnings may say why.

    ``job`` is the Job, or a JobSnapshot of it after a copy or pickling. The message has control
    characters escaped, and of a long reason only the beginning and the end.
    """

    def __init__(self, job: JobFacts, why: str = "") -> None:
        self.job = job
        reason = f": {printable(shorten(why, _SHOWN_REASON))}" if why else ""
        super().__init__(f"{job.function} failed{reason} (job {job.handle})")

    def _pickled_facts(self) -> dict[str, Any]:
        return {**vars(self), "job": self.job.snapshot()}


class JobException(JobFailed):
    """The worker reported why the job failed: ``text``, or ``data`` as it was sent."""

    def __init__(self, job: JobFacts, data: bytes) -> None:
        self.data = data
        self.text = data.decode(errors="backslashreplace")
        super().__init__(job, self.text)


class ResultTooLarge(JobFailed):
    """The job ran, but the worker sent a packet larger than the client's ``max_packet``."""


class DataTooLarge(GearmanError, ValueError):
    """A worker's function sends or returns more than fits into a packet (``max_packet``)."""


class JobTimeout(GearmanError, TimeoutError):
    """A timeout. The server does not know about it: the job may still run."""


class AdminError(GearmanError):
    """The server answered an administrative command with an error."""
