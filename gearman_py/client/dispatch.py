"""How a blocking client's jobs get to servers: connections, batches, jobs that were lost."""

import os
import time
from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from threading import Lock
from time import monotonic
from typing import Any
from weakref import WeakSet

from gearman_py.client.arguments import Submit, Timeout, batches
from gearman_py.client.connection_pool import Connection, Hub
from gearman_py.client.job import ClientJob, JobState, JobStatus
from gearman_py.client.routing import Manner, Router
from gearman_py.client.session import Question, Session, read_status
from gearman_py.errors import ConnectionLost, GearmanError, JobTimeout, ServerUnavailable
from gearman_py.net.servers import Server, why_not


class Job(ClientJob):
    """A job that was submitted; ``result()`` waits for it."""

    _dispatcher: "Dispatcher"
    generation = 0  # how often the process had been forked when it was made

    def result(self, timeout: Timeout = ...) -> bytes:
        """The workload of WORK_COMPLETE; data sent before it is in ``data``.

        ``timeout`` is in seconds, None for ever; left out, it is the client's. Raises
        JobFailed, JobException, JobTimeout or ConnectionLost. After a JobTimeout the job
        goes on: ask again. Callbacks given to submit() run in here.
        """
        self._must_have_result()
        limit = self._dispatcher.manner.limit(timeout)
        return self.result_by(None if limit is None else monotonic() + limit, limit)

    def must_not_await(self) -> None:
        """Raises ValueError for a callback that is ``async``."""
        for callback in (self._on_data, self._on_warning, self._on_status):
            if callback is not None and iscoroutinefunction(callback):
                raise ValueError(f"{callback!r} is to be awaited, which AsyncClient does")

    def result_by(self, deadline: float | None, limit: float | None) -> bytes:
        """result(), until ``deadline``, which is ``limit`` seconds from when it was asked for."""
        while not self.done():
            self._wait(self._has_news, deadline, limit)
            self.deliver()
        self.deliver()
        return self._outcome()

    def deliver(self) -> None:
        """Run the callbacks for what has happened since."""
        while self._news:
            self._news.popleft()()

    def stream(self, timeout: Timeout = ...) -> Iterator[bytes]:
        """The data that the worker sends before its result, part by part as it comes.

        What is handed on is not kept. It ends when the job has ended: result() has the rest.
        ``timeout`` is for the next part. Raises what result() raises.
        """
        self._must_have_result()
        limit = self._dispatcher.manner.limit(timeout)
        ended = False
        while not ended:
            ended = self.done()  # before the last look, as more may come while a part is handed on
            yield from self._parts()
            if not ended:
                deadline = None if limit is None else monotonic() + limit
                self._wait(lambda: bool(self.data) or self._has_news(), deadline, limit)
                self.deliver()
        self.result()

    __iter__ = stream

    def _wait(self, until: Callable[[], bool], deadline: float | None, limit: float | None) -> None:
        if not self.done() and self.generation != self._dispatcher.generation:
            why = "its connection belongs to the process that this one was forked from"
            raise ConnectionLost(self.server, why, handle=self.handle)
        if not self._dispatcher.wait_until(until, deadline):
            raise JobTimeout(f"no result of {self.function} within {limit:g} s (job {self.handle})")

    def exception(self, timeout: Timeout = ...) -> GearmanError | None:
        """Why the job failed, once it has ended; None when it is complete."""
        try:
            self.result(timeout)
        except JobTimeout:
            raise
        except GearmanError as error:
            return error
        return None

    def value(self, timeout: Timeout = ...) -> Any:
        """result(), as the client's serializer reads it."""
        return self._dispatcher.manner.serializer.loads(self.result(timeout))

    def _again(self, error: GearmanError) -> None:
        self._dispatcher.submit_again(self, error)


