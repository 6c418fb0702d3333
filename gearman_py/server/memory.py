"""Memory: a limit that the server keeps itself, and what is free is given back to the system.

Above the limit no new job is taken. Clients are told so (ERROR QUEUE_ERROR) and may go on
elsewhere; workers go on, which makes room. What then still grows is what connections hold: parts
of messages, and results that are not read; those that hold the most are closed. Without the limit
a flood of jobs ends in the kernel's or systemd's killing the server.
"""

import asyncio
import ctypes
import logging
import os
import time
from math import inf
from operator import itemgetter
from pathlib import Path

from gearman_py.server.listener import Listener

log = logging.getLogger("gearmand")

LOOK = 0.1  # seconds between two looks
SOON = 0.01  # the same when half of the limit is used: a flood brings some 200 MB a second
SHARE = 0.9  # of what the process is allowed, when nobody says more
ROOM = 0.95  # of the limit: when less is used jobs are taken again
OVER = 1.05  # times the limit: when more is used connections are closed
TRIM = 1.0  # seconds between two times that what is free is given back, at least ...
COST = 0.005  # ... and so much of the time may be spent with it
SLACK = 8 * 2**20  # bytes that may be free and not given back
WORTH = 2**20  # a connection that holds less is not closed: it would not help
PAGE = os.sysconf("SC_PAGE_SIZE")


def used() -> int:
    """The bytes that are resident."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE


def allowed() -> int:
    """The bytes that systemd or a container lets this process have, or else all of the machine's.

    It is what cgroup v2 says (Documentation/admin-guide/cgroup-v2.rst, memory.max).
    """
    machine = os.sysconf("SC_PHYS_PAGES") * PAGE
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        group = next(line[3:] for line in groups if line.startswith("0::"))
        found = Path(f"/sys/fs/cgroup{group}/memory.max").read_text().strip()
    except (OSError, StopIteration):
        return machine
    return machine if found == "max" else int(found)


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 (mallinfo(3))."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class Heap:
    """glibc's heap: by itself it gives back only what is free at its very end.

    With another C library nothing is done.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._information = getattr(library, "mallinfo2", None)
        if self._information is not None:
            self._information.restype = _Mallinfo
        self._kept = 0  # bytes that are resident, not in use, and could not be given back

    def tidy(self) -> float:
        """Give back what is free if it is worth it; return after how many seconds to come again.

        Both to measure and to give back take the longer the more pieces there are (40 ms with half
        a million), hence the pauses.
        """
        if self._trim is None or self._information is None:
            return inf
        begun = time.perf_counter()
        idle = _idle(self._information())
        self._kept = min(self._kept, idle) or idle
        if idle > self._kept * 1.1 + SLACK:
            self._trim(0)
            self._kept = _idle(self._information())
        return max(TRIM, (time.perf_counter() - begun) / COST)


def _idle(heap: _Mallinfo) -> int:
    """The bytes that are resident, and not in use as far as malloc knows."""
    return used() - int(heap.uordblks + heap.hblkhd)


async def watch(listener: Listener, limit: int) -> None:
    """Keep the queues closed to new jobs while more than ``limit`` bytes are used; 0: see above.

    Once they are closed and more than that is used all the same, connections are closed too.
    """
    limit = limit or int(allowed() * SHARE)
    queues = listener.broker.queues
    heap = Heap()
    tidied, pause = time.monotonic(), heap.tidy()
    bytes_ = 0
    while True:
        await asyncio.sleep(SOON if bytes_ > limit / 2 else LOOK)
        if time.monotonic() - tidied > pause:
            pause = heap.tidy()
            tidied = time.monotonic()
        bytes_ = used()
        if not queues.full and bytes_ > limit:
            log.warning(
                "%d MiB are used, and --max-memory is %d: new jobs are refused (%d are held)",
                *(bytes_ >> 20, limit >> 20, len(queues.jobs)),
            )
            queues.full = True
        elif queues.full and bytes_ < limit * ROOM:
            log.warning("%d MiB are used: new jobs are taken again", bytes_ >> 20)
            queues.full = False
        elif queues.full and bytes_ > limit * OVER:
            _relieve(listener, bytes_ - limit)


def _relieve(listener: Listener, excess: int) -> None:
    """Close the connections that hold the most, until ``excess`` bytes become free."""
    held = ((one.holds(), one) for one in listener.connections.values())
    worth = [each for each in held if each[0] >= WORTH]
    for size, one in sorted(worth, key=itemgetter(0), reverse=True):
        if excess <= 0:
            return
        log.warning("no memory is left: %s, which holds %d MiB, is closed", one, size >> 20)
        one.transport.abort()
        excess -= size
