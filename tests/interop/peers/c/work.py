"""A worker.

work SERVERS (FUNCTION BEHAVIOUR LIMIT)...    LIMIT: milliseconds, 0 for none
"""

import os
import sys
import time
from pathlib import Path

from tests.interop.peers.c import libgearman as gearman
from tests.interop.peers.c.libgearman import FAIL, SUCCESS, job_workload, say


def echo(job: int, _: int) -> int:
    return complete(job, job_workload(job))


def print_(job: int, _: int) -> int:
    say(job_workload(job))
    return complete(job, b"printed")


def tell(job: int, _: int) -> int:
    gearman.job_send_data(job, b"first", 5)
    gearman.job_send_status(job, 1, 2)
    gearman.job_send_warning(job, b"careful", 7)
    gearman.job_send_data(job, b"second", 6)
    gearman.job_send_status(job, 2, 2)
    return complete(job, b"told")


def hold(job: int, _: int) -> int:
    gearman.job_send_status(job, 3, 7)
    say(b"held")
    sys.stdin.readline()
    return complete(job, b"let go")


def fail(job: int, _: int) -> int:
    return FAIL


def except_(job: int, _: int) -> int:
    gearman.job_send_exception(job, b"no such luck", 12)
    return SUCCESS


def count(job: int, _: int) -> int:
    """How many jobs run at this moment, by their files in a folder; then perhaps fail."""
    folder, *fails = job_workload(job).decode().split()
    own = Path(folder, str(os.getpid()))
    own.touch()
    time.sleep(0.001)
    running = len(os.listdir(folder))
    own.unlink()
    return FAIL if fails else complete(job, b"%d" % running)


def split(job: int, _: int) -> int:
    """Send each word on to the reducer."""
    for word in job_workload(job).split():
        gearman.job_send_data(job, word, len(word))
    return SUCCESS


def join(_: int, task: int, result: int) -> int:
    """Make one result of the reducer's."""
    joined = b" ".join(gearman.task_results(task))
    return int(gearman.result_store(result, joined, len(joined)))


def complete(job: int, result: bytes) -> int:
    return int(gearman.job_send_complete(job, result, len(result)))


BEHAVIOURS = {
    "echo": echo,
    "print": print_,
    "tell": tell,
    "hold": hold,
    "fail": fail,
    "except": except_,
    "count": count,
    "split": split,
}

_, servers, *words = sys.argv
worker = gearman.worker_create(None)
gearman.check(gearman.worker_add_servers(worker, servers.encode()))
for function, behaviour, limit in zip(*[iter(words)] * 3, strict=True):
    gearman.define(
        worker, function, BEHAVIOURS[behaviour], int(limit), join if behaviour == "split" else None
    )
while True:
    gearman.worker_work(worker)
