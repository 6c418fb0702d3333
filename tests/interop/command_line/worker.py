"""A worker with a function for each way in which a job can be answered; its servers are given."""

import sys

from gearman_py.worker.job import WorkerJob
from gearman_py.worker.worker import Worker

worker = Worker(sys.argv[1:], concurrency=8)


@worker.function("show")
def show(job: WorkerJob) -> bytes:
    return b"<" + job.workload + b">"


@worker.function("unique")
def unique(job: WorkerJob) -> str:
    return job.unique


@worker.function("data")
def data(job: WorkerJob) -> bytes:
    job.send_data(b"one\n")
    job.send_data(b"two\n")
    return b"end\n"


@worker.function("warn")
def warn(job: WorkerJob) -> bytes:
    job.send_warning(b"careful\n")
    return b"end\n"


@worker.function("progress")
def progress(job: WorkerJob) -> bytes:
    job.send_status(1, 2)
    job.send_status(2, 2)
    return b"end\n"


@worker.function("uncounted")
def uncounted(job: WorkerJob) -> bytes:
    job.send_status(1, 0)
    return b"end\n"


@worker.function("fail")
def fail(job: WorkerJob) -> bytes:
    job.fail()


@worker.function("raise")
def raise_(job: WorkerJob) -> bytes:
    raise ValueError("no good")


worker.run()
