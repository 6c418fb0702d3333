# Written by tests/twins.py from aio_map.py; change that one.
"""The results of many jobs, as they end: ``map()`` and ``as_completed()`` of Client."""

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Literal

from gearman_py.client import timeout_texts
from gearman_py.client.arguments import Timeout
from gearman_py.client.sync_dispatch import Dispatcher
from gearman_py.client.sync_job import Job
from gearman_py.client.sync_waiting import EndedJobs
from gearman_py.client.window import Window
from gearman_py.errors import GearmanError, JobTimeout


def map_jobs(
    dispatcher: Dispatcher,
    given: Iterator[Job],
    window: Window[Job],
    function: str,
    timeout: Timeout,
    on_error: Literal["raise", "yield"],
    *,
    ordered: bool,
) -> Iterator[bytes | GearmanError]:
    """Submit jobs as there is room for them in ``window``; yield what each has returned."""
    config, pool = dispatcher.config, dispatcher.pool
    ended = EndedJobs[Job](pool)
    limit = config.resolve_timeout(timeout)
    try:
        while True:
            batch = window.take_jobs(given)
            if not ordered:
                for job in batch:
                    job._listener = ended.add_job
            dispatcher.write_jobs(batch, monotonic() + config.submit_timeout)
            if not window.jobs:
                return
            deadline = None if limit is None else monotonic() + limit
            if ordered:
                first = window.first_job()
                in_time = first._wait_until(first.done, deadline)
            else:
                in_time = ended.wait_any(deadline)
            if not in_time:
                raise JobTimeout(timeout_texts.no_next_result(function, limit))
            for job in window.in_turn(None if ordered else ended.jobs):
                job._run_callbacks()
                yield job._map_outcome(on_error)
    finally:
        for job in window.jobs:
            pool.forget_job(job)


def jobs_as_completed(
    dispatcher: Dispatcher, jobs: Iterable[Job], timeout: float | None
) -> Iterator[Job]:
    """Yield jobs as they end. Raises JobTimeout."""
    deadline = None if timeout is None else monotonic() + timeout
    ended = EndedJobs[Job](dispatcher.pool)
    left = set(jobs)
    for job in left:
        job._check_owner()
        job._listener = ended.add_job
    ended.jobs.extend([job for job in left if job.done()])  # one that ends just now is in it twice
    while left:
        if not ended.wait_any(deadline):
            raise JobTimeout(timeout_texts.not_ended(len(left), timeout))
        job = ended.jobs.popleft()
        if job in left:
            left.remove(job)
            job._run_callbacks()
            yield job
