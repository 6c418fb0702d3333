"""Poll for a moment before sleeping when an answer is likely to come at once.

To be woken from sleep takes a process tens of microseconds, on a virtual machine as long as
the server takes for the job itself. So after writing to its peers the event loop polls for
LENGTH instead of sleeping, as long as that pays: once nothing came in that time it sleeps
again, until an answer comes within SOON by itself. An idle server sleeps. A busy one need not poll:
where many peers are written to, more is there to be read by the time that it looks, and what
comes together is done with fewer system calls.

Measured with one client and one worker, one job at a time: half the latency, no more CPU.
"""

import asyncio
import os
import time

LENGTH = 50e-6  # seconds
SOON = 200e-6  # with the time that it takes to be woken
# It is not busy when it wrote to no more than FEW peers, CALM times in succession.
FEW = 2
CALM = 8


class BusyPoll:
    """Keeps an event loop from sleeping."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._possible = len(os.sched_getaffinity(0)) > 1  # else it would keep the peers from work
        self._since = 0.0  # when something was written last
        self._pays_off = False
        self._polling = False
        self._calm = 0

    def note_write(self, peers: int) -> None:
        """Something was written to this number of peers."""
        self._since = time.perf_counter()
        self._calm = self._calm + 1 if peers <= FEW else 0
        if self._pays_off and not self._polling and self._calm >= CALM:
            self._polling = True
            self._loop.call_soon(self._poll_once)

    def note_read(self) -> None:
        """Something was read."""
        if self._polling:
            self._polling = False
        else:
            self._pays_off = self._possible and time.perf_counter() - self._since < SOON

    def _poll_once(self) -> None:
        if not self._polling:
            return
        if time.perf_counter() - self._since < LENGTH:
            os.sched_yield()
            self._loop.call_soon(self._poll_once)
        else:
            self._polling = self._pays_off = False
