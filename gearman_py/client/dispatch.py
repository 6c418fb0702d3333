"""How the jobs of a blocking client reach servers: connections, batches, lost jobs."""

import os
import time
from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from threading import Lock
from time import monotonic
from typing import Any
from weakref import WeakSet

from gearman_py.client import timeouts
from gearman_py.client.arguments import Submit, Timeout, split_batches
from gearman_py.client.config import ClientConfig
from gearman_py.client.connection_pool import ConnectionPool
from gearman_py.client.job import ClientJob, JobState, JobStatus
from gearman_py.client.pooled_connection import PooledConnection
from gearman_py.client.routing import Router
from gearman_py.client.session import ClientSession, Question, read_status
from gearman_py.errors import ConnectionLost, GearmanError, JobTimeout, ServerUnavailable
from gearman_py.net.servers import ServerAddress, why_not


class Job(ClientJob):
    """A submitted job; ``result()`` waits for it."""

    _dispatcher: "Dispatcher"
    _generation = 0  # the number of forks before it was made

    def result(self, timeout: Timeout = ...) -> bytes:
        """The workload of WORK_COMPLETE; data sent before it is in ``data``.

        ``timeout`` is in seconds; None means no limit, the default is the client's. Raises
        JobFailed, JobException, JobTimeout or ConnectionLost. After a JobTimeout the job goes on:
        call it again. Callbacks given to submit() run inside this method.
        """
        self._must_have_result()
        limit = self._dispatcher.config.resolve_timeout(timeout)
        return self._result_by(None if limit is None else monotonic() + limit, limit)

    def _reject_async_callbacks(self) -> None:
        """Raise ValueError for an ``async`` callback."""
        for callback in (self._on_data, self._on_warning, self._on_status):
            if callback is not None and iscoroutinefunction(callback):
                raise ValueError(f"{callback!r} is async; use AsyncClient, which awaits callbacks")

    def _result_by(self, deadline: float | None, limit: float | None) -> bytes:
        """result() until ``deadline``, ``limit`` seconds after the call."""
        while not self.done():
            self._wait_until(self._has_news, deadline, limit)
            self._run_callbacks()
        self._run_callbacks()
        return self._result_or_raise()

    def _run_callbacks(self) -> None:
        """Run the callbacks that are due."""
        while self._news:
            self._news.popleft()()

    def stream(self, timeout: Timeout = ...) -> Iterator[bytes]:
        """Yield the data that the worker sends before its result, part by part as it arrives.

        Parts that were yielded are not kept. It ends when the job has ended; result() returns the
        rest. ``timeout`` applies to each part. Raises what result() raises.
        """
        self._must_have_result()
        limit = self._dispatcher.config.resolve_timeout(timeout)
        ended = False
        while not ended:
            ended = self.done()  # first, as more may arrive while a part is processed
            yield from self._take_parts()
            if not ended:
                deadline = None if limit is None else monotonic() + limit
                self._wait_until(lambda: bool(self.data) or self._has_news(), deadline, limit)
                self._run_callbacks()
        self.result()

    __iter__ = stream

    def _wait_until(
        self, until: Callable[[], bool], deadline: float | None, limit: float | None
    ) -> None:
        if not self.done() and self._generation != self._dispatcher._generation:
            why = "its connection belongs to the parent process"
            raise ConnectionLost(self.server, why, handle=self.handle)
        if not self._dispatcher.wait_until(until, deadline):
            raise JobTimeout(timeouts.no_result(self, limit))

    def exception(self, timeout: Timeout = ...) -> GearmanError | None:
        """Wait for the end of the job and return why it failed; None if it is complete."""
        try:
            self.result(timeout)
        except JobTimeout:
            raise
        except GearmanError as error:
            return error
        return None

    def value(self, timeout: Timeout = ...) -> Any:
        """result(), decoded by the client's serializer."""
        return self._dispatcher.config.serializer.loads(self.result(timeout))

    def _submit_again(self, error: GearmanError) -> None:
        self._dispatcher.submit_again(self, error)


