"""Many hosts at once, and an operator who interrupts."""

import os
import signal
import time
from threading import Event

import pytest

from provision.fleet.pool import run_on_each

WAITING = 0.5  # seconds, in which whoever started threads has come to wait for them


def test_an_interrupt_lets_those_at_work_end_and_begins_no_others() -> None:
    stopping = Event()
    begun: list[int] = []

    def work(item: int) -> bool:
        begun.append(item)
        time.sleep(WAITING)
        os.kill(os.getpid(), signal.SIGINT)
        return stopping.wait(30)

    with pytest.raises(KeyboardInterrupt):
        list(run_on_each([1, 2, 3], work, 1, stopping.set))
    assert begun == [1]
    assert stopping.is_set()
