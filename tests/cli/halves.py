"""A worker whose jobs report progress; its argument is the server."""

import sys
from threading import Event

from gearman_py import Worker, WorkerJob

worker = Worker(sys.argv[1], concurrency=2)


@worker.function("halves")
def halves(job: WorkerJob) -> bytes:
    job.send_status(1, 2)
    job.send_data("first\n")
    job.send_status(2, 2)
    return b"second\n"


@worker.function("ragged")
def ragged(job: WorkerJob) -> bytes:
    job.send_data("no end of line")
    job.send_status(1, 2)
    return b"end\n"


@worker.function("stuck")
def stuck(job: WorkerJob) -> None:
    job.send_status(1, 0)
    Event().wait(30)


worker.run()