class Dispatcher:
    """One for each client."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._resubmits = config.max_resubmits
        self.router = Router(config.servers, lambda server: self.pool.count_in_flight(server))
        self._lock = Lock()
        self._pool: ConnectionPool | None = None
        self._closing = False
        self._generation = 0
        _dispatchers.add(self)

    def close(self) -> None:
        """Close the connections; foreground jobs that are not done are lost."""
        if self._pool is not None:
            self._closing = True
            self._pool.close_all()
            self._pool = None
            self._closing = False

    def wait_until(self, until: Callable[[], bool], deadline: float | None) -> bool:
        """Read until ``until()``; False if ``deadline`` passes first."""
        return self.pool.wait_until(until, deadline)

    def submit_again(self, job: Job, error: GearmanError) -> None:
        """Have a waiting thread resubmit a job that was lost by ``error``."""
        if self._closing:
            job._give_up(error)
        else:
            self.pool.lost.append(job)

    @property
    def pool(self) -> ConnectionPool:
        """The connections of this process."""
        if (pool := self._pool) is not None:
            return pool
        with self._lock:
            if self._pool is None:
                sole = len(self.router.servers) == 1
                self._pool = ConnectionPool(
                    self._resubmit_lost, sole=sole, max_packet=self.config.max_packet
                )
            return self._pool

    def reset_after_fork(self) -> None:
        """Leave the parent's connections alone in a forked child."""
        self._lock = Lock()
        self._pool = None
        self._generation += 1

    def make_job(self, given: Submit) -> Job:
        """A job to submit. Raises ValueError or ArgumentTooLarge."""
        config = self.config
        job = Job(
            given,
            prefix=config.prefix,
            resubmits=self._resubmits,
            serializer=config.serializer,
        )
        if given.on_data or given.on_warning or given.on_status:
            job._reject_async_callbacks()
        job._dispatcher = self
        job._generation = self._generation
        return job

    def submit_jobs(self, jobs: list[Job]) -> None:
        """Submit jobs, many in one write, and wait until servers have answered for all of them."""
        for batch in split_batches(jobs):
            deadline = monotonic() + self.config.submit_timeout
            self.write_jobs(batch, deadline)
            self._await_accepted(batch, deadline)

    def write_jobs(self, jobs: list[Job], deadline: float) -> None:
        """Write jobs to their servers."""
        # Connect first: if no server can be reached, nothing is written.
        groups = self.router.group_jobs(jobs, monotonic())
        ready = [(self.connect_first(order), group) for order, group in groups]
        for connection, group in ready:
            self._write_to(connection, group, deadline)

    def _write_to(self, connection: PooledConnection, jobs: list[Job], deadline: float) -> None:
        def queue_jobs(session: ClientSession) -> None:
            for job in jobs:
                session.submit_job(job)

        if not self.pool.send_request(connection, queue_jobs, deadline):
            self.write_jobs(jobs, deadline)  # it had ended before anything was written

    def _await_accepted(self, jobs: list[Job], deadline: float) -> None:
        waiting = JobState.SUBMITTED
        if not self.wait_until(
            lambda: all(job.state is not waiting for job in reversed(jobs)), deadline
        ):
            job = next(job for job in jobs if job.state is waiting)
            raise JobTimeout(timeouts.not_accepted(job, self.config.submit_timeout))

    def await_result(self, job: Job, accept_by: float, timeout: Timeout) -> bytes:
        """The result of a job that was just written, with the errors of submit() and result().

        A server sends JOB_CREATED at once and the result later; waiting for both together saves
        a third of the work of a small job.
        """
        limit = self.config.resolve_timeout(timeout)
        deadline = None if limit is None else monotonic() + limit
        first = accept_by if deadline is None else min(accept_by, deadline)
        self.pool.wait_until(job._has_news, first, job=job)
        if job.state is JobState.SUBMITTED:
            self._await_accepted([job], accept_by)
        return job._result_by(deadline, limit)

    def await_next(self, until: Callable[[], bool], timeout: Timeout, function: str) -> None:
        """Wait for the next result of map(). Raises JobTimeout."""
        limit = self.config.resolve_timeout(timeout)
        if not self.wait_until(until, None if limit is None else monotonic() + limit):
            raise JobTimeout(timeouts.no_next_result(function, limit))

    def _resubmit_lost(self, lost: list[ClientJob]) -> None:
        jobs = [job for job in lost if isinstance(job, Job)]
        try:
            self.write_jobs(jobs, monotonic() + self.config.submit_timeout)
        except GearmanError as error:
            for job in jobs:
                job._give_up(error)

    def connect_first(self, order: list[ServerAddress]) -> PooledConnection:
        """A connection to the first of these servers that answers. Raises ServerUnavailable."""
        pool = self.pool
        for attempt in range(1, self.config.retry.attempts + 1):
            failures = []
            for server in order:
                try:
                    connection = pool.get_connection(server, self.config.connect_timeout)
                except OSError as error:
                    self.router.mark_failed(server, monotonic())
                    failures.append((str(server), why_not(error, self.config.connect_timeout)))
                else:
                    self.router.mark_reached(server)
                    return connection
            if attempt < self.config.retry.attempts:
                time.sleep(self.config.retry.pause_after(attempt))
        raise ServerUnavailable(failures)

    def find_status(
        self, ask: Callable[[ClientSession], Question], server: str | None
    ) -> JobStatus:
        """The answer of ``server``; for None, of the first server that knows the job."""
        servers = self.router.find_servers(server)
        status = None
        for one in servers:
            try:
                connection = self.connect_first([one])
            except ServerUnavailable:
                if one is servers[-1] and status is None:
                    raise  # none has answered
                continue
            status = read_status(self.ask_server(connection, ask))
            if status.known:
                break
        return status or JobStatus(False, False, 0, 0)

    def ask_server(
        self, connection: PooledConnection, ask: Callable[[ClientSession], Question]
    ) -> list[bytes]:
        """Ask a question and wait for its answer."""
        deadline = monotonic() + self.config.submit_timeout
        questions: list[Question] = []
        if not self.pool.send_request(
            connection, lambda session: questions.append(ask(session)), deadline
        ):
            raise ConnectionLost(connection.session.server, "it closed the connection")
        (question,) = questions
        if not self.wait_until(question.done, deadline):
            raise JobTimeout(
                timeouts.no_answer(connection.session.server, self.config.submit_timeout)
            )
        return question.result()


_dispatchers: WeakSet[Dispatcher] = WeakSet()


def _after_fork() -> None:
    for dispatcher in _dispatchers:
        dispatcher.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
