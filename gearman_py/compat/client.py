"""GearmanClient: submits jobs and waits for them, with the API of python-gearman."""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable
from time import monotonic
from typing import Any
from weakref import WeakSet, finalize

from gearman_py.client.arguments import Priority
from gearman_py.client.config import LARGEST_PACKET, ClientConfig, Retry
from gearman_py.client.job import JobState
from gearman_py.client.question import Question, read_status
from gearman_py.client.session import ClientSession
from gearman_py.client.sync_dispatch import Dispatcher
from gearman_py.client.sync_job import Job
from gearman_py.compat.connection_manager import GearmanConnectionManager, Host, as_text
from gearman_py.compat.constants import (
    JOB_PENDING,
    JOB_UNKNOWN,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NONE,
)
from gearman_py.compat.errors import ExceededConnectionAttempts, ServerUnavailable, unavailable
from gearman_py.compat.job import GearmanJobRequest
from gearman_py.errors import ConnectionLost, SubmitError
from gearman_py.not_copied import NotCopied
from gearman_py.serializer import JSON

_PRIORITIES: dict[str | None, Priority] = {
    PRIORITY_NONE: "normal",
    PRIORITY_LOW: "low",
    PRIORITY_HIGH: "high",
}
CONNECT_TIMEOUT = 3.0  # seconds for a server to accept a connection
WRITE_TIMEOUT = 60.0  # seconds for a server to read what is written

Requests = Collection[GearmanJobRequest]


