"""What the engine and a host's agent say to each other.

A question is a tuple of strings, so equal questions of two resources are asked once. Its
answer is JSON data, or :class:`Unknown` when it could not be had: never "absent" by mistake.

Which operations and questions there are is in operations.py and questions.py.

A release's tar holds MANIFEST.json, wheels/ (what the venv gets) and installer/, the wheel of what
installs them. It is unpacked as ROOT/releases/ID with a venv/ beside the wheels, and units/ for the
unit files that it will run with; it is whole when ROOT/releases/ID/.complete exists. ROOT/current
is a link that the plan makes.

A frame is a header (JSON) and a content (bytes), each with its length before it: `>IQ`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.remote.operations import OPERATIONS, check_operation

Question = tuple[str, ...]


@dataclass(frozen=True)
class Unknown:
    """An answer that could not be had, and why. A plan that meets one shows `?` and stops."""

    reason: str


Answer = Any
"""JSON data as provision/remote/questions.py says, None, or Unknown."""


@dataclass(frozen=True)
class Operation:
    """One thing for the agent to do. ``content`` may be a file on this machine, sent in pieces."""

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | Path | None = None

    def __post_init__(self) -> None:
        """Raises :class:`ValueError` when no agent could carry it out."""
        check_operation(self.kind, self.arguments, self.content)

    @property
    def shell_line(self) -> str:
        """What a person would type on the host, as root, to the same end."""
        return OPERATIONS[self.kind].shell_line(self.arguments)


@dataclass(frozen=True)
class OperationOutcome:
    """How one operation went, as the agent tells it when it is over."""

    operation: Operation
    seconds: float
    error: str | None = None
    output: str = ""  # the last lines a command printed, for the operator
