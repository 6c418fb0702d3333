"""The server's own memory limit, and returning free memory to the system.

Above the limit the server refuses new jobs (ERROR QUEUE_ERROR), so that clients can try another
server; workers continue, which frees memory. If memory still grows, it is held by connections, as
partial messages and unread results: the connections that hold the most are closed. Without a limit
a flood of jobs would end with the kernel or systemd killing the server.
"""

import asyncio
import ctypes
import gc
import logging
import os
import time
from functools import cache
from pathlib import Path

from gearman_py.broker.results import forget_half
from gearman_py.server.counts import MEMORY
from gearman_py.server.listener import Listener
from gearman_py.server.pressure import PeerConnection

log = logging.getLogger("gearmand")

LOOK_INTERVAL = 0.1  # seconds between two checks
# The same once half of the limit is used: a flood can bring 200 MB a second.
SHORT_LOOK_INTERVAL = 0.01
DEFAULT_SHARE = 0.9  # the limit without --max-memory, as a share of what the process may use
LOW_SHARE = 0.95  # of the limit: below it, jobs are accepted again
HIGH_SHARE = 1.05  # of the limit: above it, connections are closed ...
HIGHEST_SHARE = 1.25  # ... and above this, even before free memory was returned
TRIM_INTERVAL = 1.0  # shortest time between two returns of free memory, in seconds
TRIM_TIME_SHARE = 0.005  # longest share of the time spent on returning free memory ...
LONGEST_PAUSE = 5.0  # seconds between two returns, however long one takes
URGENT_SHARE = 0.8  # ... until more than this share of the limit is used;
URGENT_TIME_SHARE = 0.05  # from then on, the longest share of the time
SLACK = 4 * 2**20  # free bytes that are not worth returning
# A connection that holds less is not closed. It would free too little, and a worker that asks for
# many jobs at once is sent this much. Connections that have stalled may be many, with little each.
WORTH_CLOSING = 4 * 2**20
WORTH_CLOSING_STILL = 2**20
STILL = 5.0  # seconds without reading after which a connection counts as one that reads nothing
STANDSTILL = 30.0  # the same, after which it is closed if a result waits for memory
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Return the resident set size of this process, in bytes (proc(5), statm)."""
    return int(os.pread(_open_statm(os.getpid()), 200, 0).split()[1]) * PAGE


def bytes_of(process: int) -> int:
    """Return the resident set size of another process, in bytes; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


@cache
def _open_statm(process: int) -> int:
    """Kept open, so that it can be read at the limit of open files too."""
    return os.open(f"/proc/{process}/statm", os.O_RDONLY | os.O_CLOEXEC)


def allowed_bytes() -> int:
    """Return the memory limit of this process' cgroup, or the machine's memory, in bytes.

    The limit is memory.max of cgroup v2 (the kernel's Documentation/admin-guide/cgroup-v2.rst).
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
    """Returns free memory to the system, of which glibc and Python would keep more than they need.

    glibc's malloc returns only what is free at the very end of its heap. Python returns an arena
    (1 MiB) once it is empty, which the free lists of its types prevent: the thousands of tuples
    that they keep for reuse are scattered over all arenas. With a C library other than glibc,
    only the free lists are cleared.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._information = getattr(library, "mallinfo2", None)
        if self._information is not None:
            self._information.restype = _Mallinfo
        self._least_free = 0  # fewest bytes that were free in malloc's heap since the last trim

    def give_back(self) -> float:
        """Return free memory to the system if it is worth it; return the seconds that this took.

        The time grows with the number of free pieces (40 ms with half a million), so callers
        pause between two calls in proportion to it.
        """
        begun = time.perf_counter()
        clear_free_lists()
        if self._trim is not None and self._information is not None:
            free = int(self._information().fordblks)
            self._least_free = min(self._least_free, free)
            # Memory that stayed free since the last trim is not resident.
            if free > self._least_free + SLACK:
                self._trim(0)
                self._least_free = free
        return time.perf_counter() - begun


def clear_free_lists() -> None:
    """Free the objects that Python keeps for reuse.

    Only a full collection does that. With all objects frozen, it has none to traverse.
    """
    gc.freeze()
    gc.collect()


async def watch_memory(listener: Listener, limit: int) -> None:
    """Refuse new jobs above ``limit`` bytes, and close connections well above it.

    ``limit`` 0 stands for ``DEFAULT_SHARE`` of what the process may use. Runs until cancelled.
    """
    limit = limit or int(allowed_bytes() * DEFAULT_SHARE)
    queues = listener.broker.queues
    heap = Heap()
    tidied, took = time.monotonic(), heap.give_back()
    bytes_ = resident_bytes()
    closed = False  # whether connections were closed since free memory was last returned
    while True:
        await asyncio.sleep(SHORT_LOOK_INTERVAL if bytes_ > limit / 2 else LOOK_INTERVAL)
        bytes_ = resident_bytes()
        pause = max(TRIM_INTERVAL, min(took / TRIM_TIME_SHARE, LONGEST_PAUSE))
        if bytes_ > limit * URGENT_SHARE or listener.budget.waiting:
            pause = took / URGENT_TIME_SHARE
        if tidy := closed or time.monotonic() - tidied > pause:
            queues.shrink()
            took = heap.give_back()
            tidied = time.monotonic()
            closed = False
            bytes_ = resident_bytes()
        if missing := listener.share_memory(bytes_, limit):
            closed |= _close_still(listener, missing)
        excess = int(bytes_ - limit * LOW_SHARE) if queues.full else 0
        closed |= listener.uploads.share_memory(limit, excess)
        if tidy and queues.full and bytes_ > limit * LOW_SHARE:
            forget_half(listener.broker)
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

    Those that hold the most come first, where a connection that reads nothing counts twice. One
    that is sending a result comes last, since its job would have to run again.
    """
    now = listener.now()

    def stands_still(one: PeerConnection) -> bool:
        return one.standstill(now) >= STILL

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


def _close_still(listener: Listener, missing: int) -> bool:
    """Close connections that read nothing, the longest first, while a result waits for memory.

    Return whether any was closed. ``missing``: bytes that are to become free.
    """
    now = listener.now()
    still = [
        (seconds, one)
        for one in listener.pressure.stalled.values()
        if (seconds := one.standstill(now)) >= STANDSTILL
        and one.unread_bytes() >= WORTH_CLOSING_STILL
    ]
    still.sort(key=lambda pair: pair[0], reverse=True)
    freed = 0
    for seconds, one in still:
        if freed >= missing:
            break
        size = one.unread_bytes()
        log.warning(
            "out of memory: closing %s, which has not read for %d s and holds %d MiB",
            *(one, seconds, size >> 20),
        )
        one.abort(MEMORY)
        freed += size
    return freed > 0
