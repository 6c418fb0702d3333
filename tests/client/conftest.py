"""Workers that run in a thread during a test."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from gearman_py import Worker


@contextmanager
def serving(worker: Worker) -> Iterator[None]:
    """Run a worker in a thread until the block ends."""
    loop = asyncio.new_event_loop()
    done = threading.Thread(target=loop.run_until_complete, args=(worker.serve(),))
    done.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(worker.drain)
        done.join(30)
        loop.close()


@pytest.fixture
def serve_worker() -> Iterator[Callable[[Worker], None]]:
    """Run a worker in a thread until the test ends."""
    with ExitStack() as stack:
        yield lambda worker: stack.enter_context(serving(worker))
