"""An agent on this machine, over a pipe: the real one, without SSH."""

from pathlib import Path

from provision.remote.local_channel import LocalChannel
from provision.remote.session import Session


def session(folder: Path) -> Session:
    """A session with this machine, whose lock is in ``folder``."""
    return Session("here", LocalChannel, lock_file=str(folder / "lock"))
