"""From the records of a store to jobs, restrictions, failed jobs and results."""

from math import inf

from gearman_py.broker import counts
from gearman_py.broker.failed_jobs import FAILED_NAME, FailedJob, parse_failed_record
from gearman_py.broker.import_records import IMPORT_NAME
from gearman_py.broker.kept_results import RESULT_NAME, KeptResult, parse_result_record
from gearman_py.broker.queues import Queues
from gearman_py.broker.restriction_records import RECORD_NAME
from gearman_py.broker.schedules import SCHEDULE_NAME, parse_schedule_record
from gearman_py.broker.state import BrokerJob, ReduceJob, coalesces_on
from gearman_py.store.base import SERIES_BITS, Record


def restore_record(
    queues: Queues, record: Record, wall: float, handle: bytes = b"", now: float = 0
) -> None:
    """Restore what the previous run stored, or a server that is gone.

    A job is queued now, or when it is due, or when all is read. ``wall``: seconds since 1970.
    ``handle``: the handle of a job that another server numbered. Raises ValueError if there is
    already a job with this number, and for a record that cannot be read.
    """
    if record.number >> SERIES_BITS == queues._number >> SERIES_BITS:
        queues._number = max(queues._number, record.number + 1)
    if record.function == IMPORT_NAME:
        return
    if record.function == RECORD_NAME:
        own = not handle or handle.startswith(queues._prefix)
        for obsolete in queues.restore_restrictions(record, now, own=own):
            queues.changes.remove(obsolete)
        return
    if record.function == FAILED_NAME:
        handle = handle or queues._prefix + b"%d" % record.number
        keep_failed(queues, parse_failed_record(record, handle))
        return
    if record.function == RESULT_NAME:
        handle = handle or queues._prefix + b"%d" % record.number
        keep_result(queues, parse_result_record(record, handle))
        return
    if record.function == SCHEDULE_NAME:
        schedule = parse_schedule_record(record)
        if schedule.deleted or queues.schedules.get(schedule.name):
            queues.changes.remove(record.number)
        else:
            queues.schedules.put(schedule)
            queues.next_event = -inf
        return
    job = _restore_job(queues, record, handle, now)
    job.retries = record.deliveries
    job.function.counts[counts.ADOPTED if handle else counts.RESTORED] += 1
    if record.due > wall:
        queues.add_later(job, record.due)
    elif queues.adopted.reading:
        queues.adopted.hold(job)
    else:
        queues._queue_job(job, now)


def keep_failed(queues: Queues, failed: FailedJob) -> None:
    """Keep a failed job, and forget those that are too many."""
    for dropped in queues.failed.add(failed):
        if queues.durable:
            queues.changes.remove(dropped.number)
    if len(queues.failed) == 1:  # from then on each tick says when the next one is due
        queues.next_event = -inf


def keep_result(queues: Queues, kept: KeptResult) -> None:
    """Keep a result, and forget those that go first where room is short."""
    for dropped in [kept] if queues.results is None else queues.results.add(kept):
        if queues.durable:
            queues.changes.remove(dropped.number)
    queues.next_event = -inf  # from then on each tick says when the next one is due


def restore_failed(queues: Queues, failed: FailedJob, now: float) -> BrokerJob:
    """The job that has failed, under its handle; it is neither queued nor stored yet."""
    number, unique, priority = failed.number, failed.unique, failed.priority
    facts = number, failed.function, unique, priority, 0, failed.reducer, failed.workload, 0
    job = _restore_job(queues, Record(*facts), failed.handle if number < 0 else b"", now)
    job.function.counts[counts.RETRIED] += 1
    return job


def _restore_job(queues: Queues, record: Record, handle: bytes, now: float) -> BrokerJob:
    function = queues.function(record.function)
    facts = function, record.unique, record.workload, record.priority, True
    job = ReduceJob(*facts, record.reducer) if record.reducer else BrokerJob(*facts)
    job.since = now
    job.number = number = record.number
    if handle:
        if queues.job(handle):  # records of earlier versions may share a unique
            handle = b"%b:%d" % (handle, -number)
        queues._foreign_handles.add(number, handle)
    queues.jobs.add(job)
    key = coalesces_on(record.unique, record.workload)
    # Two servers may have accepted the same unique; later submissions join the first.
    if key and not queues.uniques.find(key, function):
        queues.uniques.add(key, job)
    return job
