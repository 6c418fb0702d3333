"""The event loop of job server and workers: uvloop if it is installed, else asyncio's own.

asyncio's loop is slower, and when a job server runs out of file descriptors it leaves new
connections waiting, where uvloop lets it refuse them.
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, for :class:`asyncio.Runner`."""
    try:
        import uvloop
    except ImportError:  # it is part of the extra gearman_py[server]
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
