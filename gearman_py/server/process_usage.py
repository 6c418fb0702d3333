"""What this process uses, as metrics tell it; also at the limit of open files."""

import os
import resource
import time
from functools import cache
from pathlib import Path


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def start_time() -> float:
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot + _read_start_ticks(os.getpid()) / os.sysconf("SC_CLK_TCK")


@cache
def _read_start_ticks(process: int) -> int:
    """proc(5): field 22 of /proc/PID/stat is in clock ticks since the system's boot."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])


def open_files() -> int:
    """The number of open files and sockets. To count them takes one more, if one is left."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
