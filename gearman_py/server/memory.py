"""A limit of memory that the server keeps itself: above it no new job is taken.

Clients are told so (ERROR QUEUE_ERROR) and may go on elsewhere; workers go on, which makes room.
Without it a flood of jobs ends in the kernel's or systemd's killing the server.
"""

import asyncio
import logging
import os
from pathlib import Path

from gearman_py.broker.queues import Queues

log = logging.getLogger("gearmand")

LOOK = 0.1  # seconds between two looks
SOON = 0.01  # the same when half of the limit is used: a flood brings some 200 MB a second
TRIM = 1.0  # the same while jobs are refused: what became free is given back each time
SHARE = 0.9  # of what the process is allowed, when nobody says more
ROOM = 0.95  # of the limit: when less is used jobs are taken again
PAGE = os.sysconf("SC_PAGE_SIZE")


def used() -> int:
    """The bytes that are resident."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE


def allowed() -> int:
    """The bytes that systemd, or a container, lets this process have; 0: any number.

    It is what cgroup v2 says (Documentation/admin-guide/cgroup-v2.rst, memory.max).
    """
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        group = next(line[3:] for line in groups if line.startswith("0::"))
        found = Path(f"/sys/fs/cgroup{group}/memory.max").read_text().strip()
    except (OSError, StopIteration):
        return 0
    return 0 if found == "max" else int(found)


def _trim() -> None:
    """Give back what is free within the heap: glibc does so by itself only at its end."""
    import ctypes  # few get here

    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


async def watch(queues: Queues, limit: int) -> None:
    """Keep ``queues`` closed to new jobs while more than ``limit`` bytes are used; 0: see above."""
    limit = limit or int(allowed() * SHARE)
    bytes_ = 0
    while limit:
        await asyncio.sleep(TRIM if queues.full else SOON if bytes_ > limit / 2 else LOOK)
        if queues.full:
            _trim()
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
