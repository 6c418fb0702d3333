"""What must never be seen: not in a log, a diff, a process list or a traceback.

Besides a file of the inventory (encrypted: vault.py), a secret may come from a variable of the
environment or from a command's output, such as a password manager's.
"""

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from provision.errors import InventoryError

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


def make_secret(what: str, value: Any, where: object) -> Secret:
    """A text, a `!vault` one, or where to get it: `{env: NAME}` or `{cmd: [pass, show, x]}`.

    ``where`` it stands and ``what`` it is begin each message. Raises :class:`InventoryError`, and
    so does the secret when it is needed and cannot be had.
    """
    match value:
        case Secret():
            return value
        case str() if value.strip():
            return Secret(value)
        case str():
            raise InventoryError(f"{where}: {what} is empty: give it a value, or take it out")
        case {"env": str(variable), **more} if not more:
            return Secret(lambda: _fetch_secret(what, where, from_environment, variable))
        case {"cmd": [_, *_] as argv, **more} if not more and all(
            isinstance(each, str) for each in argv
        ):
            return Secret(lambda: _fetch_secret(what, where, from_command, argv))
        case dict():
            ways = "{env: NAME} or {cmd: [PROGRAM, ARGUMENT]}"
            raise InventoryError(f"{where}: {what}: a secret comes from {ways}")
    found = "nothing" if value is None else "something else"
    quoted = "; put it in quotes" if isinstance(value, (int, float)) else ""
    raise InventoryError(f"{where}: {what} should be a string, and is {found}{quoted}")


def _fetch_secret(what: str, where: object, get: Callable[[Any], str], source: Any) -> str:
    try:
        text = get(source)
    except ValueError as error:
        raise InventoryError(f"{where}: {what}: {error}") from None
    if not text:
        raise InventoryError(f"{where}: {what}: there is nothing in it")
    return text


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
        raise ValueError(f"`{line}` did not end within {SECRET_TIMEOUT:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise ValueError(f"`{line}` ended with status {done.returncode}{why}")
    return done.stdout.decode(errors="replace").removesuffix("\n")
