"""A run on a shared database that goes on in another process of the same server.

The database sees one run: the new process sends the next beat. If the old one went on after all,
its next group would not fit, so jobs cannot be given out by both.
"""

from typing import Any

from gearman_py.store.base import StoreError
from gearman_py.store.database import Database
from gearman_py.store.shared import SharedStore

Values = dict[str, Any]
_NUMBERS = "_mine", "series", "lease", "_beat", "_last_beat", "_foreign_number", "_doubtful"


class PassableStore(SharedStore):
    """A shared store; ``passed`` are the values that the process before this one passed on."""

    def __init__(
        self,
        database: Database,
        prefix: bytes,
        *,
        accept_loss: bool = False,
        passed: Values | None = None,
    ) -> None:
        self._passed = passed
        super().__init__(database, prefix, accept_loss=accept_loss)
        if passed is not None:
            for name, value in zip(_NUMBERS, passed["numbers"], strict=True):
                setattr(self, name, value)
            self._known = set(passed["known"])
            self._home = dict(passed["home"])
            self._foreign = {number: (shelf, there) for number, (shelf, there) in passed["foreign"]}

    def _enrol_run(self) -> int:
        if self._passed is None:
            return super()._enrol_run()
        mine: int = self._passed["numbers"][0]
        return mine

    def pass_on(self) -> tuple[Values, list[int]]:
        """What the next process must know. Nothing is released: the lease goes on."""
        if self._unread:
            raise StoreError("the jobs of another server are being taken over; try again")
        return {
            "numbers": [getattr(self, name) for name in _NUMBERS],
            "known": sorted(self._known),
            "home": list(self._home.items()),
            "foreign": list(self._foreign.items()),
            "password": self._database.password,
        }, []

    def take_back(self) -> None:
        """Nothing was released."""
