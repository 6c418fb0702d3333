"""The toolkit's exceptions. Each is a message to a person and an exit status.

0 converged, or applied and verified · 1 wrong usage or inventory · 2 `plan`: changes
pending · 3 a host failed · 4 unreachable, or host key or credentials refused · 5 failed
and rolled back · 6 locked by another deploy · 130 interrupted
"""

from collections.abc import Iterable


class ToolkitError(Exception):
    """What was wrong, where, and what to do, in one or a few lines. Never a traceback."""

    status = 1


def raise_all(errors: Iterable[ToolkitError]) -> None:
    """Raise all of these as one, of the kind of the first; those that say the same count once."""
    if found := list(errors):
        raise type(found[0])("\n".join(dict.fromkeys(map(str, found))))


class InventoryError(ToolkitError):
    """The inventory, or a value in it, is wrong. The message begins with file:line."""


class HostFailed(ToolkitError):
    """A change or a check failed on a host."""

    status = 3


class Unreachable(ToolkitError):
    """No session with a host: no route, unknown host key, refused key, refused sudo."""

    status = 4


class PasswordRefused(Unreachable):
    """sudo's password was wrong."""


class RolledBack(ToolkitError):
    """An upgrade failed, and every host runs what it ran before."""

    status = 5


class Interrupted(ToolkitError):
    """The operator interrupted a run: this host's part of it stopped between two changes."""

    status = 130


class Locked(ToolkitError):
    """Another deploy holds a host's lock; ``nonce``: the number that the holder gave the lock."""

    status = 6

    def __init__(self, message: str, nonce: str = "") -> None:
        super().__init__(message)
        self.nonce = nonce


class LoginRefused(ToolkitError):
    """A package index wants a login and got none, or does not take the one that it got."""
