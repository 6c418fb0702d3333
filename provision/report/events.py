"""What happens in a plan or a deploy, as data: text now, JSON later, from the same stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from provision.errors import ToolkitError
from provision.plan import Plan
from provision.release.target import Target
from provision.remote.messages import OperationOutcome
from provision.resources.base import Change


@dataclass(frozen=True)
class Building:
    """A release for this kind of host is being built: it was not there yet."""

    target: Target


@dataclass(frozen=True)
class Planned:
    """What must change on a host is known."""

    host: str
    plan: Plan


@dataclass(frozen=True)
class Standing:
    """What runs on a host, by what it answered: nothing was changed."""

    host: str
    release: str
    units: Mapping[str, Mapping[str, Any]]  # as ``("unit", name)`` is answered
    pending: int
    apps: tuple[str, ...] = ()  # their releases


@dataclass(frozen=True)
class Begun:
    """The first of a host's changes is on its way."""

    host: str


@dataclass(frozen=True)
class Applied:
    """One of a host's changes is over, well or not."""

    host: str
    change: Change
    outcome: OperationOutcome


@dataclass(frozen=True)
class Verified:
    """A host was asked again after its last change, and is as wanted."""

    host: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A host could not be reached, planned, changed or verified."""

    host: str
    error: ToolkitError
    seconds: float


@dataclass(frozen=True)
class Skipped:
    """A host was left alone though it has changes pending, because of these hosts."""

    host: str
    because: tuple[str, ...]


@dataclass(frozen=True)
class Tried:
    """A release was staged on a host, and works there; nothing that runs was touched.

    ``untried``: functions of programs whose workers could not be tried.
    """

    host: str
    release: str
    seconds: float
    untried: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What is known of the release."""
        if not self.untried:
            return f"{self.release} works there"
        return f"{self.release} is there; {', '.join(self.untried)}: not tried (trial: false)"


@dataclass(frozen=True)
class Proved:
    """One proof that something works on a host."""

    host: str
    summary: str
    seconds: float


@dataclass(frozen=True)
class Upgraded:
    """A host runs another release, and was seen to do its work.

    ``back``: as the operator asked for what ran before.
    """

    host: str
    release: str
    seconds: float
    back: bool = False


@dataclass(frozen=True)
class PutBack:
    """A host runs again what it ran before."""

    host: str
    release: str
    seconds: float


@dataclass(frozen=True)
class Checked:
    """One job's way there and back; ``problem`` is None when the answer was right."""

    name: str
    seconds: float
    problem: str | None = None
    cure: str = ""  # what to try


@dataclass(frozen=True)
class Row:
    """A line of a table that someone asked for: as data, and as a person reads it."""

    data: Mapping[str, Any]
    lines: Sequence[str]  # what one of them holds of a host begins no other
    wraps: bool = False  # where the terminal is narrower; else its lines are another's


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and what to do about it if it is not well."""

    host: str
    state: Literal["ok", "warn", "fail"]
    check: str  # what was looked at, in a word or two
    text: str
    cure: str = ""


Event = (
    Building
    | Planned
    | Standing
    | Begun
    | Applied
    | Verified
    | Failed
    | Skipped
    | Tried
    | Proved
    | Upgraded
    | PutBack
    | Checked
    | Row
    | Finding
)
