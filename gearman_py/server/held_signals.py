"""Signals that come while a server is reloaded: the process that serves from then on gets them.

During the pause of a reload the event loop stands still. It handles what came meanwhile if it goes
on; if it does not, they are passed to the new program.
"""

import signal
from types import FrameType, TracebackType
from typing import Self

STOPPING = signal.SIGTERM, signal.SIGINT
HELD = *STOPPING, signal.SIGUSR1, signal.SIGHUP


class HeldSignals:
    """Notes the signals that come within it; handlers of an event loop get them afterwards too."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    @property
    def numbers(self) -> list[int]:
        """Those that have come, each once."""
        return sorted(self._numbers)

    def __enter__(self) -> Self:
        # The event loop reads their numbers from its wakeup descriptor, whatever is called here.
        self._before = {number: signal.signal(number, self._note) for number in HELD}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
            signal.siginterrupt(number, False)  # as the event loop has it

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._numbers.add(number)
