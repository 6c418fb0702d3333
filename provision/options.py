"""What an operator may say with every command that goes to hosts."""

from dataclasses import dataclass

from provision.errors import ToolkitError

HOSTS_AT_ONCE = 16  # that a command asks or plans
BATCH = "25%"  # hosts that an upgrade changes at once: a number, or a share of their group
SETTLE = 2.0  # seconds that a unit must stay up


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which hosts, which part of them, and how it is told."""

    limit: str | None = None  # hosts or groups, as in `worker*,!worker2`
    tags: str = ""  # only what has one of these, comma-separated
    yes: bool = False  # do not ask
    verbose: bool = False
    json: bool = False
    quiet: bool = False  # show no events
    parallel: int = HOSTS_AT_ONCE
    wait: float = 0.0  # seconds for hosts that another run has locked
    again: bool = False  # also a release that was given up before

    def __post_init__(self) -> None:
        """Raises :class:`ToolkitError`."""
        if self.parallel < 1:
            raise ToolkitError(f"--parallel {self.parallel}: say 1 or more")
        if self.wait < 0:
            raise ToolkitError(f"--wait {self.wait:g}: say 0 seconds or more")
