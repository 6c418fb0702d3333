"""The event loop of job server and workers: uvloop where it is installed, else asyncio's own.

asyncio's loop is slower, and a job server out of file descriptors leaves new connections
waiting where uvloop lets it refuse them.
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, for :class:`asyncio.Runner`."""
    try:
        import uvloop
    except ImportError:  # it comes with the extra gearman_py[server]
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