class Dispatcher:
    """One for each client; ``Manner`` is what the client was told."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self._resubmits = manner.resubmits
        self.router = Router(manner.servers, lambda server: self.hub.load(server))
        self._lock = Lock()
        self._hub: Hub | None = None
        self._closing = False
        self.generation = 0
        _dispatchers.add(self)

    def close(self) -> None:
        """Close the connections; foreground jobs not yet done are lost."""
        if self._hub is not None:
            self._closing = True
            self._hub.close_all()
            self._hub = None
            self._closing = False

    def wait_until(self, until: Callable[[], bool], deadline: float | None) -> bool:
        """Read until ``until()``; False when ``deadline`` came first."""
        return self.hub.wait(until, deadline)

    def submit_again(self, job: Job, error: GearmanError) -> None:
        """Have a thread that waits submit a job again that was lost by ``error``."""
        if self._closing:
            job._give_up(error)
        else:
            self.hub.lost.append(job)

    @property
    def hub(self) -> Hub:
        """The connections of this process."""
        if (hub := self._hub) is not None:
            return hub
        with self._lock:
            if self._hub is None:
                sole = len(self.router.servers) == 1
                self._hub = Hub(self._revive, sole=sole, max_packet=self.manner.max_packet)
            return self._hub

    def forked(self) -> None:
        """In a forked child: the parent's connections are not ours to use."""
        self._lock = Lock()
        self._hub = None
        self.generation += 1

    def job(self, given: Submit) -> Job:
        """A job that is to be submitted. Raises ValueError or ArgumentTooLarge."""
        manner = self.manner
        job = Job(
            given,
            prefix=manner.prefix,
            resubmits=self._resubmits,
            serializer=manner.serializer,
        )
        if given.on_data or given.on_warning or given.on_status:
            job.must_not_await()
        job._dispatcher = self
        job.generation = self.generation
        return job

    def submit(self, jobs: list[Job]) -> None:
        """Submit jobs, many in one write, and wait until servers have answered for all."""
        for batch in batches(jobs):
            deadline = monotonic() + self.manner.submit_timeout
            self.start(batch, deadline)
            self._accepted(batch, deadline)

    def start(self, jobs: list[Job], deadline: float) -> None:
        """Write jobs to the servers that they go to."""
        # Connections first: when there is none, nothing is written.
        groups = self.router.groups(jobs, monotonic())
        ready = [(self.connected(order), group) for order, group in groups]
        for connection, group in ready:
            self._write(connection, group, deadline)

    def _write(self, connection: Connection, jobs: list[Job], deadline: float) -> None:
        def submit(session: Session) -> None:
            for job in jobs:
                session.submit(job)

        if not self.hub.send(connection, submit, deadline):
            self.start(jobs, deadline)  # it had ended, and nothing was written

    def _accepted(self, jobs: list[Job], deadline: float) -> None:
        waiting = JobState.SUBMITTED
        if not self.wait_until(
            lambda: all(job.state is not waiting for job in reversed(jobs)), deadline
        ):
            job = next(job for job in jobs if job.state is waiting)
            limit = self.manner.submit_timeout
            raise JobTimeout(f"{job.server} did not accept {job.function} within {limit:g} s")

    def result(self, job: Job, accept_by: float, timeout: Timeout) -> bytes:
        """The result of a job just written, as submit() and Job.result() give it.

        A server says JOB_CREATED at once, and the result when there is one; waiting for both
        together is a third of the work for a small job.
        """
        limit = self.manner.limit(timeout)
        deadline = None if limit is None else monotonic() + limit
        first = accept_by if deadline is None else min(accept_by, deadline)
        self.hub.wait(job._has_news, first, job=job)
        if job.state is JobState.SUBMITTED:
            self._accepted([job], accept_by)
        return job.result_by(deadline, limit)

    def await_next(self, until: Callable[[], bool], timeout: Timeout, function: str) -> None:
        """Wait for map()'s next result. Raises JobTimeout."""
        limit = self.manner.limit(timeout)
        if not self.wait_until(until, None if limit is None else monotonic() + limit):
            raise JobTimeout(f"no next result of {function} within {limit:g} s")

    def _revive(self, lost: list[ClientJob]) -> None:
        jobs = [job for job in lost if isinstance(job, Job)]
        try:
            self.start(jobs, monotonic() + self.manner.submit_timeout)
        except GearmanError as error:
            for job in jobs:
                job._give_up(error)

    def connected(self, order: list[Server]) -> Connection:
        """A connection to the first of these servers that answers. Raises ServerUnavailable."""
        hub = self.hub
        for attempt in range(1, self.manner.retry.attempts + 1):
            failures = []
            for server in order:
                try:
                    connection = hub.connected(server, self.manner.connect_timeout)
                except OSError as error:
                    self.router.failed(server, monotonic())
                    failures.append((str(server), why_not(error, self.manner.connect_timeout)))
                else:
                    self.router.reached(server)
                    return connection
            if attempt < self.manner.retry.attempts:
                time.sleep(self.manner.retry.pause(attempt))
        raise ServerUnavailable(failures)

    def status(self, ask: Callable[[Session], Question], server: str | None) -> JobStatus:
        """What ``server`` says, or the first of all that knows the job."""
        servers = self.router.named(server)
        status = None
        for one in servers:
            try:
                connection = self.connected([one])
            except ServerUnavailable:
                if one is servers[-1] and status is None:
                    raise  # not one has answered
                continue
            status = read_status(self.ask(connection, ask))
            if status.known:
                break
        return status or JobStatus(False, False, 0, 0)

    def ask(self, connection: Connection, ask: Callable[[Session], Question]) -> list[bytes]:
        """The answer to a question."""
        deadline = monotonic() + self.manner.submit_timeout
        questions: list[Question] = []
        if not self.hub.send(connection, lambda session: questions.append(ask(session)), deadline):
            raise ConnectionLost(connection.session.server, "it closed the connection")
        (question,) = questions
        if not self.wait_until(question.done, deadline):
            limit = self.manner.submit_timeout
            raise JobTimeout(f"no answer from {connection.session.server} within {limit:g} s")
        return question.outcome()


_dispatchers: WeakSet[Dispatcher] = WeakSet()


def _after_fork() -> None:
    for dispatcher in _dispatchers:
        dispatcher.forked()


os.register_at_fork(after_in_child=_after_fork)
