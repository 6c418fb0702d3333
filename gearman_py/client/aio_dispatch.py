"""How the jobs of an AsyncClient reach servers: connections, batches, lost jobs."""

from asyncio import sleep
from collections.abc import Callable
from time import monotonic

from gearman_py.client import timeout_texts
from gearman_py.client.aio_connection_pool import AsyncConnectionPool
from gearman_py.client.aio_job import AsyncJob
from gearman_py.client.aio_pooled_connection import AsyncPooledConnection
from gearman_py.client.arguments import NO_OPTIONS, Data, JobOptions, Timeout, split_batches
from gearman_py.client.config import ClientConfig
from gearman_py.client.job import SUBMITTED, ClientJob
from gearman_py.client.job_status import JobStatus
from gearman_py.client.question import Question, read_status
from gearman_py.client.routing import Router
from gearman_py.client.search import JobSearch
from gearman_py.client.session import ClientSession
from gearman_py.errors import GearmanError, JobTimeout, ServerUnavailable
from gearman_py.net.servers import ServerAddress, why_not
from gearman_py.per_loop import PerLoop


class AsyncDispatcher:
    """One for each client."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._resubmits = config.max_resubmits
        self.router = Router(config.servers, lambda server: self.pool.count_in_flight(server))
        self._pools = PerLoop(
            lambda: AsyncConnectionPool(config, self._resubmit_lost), AsyncConnectionPool.abandon
        )

    @property
    def pool(self) -> AsyncConnectionPool:
        """The connections that can be used here."""
        return self._pools.here

    async def close(self) -> None:
        """Close the connections; foreground jobs that are not done are lost."""
        await self._pools.close()

    def make_job(
        self, function: str, workload: Data = b"", options: JobOptions = NO_OPTIONS
    ) -> AsyncJob:
        """A job to submit. Raises ValueError or ArgumentTooLarge."""
        config = self.config
        job = AsyncJob(function, workload, options, config.serializer)
        job.prefix = config.prefix
        job.resubmits, job.others = self._resubmits, len(config.servers) - 1
        job._config = config
        job._pool = self._pools.here
        return job

    async def submit_jobs(self, jobs: list[AsyncJob]) -> None:
        """Submit jobs, many in one write, and wait until servers have answered for all of them."""
        for batch in split_batches(jobs):
            deadline = monotonic() + self.config.submit_timeout
            await self.write_jobs(batch, deadline)
            await self._await_accepted(batch, deadline)

    async def run_job(self, job: AsyncJob, timeout: Timeout) -> bytes:
        """Submit a job and wait for its result, with the errors of submit() and result()."""
        accept_by = monotonic() + self.config.submit_timeout
        try:
            await self.write_jobs([job], accept_by)
            limit = self.config.resolve_timeout(timeout)
            deadline = None if limit is None else monotonic() + limit
            first = accept_by if deadline is None else min(accept_by, deadline)
            await job._wait_first_answer(first)
            if job.state is SUBMITTED:
                await self._await_accepted([job], accept_by)
            return await job._result_by(deadline, limit)
        except BaseException:
            job._pool.forget_job(job)
            raise

    async def write_jobs(self, jobs: list[AsyncJob], deadline: float) -> None:
        """Write jobs to their servers."""
        # Connect first: if no server can be reached, nothing is written.
        groups = self.router.group_jobs(jobs, monotonic())
        ready = [(await self.connect_first(order), group) for order, group in groups]
        for connection, group in ready:
            if not await self._pools.here.send_jobs(connection, group, deadline):
                await self.write_jobs(group, deadline)

    async def _await_accepted(self, jobs: list[AsyncJob], deadline: float) -> None:
        for job in reversed(jobs):  # from the last: one wait for most of them
            if job.state is SUBMITTED:
                await job._wait_accepted(deadline)
                if job.state is SUBMITTED:
                    raise JobTimeout(timeout_texts.not_accepted(job, self.config.submit_timeout))

    async def _resubmit_lost(self, jobs: list[ClientJob]) -> None:
        try:
            lost = [job for job in jobs if isinstance(job, AsyncJob)]
            self.router.mark_refusing({job._refused_by for job in lost}, monotonic())
            await self.write_jobs(lost, monotonic() + self.config.submit_timeout)
        except GearmanError as error:
            for job in jobs:
                job._give_up(error)

    async def connect_first(self, order: list[ServerAddress]) -> AsyncPooledConnection:
        """A connection to the first of these servers that answers. Raises ServerUnavailable."""
        pool, timeout = self._pools.here, self.config.connect_timeout
        for attempt in range(1, self.config.retry.attempts + 1):
            failures = []
            for server in order:
                try:
                    connection = await pool.get_connection(server, timeout)
                except OSError as error:
                    self.router.mark_failed(server, monotonic())
                    failures.append((str(server), why_not(error, timeout)))
                else:
                    self.router.mark_reached(server)
                    return connection
            if attempt < self.config.retry.attempts:
                await sleep(self.config.retry.pause_after(attempt))
        raise ServerUnavailable(failures)

    async def find_result(self, handle: str, timeout: Timeout) -> bytes:
        """Wait for the end of a job in the background, with the errors of Client.result()."""
        job = await self._find_job(handle)
        limit = self.config.resolve_timeout(timeout)
        deadline = None if limit is None else monotonic() + limit
        if job.has_ended and deadline is not None:  # its end was sent: it only has to arrive
            deadline = max(deadline, monotonic() + self.config.submit_timeout)
        return await job._result_by(deadline, limit)

    async def _find_job(self, handle: str) -> AsyncJob:
        """A job in the background, at the first server that knows it."""
        search = JobSearch(handle)
        for server in self.config.servers:
            deadline = monotonic() + self.config.submit_timeout
            try:
                connection = await self.connect_first([server])
            except ServerUnavailable as error:
                search.silent += error.attempts
                continue
            awaited = connection.session.find_awaited(handle)
            if isinstance(awaited, AsyncJob):
                return awaited
            _, able = await self.ask_server(connection, lambda session: session.ask_results())
            job = self.make_job("-")
            job._await(handle)
            if able != b"1":
                search.unable.append(str(server))
            elif await self.pool.send_jobs(connection, [job], deadline):
                await self._await_accepted([job], deadline)
                if search.is_found(job):
                    return job
            else:
                search.silent.append((str(server), "the connection was lost"))
        raise search.explain()

    async def find_status(
        self, ask: Callable[[ClientSession], Question], server: str | None
    ) -> JobStatus:
        """The answer of ``server``; for None, of the first server that knows the job."""
        servers = self.router.find_servers(server)
        status = None
        for one in servers:
            try:
                connection = await self.connect_first([one])
            except ServerUnavailable:
                if one is servers[-1] and status is None:
                    raise  # none has answered
                continue
            status = read_status(await self.ask_server(connection, ask))
            if status.known or status.outcome:
                break
        return status or JobStatus(False, False, 0, 0)

    async def ask_server(
        self, connection: AsyncPooledConnection, ask: Callable[[ClientSession], Question]
    ) -> list[bytes]:
        """Ask a question and wait for its answer. Raises JobTimeout or ConnectionLost."""
        limit = self.config.submit_timeout
        question = await self.pool.ask_question(connection, ask, monotonic() + limit)
        if not question.done():
            raise JobTimeout(timeout_texts.no_answer(connection.session.server, limit))
        return question.result()
