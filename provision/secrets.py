"""What must never be seen: not in a log, a diff, a process list or a traceback."""

import os
import sys
from getpass import getpass
from threading import Lock
from typing import Any

VARIABLE = "GEARMAN_SUDO_PASSWORD"


class Secret:
    """A text that shows itself only to who says :meth:`reveal`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not written anywhere")


class SudoPassword:
    """Where a sudo password comes from: the inventory, the environment, or the person, once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._typed: Secret | None = None

    def __call__(self, name: str, inventory: Secret | None = None) -> Secret | None:
        """The password for host ``name``; None when there is nobody to ask."""
        if inventory is not None:
            return inventory
        if VARIABLE in os.environ:
            return Secret(os.environ[VARIABLE])
        with self._lock:
            if self._typed is None and sys.stdin.isatty() and sys.stderr.isatty():
                self._typed = Secret(getpass(f"sudo password (first asked for by {name}): "))
            return self._typed
