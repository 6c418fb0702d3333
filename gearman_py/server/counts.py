"""What a server counts beside its broker, and the task that keeps the counts in order."""

import asyncio

from gearman_py.broker.counts import BrokerCounts, Durations, Tally

# Seconds: upper bounds of what the event loop and the store take.
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
# Seconds between two looks at how late the event loop is; durations are settled then, too.
INTERVAL = 0.2

# Why a connection was closed.
LEFT = "left"  # by the peer
RESET = "reset"  # the peer or the network broke it off
INVALID = "invalid"  # what came cannot be understood
LIMIT = "limit"  # there are as many as are allowed
UNREAD = "unread"  # the peer did not read what it was sent
SLOW = "slow"  # the peer did not go on with what it was sending
GONE = "gone"  # the peer's host does not answer
MEMORY = "memory"
STORE = "store"  # it cannot be told whether its job is stored
CLOSE_REASONS = LEFT, RESET, INVALID, LIMIT, UNREAD, SLOW, GONE, MEMORY, STORE


class ServerCounts:
    """Connections opened, and closed by reason; bytes of closed ones; the lag of the event loop."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = Tally()
        self.received_before = self.sent_before = 0
        self.loop_lag = Durations(SHORT_BOUNDS)


async def watch_event_loop(counts: ServerCounts, broker: BrokerCounts) -> None:
    """Measure how late the event loop serves what is due, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL
        await asyncio.sleep(INTERVAL)
        counts.loop_lag.append(max(0.0, loop.time() - due))
        counts.loop_lag.settle()
        broker.settle()
