"""The errors, by their names in python-gearman; all but ConnectionError are a GearmanError.

ServerUnavailable is also what a lost server is raised as. ConnectionError is Python's own,
the base of both errors that mean that no server answers.
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
    """A job's server was lost before it accepted it, as often as the job may be submitted."""


class InvalidAdminClientState(GearmanError):
    """The server did not answer in time."""


class InvalidClientState(GearmanError):
    """Not raised; here for those who catch it."""


class InvalidWorkerState(GearmanError):
    """Not raised; here for those who catch it."""


class UnknownCommandError(GearmanError):
    """Not raised; here for those who catch it."""


def unavailable(error: ConnectionLost) -> ServerUnavailable:
    """A lost connection, as python-gearman raises it."""
    return ServerUnavailable([(error.server, str(error))])
