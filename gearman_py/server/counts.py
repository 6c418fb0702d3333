"""Counts of the server beside those of its broker, and the task that measures the event loop."""

import asyncio

from gearman_py.broker.counts import Durations, Tally
from gearman_py.broker.queues import Queues

# Upper bounds of the buckets for delays of the event loop and the store, in seconds.
SHORT_BOUNDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
# Seconds between two measurements of the event loop's lag; durations are sorted into buckets then.
INTERVAL = 0.2

# Why a connection was closed.
LEFT = "left"  # by the peer
RESET = "reset"  # by the peer or the network, without a proper end
INVALID = "invalid"  # the peer sent something that is not valid
LIMIT = "limit"  # too many connections
UNREAD = "unread"  # the peer did not read what it was sent
SLOW = "slow"  # the peer did not finish what it was sending
GONE = "gone"  # the peer's host does not answer
MEMORY = "memory"
STORE = "store"  # the server does not know whether the peer's job was stored
DRAINED = "drained"  # clients of a draining server leave for others
RELAYED = "relayed"  # the peer is to leave the process that has its TLS session
CLOSE_REASONS = (
    *(LEFT, RESET, INVALID, LIMIT, UNREAD, SLOW, GONE, MEMORY, STORE, DRAINED),
    RELAYED,
)


class ServerCounts:
    """Connections opened, and closed by reason; bytes of closed ones; the lag of the event loop."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = Tally()
        self.received_before = self.sent_before = 0
        self.loop_lag = Durations(SHORT_BOUNDS)


async def watch_event_loop(counts: ServerCounts, queues: Queues) -> None:
    """Measure the lag of the event loop until cancelled, and note how many jobs come."""
    loop = asyncio.get_running_loop()
    while True:
        queues.demand.set_mark(queues.counts.functions, queues.functions, loop.time())
        due = loop.time() + INTERVAL
        await asyncio.sleep(INTERVAL)
        counts.loop_lag.append(max(0.0, loop.time() - due))
        counts.loop_lag.settle()
        queues.counts.settle()
