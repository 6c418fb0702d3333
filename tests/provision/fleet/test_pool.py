"""Many hosts at once, and an operator who interrupts."""

import os
import signal
import time
from queue import SimpleQueue
from threading import Event, get_ident
from typing import Any

import pytest

from provision.fleet import pool
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


def test_an_interrupt_that_ends_no_wait_is_noticed_too() -> None:
    stopping, seen = Event(), list[bool]()

    def work(item: int) -> bool:
        time.sleep(WAITING)
        signal.pthread_kill(get_ident(), signal.SIGINT)  # the waiting thread is not woken
        seen.append(stopping.wait(10))
        return True

    with pytest.raises(KeyboardInterrupt):
        list(run_on_each([1], work, 1, stopping.set))
    assert seen == [True]


def test_an_interrupt_loses_no_result_that_comes_at_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(SimpleQueue):  # type: ignore[type-arg]  # of what threads tell
        interrupts = 1

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            found = super().get(block, timeout)
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt
            return found

    monkeypatch.setattr(pool, "SimpleQueue", Interrupted)
    came = []
    with pytest.raises(KeyboardInterrupt):
        for item, result in run_on_each([1], lambda item: item + 1, 1, lambda: None):
            came.append((item, result))
    assert came == [(1, 2)]
