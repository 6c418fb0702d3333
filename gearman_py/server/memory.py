"""Memory: a limit that the server keeps itself, and what is free is given back to the system.

Above the limit no new job is taken. Clients are told so (ERROR QUEUE_ERROR) and may go on
elsewhere; workers go on, which makes room. What then still grows is what connections hold: parts
of messages, and results that are not read; those that hold the most are closed. Without the limit
a flood of jobs ends in the kernel's or systemd's killing the server.
"""

import asyncio
import ctypes
import gc
import logging
import os
import time
from pathlib import Path

from gearman_py.server.counts import MEMORY
from gearman_py.server.listener import Listener
from gearman_py.server.pressure import PeerConnection

log = logging.getLogger("gearmand")

LOOK_INTERVAL = 0.1  # seconds between two looks
SHORT_LOOK_INTERVAL = (
    0.01  # the same when half of the limit is used: a flood brings some 200 MB a second
)
DEFAULT_SHARE = 0.9  # of what the process is allowed, without --max-memory
LOW_SHARE = 0.95  # of the limit: when less is used jobs are taken again
HIGH_SHARE = 1.05  # times the limit: when more is used connections are closed ...
HIGHEST_SHARE = 1.25  # ... and when more than this is used, before what is free is given back
TRIM_INTERVAL = 1.0  # seconds between two times that what is free is given back, at least ...
TRIM_TIME_SHARE = 0.005  # ... and so much of the time may be spent with it
URGENT_SHARE = 0.8  # of the limit: when more is used ...
URGENT_TIME_SHARE = 0.05  # ... so much of the time may be spent
SLACK = 4 * 2**20  # bytes that may be free and not given back
# A connection that holds less is not closed: it would not help, and a worker that asks for many
# jobs at once is owed as much. Of those who stand still there may be many that hold little each.
WORTH_CLOSING = 4 * 2**20
WORTH_CLOSING_STILL = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """The bytes that are resident."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE


def allowed_bytes() -> int:
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
    """Gives free memory back, of which glibc and Python by themselves keep more than they need.

    glibc's malloc returns only what is free at the very end of its heap. Python returns an arena
    (1 MiB) when nothing in it is in use, which the free lists of its types prevent: the thousands
    of tuples they keep for reuse lie scattered over all arenas. With another C library only the
    free lists are cleared.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._information = getattr(library, "mallinfo2", None)
        if self._information is not None:
            self._information.restype = _Mallinfo
        self._least_free = (
            0  # bytes of malloc's that were free at the same time since the last trim
        )

    def give_back(self) -> float:
        """Give free memory back if it is worth it; return how many seconds that took.

        Both measuring and giving back take longer the more pieces there are (40 ms with half a
        million), hence pauses are to be made.
        """
        begun = time.perf_counter()
        clear_free_lists()
        if self._trim is not None and self._information is not None:
            free = int(self._information().fordblks)
            self._least_free = min(self._least_free, free)
            # What was free all the time since the last trim is not resident.
            if free > self._least_free + SLACK:
                self._trim(0)
                self._least_free = free
        return time.perf_counter() - begun


def clear_free_lists() -> None:
    """Have Python free the objects that it keeps for reuse.

    Only a full collection does that; with all objects frozen it has none to traverse.
    """
    gc.freeze()
    gc.collect()


async def watch_memory(listener: Listener, limit: int) -> None:
    """Keep the queues closed to new jobs while more than ``limit`` bytes are used; 0: see above.

    Once they are closed and more than that is still used, connections are closed too.
    """
    limit = limit or int(allowed_bytes() * DEFAULT_SHARE)
    queues = listener.broker.queues
    heap = Heap()
    tidied, took = time.monotonic(), heap.give_back()
    bytes_ = 0
    closed = False  # connections, since what is free was given back
    while True:
        await asyncio.sleep(SHORT_LOOK_INTERVAL if bytes_ > limit / 2 else LOOK_INTERVAL)
        bytes_ = resident_bytes()
        pause = max(TRIM_INTERVAL, took / TRIM_TIME_SHARE)
        if bytes_ > limit * URGENT_SHARE or listener.budget.waiting:
            pause = took / URGENT_TIME_SHARE
        if tidy := closed or time.monotonic() - tidied > pause:
            queues.uniques.shrink()
            took = heap.give_back()
            tidied = time.monotonic()
            closed = False
            bytes_ = resident_bytes()
        listener.share_memory(bytes_, limit)
        if not queues.full and bytes_ > limit:
            log.warning(
                "%d MiB are used, and --max-memory is %d: refusing new jobs (%d are held)",
                *(bytes_ >> 20, limit >> 20, len(queues.jobs)),
            )
            queues.full = True
        elif queues.full and bytes_ < limit * LOW_SHARE:
            log.warning("%d MiB are used: accepting new jobs again", bytes_ >> 20)
            queues.full = False
        elif queues.full and bytes_ > limit * (HIGH_SHARE if tidy else HIGHEST_SHARE):
            _close_largest(listener, bytes_ - limit)
            closed = True


def _close_largest(listener: Listener, excess: int) -> None:
    """Close connections until ``excess`` bytes become free.

    Those that hold the most are the first; twice as much counts who reads nothing. Who brings a
    result is spared while others hold enough: it would be made again.
    """
    pressure, budget = listener.pressure, listener.budget

    def stands_still(one: PeerConnection) -> bool:
        return one.peer in pressure.stalled and budget.stands_still(one.peer)

    def urgency(held: tuple[int, PeerConnection]) -> tuple[bool, int]:
        size, one = held
        return one.coming_result() is None, size * 2 if stands_still(one) else size

    held = ((one.held_bytes(), one) for one in listener.connections.values())
    worth = [
        (size, one)
        for size, one in held
        if size >= WORTH_CLOSING or (size >= WORTH_CLOSING_STILL and stands_still(one))
    ]
    for size, one in sorted(worth, key=urgency, reverse=True):
        if excess <= 0:
            return
        log.warning("out of memory: closing %s, which holds %d MiB", one, size >> 20)
        one.abort(MEMORY)
        excess -= size
