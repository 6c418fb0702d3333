"""The errors, with their names in python-gearman; all but ConnectionError are GearmanErrors.

ServerUnavailable also means that a server was lost. ConnectionError is Python's own, the base of
both errors that mean that no server answers.
"""

from builtins import ConnectionError

from gearman_py.errors import ConnectionLost, GearmanError, ProtocolError, ServerUnavailable

__all__ = [
    "ConnectionError",
    "ExceededConnectionAttempts",
    "GearmanError",
    "InvalidAdminClientState",
    "InvalidClientState",
    "InvalidWorkerState",
    "ProtocolError",
    "ServerUnavailable",
    "UnknownCommandError",
]


class ExceededConnectionAttempts(GearmanError):
    """A job was submitted ``max_retries`` + 1 times, and its server was lost each time."""


class InvalidAdminClientState(GearmanError):
    """The server did not answer in time."""


class InvalidClientState(GearmanError):
    """Never raised; for code that catches it."""


class InvalidWorkerState(GearmanError):
    """Never raised; for code that catches it."""


class UnknownCommandError(GearmanError):
    """Never raised; for code that catches it."""


def unavailable(error: ConnectionLost) -> ServerUnavailable:
    """A lost connection as the error that python-gearman raises."""
    return ServerUnavailable([(error.server, str(error))])
