"""Runs the jobs of one slot: in its thread, or in a process if that is required."""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock
from time import monotonic, sleep

from gearman_py.errors import GearmanError
from gearman_py.protocol.packets import Packet
from gearman_py.worker.backoff import Backoff
from gearman_py.worker.fork_server import (
    ForkServer,
    ProcessDied,
    TimeLimitReached,
    WorkerProcess,
)
from gearman_py.worker.job import Send, WorkerJob
from gearman_py.worker.job_runner import (
    JobRunner,
    failure_answer,
    time_limit_reached,
    worker_error,
)
from gearman_py.worker.session import Answer, Assignment
from gearman_py.worker.sync_connection import SyncConnection

_log = logging.getLogger("gearman_py.worker")

# Why a process ended.
DIED, TIME_LIMIT, MAX_JOBS, MAX_MEMORY = END_REASONS = (
    *("died", "time_limit", "max_jobs", "max_memory"),
)


class JobExecutor:
    """``fork_server`` forks the process; without one, all jobs run in the thread.

    With ``all_in_process`` all functions run in the process, otherwise those with a time limit.
    It is replaced after ``max_jobs`` jobs, or when it holds more than ``max_memory`` bytes after
    one.
    """

    def __init__(
        self,
        runner: JobRunner,
        fork_server: ForkServer | None,
        *,
        all_in_process: bool,
        max_jobs: int | None,
        max_memory: int | None,
        is_draining: Callable[[], bool],
    ) -> None:
        self._runner = runner
        self._fork_server = fork_server
        self._all_in_process = all_in_process
        self._max_jobs = max_jobs
        self._max_memory = max_memory
        self._is_draining = is_draining
        self._process: WorkerProcess | None = None
        self._lock = Lock()
        self._running = False
        self._closed = False
        self.ended_processes = Counter[str]()  # by why they ended

    def ensure_process(self) -> None:
        """Have a process ready. Raises ProcessDied if on_startup fails in it."""
        if self._fork_server is not None and self._process is None:
            self._process = self._fork_server.start_process()

    def __call__(self, assignment: Assignment, connection: SyncConnection) -> Answer:
        """Run a job to its end. Raises OSError or GearmanError only for connection errors."""
        if self._fork_server is None:  # it has nothing that could be killed meanwhile
            return self._run_assignment(assignment, connection)
        self._running = True
        try:
            return self._run_assignment(assignment, connection)
        finally:
            with self._lock:
                self._running = False
                if self._closed:
                    self._discard_process()

    def _run_assignment(self, assignment: Assignment, connection: SyncConnection) -> Answer:
        began = monotonic()
        send = partial(connection.send_update, assignment.handle)
        job = self._runner.make_job(assignment, connection.server, send)
        try:
            answer = self._run_job(job, assignment, send)
        except Exception as error:
            self._discard_process()
            answer = worker_error(job, error)
        answer = self._runner.report_outcome(job, answer, began)
        if self._fork_server is not None:
            self._renew_process()
        return answer

    def _run_job(self, job: WorkerJob, assignment: Assignment, send: Send) -> Answer:
        if assignment.too_large:
            return self._runner.refuse_oversized(job)
        if self._fork_server is None:
            return self._runner.run_plain(job)
        limit = self._runner.registry.time_limit(assignment.function)
        if not (self._all_in_process or limit):
            return self._runner.run_plain(job)
        if self._process is None:
            return failure_answer("WorkerDied: no worker process could be started")
        try:
            return self._process.run_job(assignment, job.server, partial(_send_on, send), limit)
        except ProcessDied as death:
            self._process = None
            self.ended_processes[DIED] += 1
            job.log.error("its worker process died: %s", death)
            return failure_answer(f"WorkerDied: the worker process died: {death}")
        except TimeLimitReached:
            self._process = None
            self.ended_processes[TIME_LIMIT] += 1
            return time_limit_reached(job, limit or 0)

    def _discard_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                process.end_now()

    def _renew_process(self) -> None:
        """Replace a process that died or has reached its limits."""
        process = self._process
        if process is not None and (why := self._limit_reached(process)):
            process.close()
            self._process = None
            self.ended_processes[why] += 1
        backoff = Backoff(0.1, 10.0)
        while self._process is None and not self._is_draining():
            try:
                self.ensure_process()
            except ProcessDied as death:
                pause = backoff.next()
                _log.error(
                    "cannot start a worker process: %s; trying again in %.1f s", death, pause
                )
                sleep(pause)

    def _limit_reached(self, process: WorkerProcess) -> str:
        """Why a process has to be replaced; "" if it has not."""
        if self._max_jobs is not None and process.jobs >= self._max_jobs:
            return MAX_JOBS
        if self._max_memory is not None and process.resident_memory > self._max_memory:
            return MAX_MEMORY
        return ""

    @property
    def resident_memory(self) -> int:
        """The memory that its process uses now, in bytes; from any thread."""
        process = self._process
        return process.resident_memory if process is not None else 0

    def close(self, *, now: bool) -> None:
        """Let the process end, or kill it ``now``; if a job was abandoned, its thread does so."""
        with self._lock:
            self._closed = True
            if self._running:
                self.kill()
            elif now:
                self._discard_process()
            elif self._process is not None:
                self._process.close()
                self._process = None

    def kill(self) -> None:
        """Kill the process now, from any thread."""
        if (process := self._process) is not None:
            process.kill()


def _send_on(send: Send, packet: Packet, *arguments: bytes) -> None:
    """Pass an update on to the server; a lost connection is noticed when the job ends."""
    try:
        send(packet, *arguments)
    except (OSError, GearmanError):
        pass
