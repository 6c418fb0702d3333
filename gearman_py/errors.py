"""Every error that this package raises at its callers.

Each message is written for a person and stands alone; the same facts are on the error as
attributes. What a reader would catch anyway is a base class too: ``TimeoutError`` of
``JobTimeout``, ``ConnectionError`` of the two that mean that no server answers.
"""

from collections.abc import Sequence
from typing import Any, Protocol


class FailedJob(Protocol):
    """What an error knows of the job it is about."""

    @property
    def function(self) -> str: ...
    @property
    def handle(self) -> str: ...
    def snapshot(self) -> "FailedJob":
        """The same facts without what ties them to this process: connections, locks."""


class GearmanError(Exception):
    """The base of all of them. Each can be copied and pickled, with its attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self._facts())

    def _facts(self) -> dict[str, Any]:
        return vars(self)


def _restored(kind: type[GearmanError], arguments: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """What was pickled, without its constructor: that takes other arguments than it passes on."""
    error = kind.__new__(kind)
    error.args = arguments
    vars(error).update(facts)
    return error


class ServerUnavailable(GearmanError, ConnectionError):
    """No server could be reached.

    ``attempts`` holds what was tried: each server as ``host:port``, and why it failed.
    """

    def __init__(self, attempts: Sequence[tuple[str, str]]) -> None:
        self.attempts = list(attempts)
        tried = "; ".join(f"{server}: {why}" for server, why in self.attempts)
        super().__init__(f"no job server answers ({tried})")


class ConnectionLost(GearmanError, ConnectionError):
    """The connection to ``server`` ended while something was awaited on it.

    For a job: with a ``handle`` the server had accepted it, and it may have run or may
    run yet. Without one the server may or may not have seen it.
    """

    def __init__(self, server: str, why: str, *, handle: str = "") -> None:
        self.server = server
        self.handle = handle
        fate = f"; job {handle} may have run or may run yet" if handle else ""
        super().__init__(f"lost the connection to {server}: {why}{fate}")


class ProtocolError(GearmanError):
    """A server sent what the Gearman protocol does not allow."""


class SubmitError(GearmanError):
    """A job was refused, most often by the server: its error ``code`` and ``text``."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"the job was refused: {text} ({code})")


class QueueFull(SubmitError):
    """The function has as many waiting jobs as the server was told to allow."""


class ArgumentTooLarge(SubmitError):
    """A unique is longer than 64 bytes, or a packet longer than client or server allow."""


class JobFailed(GearmanError):
    """The worker said that the job failed; warnings sent before may say why.

    ``job`` is the Job; in a copy, or after pickle, a JobSnapshot of it.
    """

    def __init__(self, job: FailedJob, why: str = "") -> None:
        self.job = job
        reason = f": {why}" if why else ""
        super().__init__(f"{job.function} failed{reason} (job {job.handle})")

    def _facts(self) -> dict[str, Any]:
        return {**vars(self), "job": self.job.snapshot()}


class JobException(JobFailed):
    """The worker said that the job failed, and why: ``text``, or ``data`` as it was sent."""

    def __init__(self, job: FailedJob, data: bytes) -> None:
        self.data = data
        self.text = data.decode(errors="backslashreplace")
        super().__init__(job, self.text)


class ResultTooLarge(JobFailed):
    """The job ran, but the worker sent more at once than this client's ``max_packet``."""


class JobTimeout(GearmanError, TimeoutError):
    """What was awaited did not come in time. The server was not told: a job may run yet."""


class AdminError(GearmanError):
    """The server answered an administrative command with an error."""
