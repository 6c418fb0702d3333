"""How an upgrade goes about it: how many hosts at once, and how many of them may fail."""

from dataclasses import dataclass
from math import ceil

from provision.errors import ToolkitError
from provision.options import BATCH, SETTLE

MAX_SETTLE = 3600  # seconds


@dataclass(frozen=True, kw_only=True)
class RolloutPolicy:
    """What an operator may say of an upgrade or a rollback."""

    batch: str = BATCH
    max_fail: int = 0  # hosts that may fail, and are put back, while the others go on
    settle: float = SETTLE  # seconds that a unit must stay up
    gap: bool = False  # a function may be without a worker for a moment

    def __post_init__(self) -> None:
        """Raises :class:`ToolkitError`."""
        if self.max_fail < 0:
            raise ToolkitError(f"--max-fail {self.max_fail}: say 0 or more")
        if not 0 <= self.settle <= MAX_SETTLE:
            raise ToolkitError(f"--settle {self.settle:g}: say 0 to {MAX_SETTLE} seconds")
        self.batch_size(1)

    def batch_size(self, hosts: int) -> int:
        """Hosts at once, of a group of this many. Raises :class:`ToolkitError`."""
        text = self.batch.strip()
        share = text.endswith("%")
        digits = text.removesuffix("%")
        if not digits.isdigit() or not int(digits) or (share and int(digits) > 100):
            raise ToolkitError(f"--batch {self.batch}: say a number of hosts, or a share as 25%")
        return max(1, ceil(hosts * int(digits) / 100) if share else int(digits))
