"""How messages name a command of ours: as it is typed in the checkout, and for the same hosts."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

_typed: list[str] = []  # --hosts of the command that runs, as it was typed


@contextmanager
def same_hosts(hosts: str) -> Iterator[None]:
    """Within it, commands are named with these ``--hosts``; "": without any."""
    before = _typed[:]
    _typed[:] = ["--hosts", hosts] if hosts else []
    try:
        yield
    finally:
        _typed[:] = before


def invoke_line(task: str, *words: str) -> str:
    """A command to type, as in `./invoke deploy --hosts inventory/prod`."""
    return shlex.join(["./invoke", task, *words, *_typed])