class GearmanClient(NotCopied, GearmanConnectionManager):
    """Submits jobs to any of its servers.

    A ``poll_timeout`` is in seconds; None means no limit. A request that timed out has
    ``timed_out`` set; a job whose server was lost is in the state JOB_UNKNOWN.
    """

    def __init__(
        self, host_list: Iterable[Host] | None = None, random_unique_bytes: int = 16
    ) -> None:
        super().__init__(host_list)
        self.random_unique_bytes = random_unique_bytes
        self._requests: WeakSet[GearmanJobRequest] = WeakSet()  # that have not ended
        self._dispatcher = Dispatcher(
            ClientConfig(
                servers=self.connection_list,
                connect_timeout=CONNECT_TIMEOUT,
                submit_timeout=WRITE_TIMEOUT,
                timeout=None,
                retry=Retry(attempts=1),
                on_lost="raise",
                prefix="",
                serializer=JSON,
                max_packet=LARGEST_PACKET,  # python-gearman has no limit
            )
        )
        finalize(
            self, self._dispatcher.close
        )  # programs written for pygearman rarely call shutdown()

    def submit_job(
        self,
        task: str | bytes,
        data: Any,
        unique: str | bytes | None = None,
        priority: str | None = PRIORITY_NONE,
        background: bool = False,
        wait_until_complete: bool = True,
        max_retries: int = 0,
        poll_timeout: float | None = None,
    ) -> GearmanJobRequest:
        """Submit one job; see submit_multiple_jobs()."""
        job = {"task": task, "data": data, "unique": unique, "priority": priority}
        (request,) = self.submit_multiple_jobs(
            [job], background, wait_until_complete, max_retries, poll_timeout
        )
        return request

    def submit_multiple_jobs(
        self,
        jobs_to_submit: Collection[dict[str, Any]],
        background: bool = False,
        wait_until_complete: bool = True,
        max_retries: int = 0,
        poll_timeout: float | None = None,
    ) -> Requests:
        """Submit jobs, dicts with the keys task, data, unique and priority, and wait for them.

        ``max_retries``: how often a job is resubmitted if its server is lost before it has
        accepted the job. Raises what wait_until_jobs_accepted() and ..._completed() raise.
        """
        requests = [self._make_request(job, background, max_retries) for job in jobs_to_submit]
        return self.submit_multiple_requests(requests, wait_until_complete, poll_timeout)

    def submit_multiple_requests(
        self,
        job_requests: Requests,
        wait_until_complete: bool = True,
        poll_timeout: float | None = None,
    ) -> Requests:
        """Submit requests and wait until they are accepted, or complete."""
        deadline = _deadline_after(poll_timeout)
        self.wait_until_jobs_accepted(job_requests, poll_timeout)
        if wait_until_complete:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            self.wait_until_jobs_completed(job_requests, left)
        return job_requests

    def wait_until_jobs_accepted(
        self, job_requests: Requests, poll_timeout: float | None = None
    ) -> Requests:
        """Submit new and lost requests, and wait until servers have accepted all of them.

        Raises ServerUnavailable, ExceededConnectionAttempts, and SubmitError for the first that
        was refused (such as by a full queue), for which pygearman would wait indefinitely.
        """
        deadline = _deadline_after(poll_timeout)
        while fresh := [request for request in job_requests if request.state == JOB_UNKNOWN]:
            self._submit_requests(fresh)
            self._wait_until_ready(fresh, lambda job: job.state is not JobState.SUBMITTED, deadline)
            if deadline is not None and monotonic() >= deadline:
                break
        pending = [request for request in job_requests if request.state == JOB_PENDING]
        self._wait_until_ready(pending, lambda job: job.state is not JobState.SUBMITTED, deadline)
        for request in job_requests:
            request.timed_out = request.state == JOB_PENDING
        for request in job_requests:
            if request.submitted is not None and isinstance(request.submitted.error, SubmitError):
                raise request.submitted.error
        return job_requests

    def wait_until_jobs_completed(
        self, job_requests: Requests, poll_timeout: float | None = None
    ) -> Requests:
        """Wait until all have ended. Raises ServerUnavailable if all of their servers are lost."""
        self._wait_until_ready(job_requests, Job.done, _deadline_after(poll_timeout))
        for request in job_requests:
            request.timed_out = not request.complete
        self._raise_if_none_left(job_requests)
        return job_requests

    def get_job_status(
        self, current_request: GearmanJobRequest, poll_timeout: float | None = None
    ) -> GearmanJobRequest:
        """Ask for the status of a job; the answer is in its ``status``."""
        self.get_job_statuses([current_request], poll_timeout)
        return current_request

    def get_job_statuses(
        self, job_requests: Requests, poll_timeout: float | None = None
    ) -> Requests:
        """Ask for the status of jobs; the answers are in their ``status``.

        Raises ServerUnavailable."""
        asked: list[tuple[GearmanJobRequest, Question]] = []
        dispatcher = self._get_dispatcher()
        for request in job_requests:
            server = request.job.connection or self.connection_list[0]
            handle = as_text(request.job.handle)

            def queue_question(
                session: ClientSession, request: GearmanJobRequest = request, handle: str = handle
            ) -> None:
                asked.append((request, session.ask_status(handle)))

            connection = dispatcher.connect_first([server])
            if not dispatcher.pool.send_request(
                connection, queue_question, monotonic() + WRITE_TIMEOUT
            ):
                raise ServerUnavailable([(str(server), "it closed the connection")])
        dispatcher.pool.wait_until(
            lambda: all(question.done() for _, question in asked), _deadline_after(poll_timeout)
        )
        for request, question in asked:
            request.timed_out = not question.done()
            if question.done():
                try:
                    status = read_status(question.result())
                except ConnectionLost as error:
                    raise unavailable(error) from error
                request.set_status(*status[:4])
        return job_requests

    def poll_connections_until_stopped(
        self,
        submitted_connections: object,
        callback_fxn: Callable[[bool], object],
        timeout: float | None = None,
    ) -> bool:
        """Wait while ``callback_fxn(any_activity)`` is true and any job has not ended.

        For subclasses that wait for something other than all jobs. Returns True on a timeout.
        """

        def should_stop() -> bool:
            self._update_requests(self._requests)
            return not callback_fxn(True) or not self._requests

        stopped = self._get_dispatcher().pool.wait_until(should_stop, _deadline_after(timeout))
        return not stopped

    def shutdown(self) -> None:
        """Close the connections; foreground jobs that are not done are lost."""
        self._dispatcher.close()

    def _make_request(
        self, job: dict[str, Any], background: bool, max_retries: int
    ) -> GearmanJobRequest:
        unique = job.get("unique") or os.urandom(self.random_unique_bytes).hex()
        made = self.job_class(None, None, job["task"], unique, job["data"])
        priority = job.get("priority", PRIORITY_NONE)
        return GearmanJobRequest(made, priority, background, max_attempts=max_retries + 1)

    def _submit_requests(self, requests: Requests) -> None:
        """Write jobs to servers."""
        dispatcher = self._get_dispatcher()
        for request in requests:
            if request.connection_attempts >= request.max_connection_attempts:
                count = request.max_connection_attempts
                raise ExceededConnectionAttempts(
                    f"Exceeded {count} connection attempt(s) :: {request!r}"
                )
        for request in requests:
            unique = request.job.unique
            request.submitted = dispatcher.make_job(
                as_text(request.job.task),
                self.encode(request.job.data),
                {
                    "unique": None if unique is None else as_text(unique),
                    "priority": _PRIORITIES[request.priority],
                    "background": request.background,
                },
            )
        for request in requests:
            request.state = JOB_PENDING
            request.connection_attempts += 1
        jobs = [request.submitted for request in requests if request.submitted]
        try:
            dispatcher.write_jobs(jobs, monotonic() + WRITE_TIMEOUT)
        except ServerUnavailable:
            for request in requests:
                request.state = JOB_UNKNOWN
            raise
        self._requests.update(requests)
        servers = {str(server): server for server in self.connection_list}
        for request, job in zip(requests, jobs, strict=True):
            request.job.connection = servers[job.server]

    def _wait_until_ready(
        self, requests: Requests, ready: Callable[[Job], bool], deadline: float | None
    ) -> None:
        """Wait until the jobs of all requests are ready."""
        waiting = deque(request.submitted for request in requests if request.submitted)

        def all_ready() -> bool:
            while waiting and ready(waiting[0]):
                waiting.popleft()
            return not waiting

        self._get_dispatcher().pool.wait_until(all_ready, deadline)
        self._update_requests([*requests, *self._requests])

    def _update_requests(self, requests: Iterable[GearmanJobRequest]) -> None:
        for request in list(requests):
            request.update_from_job(self.decode)
            if request.submitted is None or request.submitted.done():
                self._requests.discard(request)

    def _raise_if_none_left(self, requests: Requests) -> None:
        """Raise if all servers are lost; otherwise, as in pygearman, the state shows a lost job."""
        errors = {
            request.job.connection: request.submitted.error
            for request in requests
            if request.state == JOB_UNKNOWN and request.submitted is not None
        }
        if errors and set(self.connection_list) <= errors.keys():
            raise ServerUnavailable([(str(server), str(why)) for server, why in errors.items()])

    def _get_dispatcher(self) -> Dispatcher:
        if not self.connection_list:
            raise ServerUnavailable([("no server", "none was given")])
        self._dispatcher.router.servers = self.connection_list
        return self._dispatcher


def _deadline_after(poll_timeout: float | None) -> float | None:
    return None if poll_timeout is None else monotonic() + poll_timeout
