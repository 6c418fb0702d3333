# Written by tests/twins.py from aio_dispatch.py; change that one.
"""How the jobs of a Client reach servers: connections, batches, lost jobs."""

from collections.abc import Callable
from time import monotonic, sleep

from gearman_py.client import timeout_texts
from gearman_py.client.arguments import NO_OPTIONS, Data, JobOptions, Timeout, split_batches
from gearman_py.client.config import ClientConfig
from gearman_py.client.job import SUBMITTED, ClientJob
from gearman_py.client.job_status import JobStatus
from gearman_py.client.question import Question, read_status
from gearman_py.client.routing import Router
from gearman_py.client.search import JobSearch
from gearman_py.client.session import ClientSession
from gearman_py.client.sync_connection_pool import ConnectionPool
from gearman_py.client.sync_job import Job
from gearman_py.client.sync_pooled_connection import PooledConnection
from gearman_py.errors import GearmanError, JobTimeout, ServerUnavailable
from gearman_py.net.servers import ServerAddress, why_not
from gearman_py.per_process import PerProcess


class Dispatcher:
    """One for each client."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._resubmits = config.max_resubmits
        self.router = Router(config.servers, lambda server: self.pool.count_in_flight(server))
        self._pools = PerProcess(
            lambda: ConnectionPool(config, self._resubmit_lost), ConnectionPool.abandon
        )

    @property
    def pool(self) -> ConnectionPool:
        """The connections that can be used here."""
        return self._pools.here

    def close(self) -> None:
        """Close the connections; foreground jobs that are not done are lost."""
        self._pools.close()

    def make_job(
        self, function: str, workload: Data = b"", options: JobOptions = NO_OPTIONS
    ) -> Job:
        """A job to submit. Raises ValueError or ArgumentTooLarge."""
        config = self.config
        job = Job(function, workload, options, config.serializer)
        job.prefix = config.prefix
        job.resubmits, job.others = self._resubmits, len(config.servers) - 1
        job._config = config
        job._pool = self._pools.here
        return job

    def submit_jobs(self, jobs: list[Job]) -> None:
        """Submit jobs, many in one write, and wait until servers have answered for all of them."""
        for batch in split_batches(jobs):
            deadline = monotonic() + self.config.submit_timeout
            self.write_jobs(batch, deadline)
            self._await_accepted(batch, deadline)

    def run_job(self, job: Job, timeout: Timeout) -> bytes:
        """Submit a job and wait for its result, with the errors of submit() and result()."""
        accept_by = monotonic() + self.config.submit_timeout
        try:
            self.write_jobs([job], accept_by)
            limit = self.config.resolve_timeout(timeout)
            deadline = None if limit is None else monotonic() + limit
            first = accept_by if deadline is None else min(accept_by, deadline)
            job._wait_first_answer(first)
            if job.state is SUBMITTED:
                self._await_accepted([job], accept_by)
            return job._result_by(deadline, limit)
        except BaseException:
            job._pool.forget_job(job)
            raise

    def write_jobs(self, jobs: list[Job], deadline: float) -> None:
        """Write jobs to their servers."""
        # Connect first: if no server can be reached, nothing is written.
        groups = self.router.group_jobs(jobs, monotonic())
        ready = [(self.connect_first(order), group) for order, group in groups]
        for connection, group in ready:
            if not self._pools.here.send_jobs(connection, group, deadline):
                self.write_jobs(group, deadline)

    def _await_accepted(self, jobs: list[Job], deadline: float) -> None:
        for job in reversed(jobs):  # from the last: one wait for most of them
            if job.state is SUBMITTED:
                job._wait_accepted(deadline)
                if job.state is SUBMITTED:
                    raise JobTimeout(timeout_texts.not_accepted(job, self.config.submit_timeout))

    def _resubmit_lost(self, jobs: list[ClientJob]) -> None:
        try:
            lost = [job for job in jobs if isinstance(job, Job)]
            self.router.mark_refusing({job._refused_by for job in lost}, monotonic())
            self.write_jobs(lost, monotonic() + self.config.submit_timeout)
        except GearmanError as error:
            for job in jobs:
                job._give_up(error)

    def connect_first(self, order: list[ServerAddress]) -> PooledConnection:
        """A connection to the first of these servers that answers. Raises ServerUnavailable."""
        pool, timeout = self._pools.here, self.config.connect_timeout
        for attempt in range(1, self.config.retry.attempts + 1):
            failures = []
            for server in order:
                try:
                    connection = pool.get_connection(server, timeout)
                except OSError as error:
                    self.router.mark_failed(server, monotonic())
                    failures.append((str(server), why_not(error, timeout)))
                else:
                    self.router.mark_reached(server)
                    return connection
            if attempt < self.config.retry.attempts:
                sleep(self.config.retry.pause_after(attempt))
        raise ServerUnavailable(failures)

    def find_result(self, handle: str, timeout: Timeout) -> bytes:
        """Wait for the end of a job in the background, with the errors of Client.result()."""
        job = self._find_job(handle)
        limit = self.config.resolve_timeout(timeout)
        deadline = None if limit is None else monotonic() + limit
        if job.has_ended and deadline is not None:  # its end was sent: it only has to arrive
            deadline = max(deadline, monotonic() + self.config.submit_timeout)
        return job._result_by(deadline, limit)

    def _find_job(self, handle: str) -> Job:
        """A job in the background, at the first server that knows it."""
        search = JobSearch(handle)
        for server in self.config.servers:
            deadline = monotonic() + self.config.submit_timeout
            try:
                connection = self.connect_first([server])
            except ServerUnavailable as error:
                search.silent += error.attempts
                continue
            awaited = connection.session.find_awaited(handle)
            if isinstance(awaited, Job):
                return awaited
            _, able = self.ask_server(connection, lambda session: session.ask_results())
            job = self.make_job("-")
            job._await(handle)
            if able != b"1":
                search.unable.append(str(server))
            elif self.pool.send_jobs(connection, [job], deadline):
                self._await_accepted([job], deadline)
                if search.is_found(job):
                    return job
            else:
                search.silent.append((str(server), "the connection was lost"))
        raise search.explain()

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
            if status.known or status.outcome:
                break
        return status or JobStatus(False, False, 0, 0)

    def ask_server(
        self, connection: PooledConnection, ask: Callable[[ClientSession], Question]
    ) -> list[bytes]:
        """Ask a question and wait for its answer. Raises JobTimeout or ConnectionLost."""
        limit = self.config.submit_timeout
        question = self.pool.ask_question(connection, ask, monotonic() + limit)
        if not question.done():
            raise JobTimeout(timeout_texts.no_answer(connection.session.server, limit))
        return question.result()
