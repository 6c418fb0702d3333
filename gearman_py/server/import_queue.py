"""Imports the queue that a C gearmand stored into ours (see gearman_py.c_queue).

The server does not run meanwhile. Jobs that are already in our queue, by function and unique, are
left out: an interrupted import is run again.
"""

from collections import Counter
from collections.abc import Callable

from gearman_py.c_queue.base import StoredJob, Unreadable
from gearman_py.c_queue.source import StoredQueue
from gearman_py.printable import printable
from gearman_py.server.store_writer import stored_jobs
from gearman_py.store.base import Changes, Record, Store, first_number

MOST_JOBS, MOST_BYTES = 1000, 8 * 2**20  # of a group that is committed


def import_queue(source: StoredQueue, store: Store, report: Callable[[Unreadable], object]) -> str:
    """Import all jobs; call ``report`` for each row that is not one. Return what was done.

    Raises SourceError and StoreError: what was imported until then stays.
    """
    known = {(job.record.function, job.record.unique) for job in stored_jobs(store)}
    number = first_number(store.series)
    group: list[Record] = []
    size = there = unreadable = 0
    imported: Counter[bytes] = Counter()

    def commit() -> None:
        nonlocal size
        store.commit(Changes(group, {}, []))
        store.tidy()
        imported.update(record.function for record in group)
        group.clear()
        size = 0

    for row in source.read():
        if isinstance(row, Unreadable):
            unreadable += 1
            report(row)
        elif row.unique and (row.function, row.unique) in known:
            there += 1
        else:
            group.append(_make_record(number, row))
            number += 1
            size += len(row.workload)
            if len(group) >= MOST_JOBS or size >= MOST_BYTES:
                commit()
    if group:
        commit()
    return _describe(source, imported, there, unreadable)


def _make_record(number: int, job: StoredJob) -> Record:
    return Record(
        number=number,
        function=job.function,
        unique=job.unique,
        priority=job.priority,
        due=job.due,
        reducer=b"",
        workload=job.workload,
        deliveries=0,
    )


def _describe(source: StoredQueue, imported: Counter[bytes], there: int, unreadable: int) -> str:
    total = imported.total()
    functions = ", ".join(
        f"{printable(name.decode(errors='surrogateescape'))} {count}"
        for name, count in sorted(imported.items())
    )
    jobs = f"{total} {'job' if total == 1 else 'jobs'}{f' ({functions})' * bool(total)}"
    words = f"imported {jobs} from {source}"
    if there:
        words += f"; {there} {'was' if there == 1 else 'were'} there already"
    if unreadable:
        words += f"; {unreadable} could not be read"
    return words
