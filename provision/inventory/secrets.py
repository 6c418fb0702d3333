"""What must never be seen: not in a log, a diff, a process list or a traceback.

Besides a file of the inventory (encrypted: vault.py), a secret may come from a variable of the
environment or from a command's output, such as a password manager's.
"""

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

SECRET_TIMEOUT = 60.0  # seconds for a command that gives a secret


class Secret:
    """A text that shows itself only to who says :meth:`reveal`.

    ``text`` may be a function that gets it, called once, when it is first needed.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | Callable[[], str]) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text. Raises what getting it raises."""
        if not isinstance(self._text, str):
            self._text = self._text()
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not written anywhere")


def from_environment(name: str) -> str:
    """Raises ValueError for an unknown variable."""
    try:
        return os.environ[name]
    except KeyError:
        raise ValueError(f"${name} is not set") from None


def from_command(argv: Sequence[str]) -> str:
    """What a command prints, without the last line's end. Raises ValueError when it fails."""
    line = shlex.join(argv)
    try:
        done = subprocess.run(argv, capture_output=True, timeout=SECRET_TIMEOUT, check=False)
    except OSError as error:
        raise ValueError(f"`{line}`: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"`{line}` was not over after {SECRET_TIMEOUT:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise ValueError(f"`{line}` ended with status {done.returncode}{why}")
    return done.stdout.decode(errors="replace").removesuffix("\n")
