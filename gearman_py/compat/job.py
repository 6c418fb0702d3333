"""A job and the request for it, with the API of python-gearman."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gearman_py.client.job import JobState
from gearman_py.client.sync_job import Job
from gearman_py.compat.constants import (
    JOB_COMPLETE,
    JOB_CREATED,
    JOB_FAILED,
    JOB_PENDING,
    JOB_UNKNOWN,
    PRIORITY_NONE,
)
from gearman_py.errors import JobException

_STATES = {
    JobState.SUBMITTED: JOB_PENDING,
    JobState.CREATED: JOB_CREATED,
    JobState.RUNNING: JOB_CREATED,
    JobState.COMPLETE: JOB_COMPLETE,
    JobState.FAILED: JOB_FAILED,
    JobState.LOST: JOB_UNKNOWN,
}


class GearmanJob:
    """A job: its server, handle, function, unique and data.

    ``connection`` is an element of ``connection_list`` in a client, and internal in a worker.
    """

    def __init__(self, connection: Any, handle: Any, task: Any, unique: Any, data: Any) -> None:
        self.connection = connection
        self.handle = handle
        self.task = task
        self.unique = unique
        self.data = data

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({facts})"

    def to_dict(self) -> dict[str, Any]:
        """The job as a dict."""
        return {
            "task": self.task,
            "job_handle": self.handle,
            "unique": self.unique,
            "data": self.data,
        }


class GearmanJobRequest:
    """The state of a submitted job. A client updates it while it waits for any job."""

    def __init__(
        self,
        gearman_job: GearmanJob,
        initial_priority: str | None = PRIORITY_NONE,
        background: bool = False,
        max_attempts: int = 1,
    ) -> None:
        self.gearman_job = gearman_job
        self.priority = initial_priority
        self.background = background
        self.connection_attempts = 0
        self.max_connection_attempts = max_attempts
        self.initialize_request()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(gearman_job={self.gearman_job!r}, "
            f"initial_priority={self.priority!r}, background={self.background!r}, "
            f"max_attempts={self.max_connection_attempts!r})"
        )

    def initialize_request(self) -> None:
        """Reset it to the state before it was submitted."""
        self.result: Any = None
        self.exception: Any = None
        self.warning_updates: deque[Any] = deque()
        self.data_updates: deque[Any] = deque()
        self.status: dict[str, Any] = {}
        self.state = JOB_UNKNOWN
        self.timed_out = False
        self.submitted: Job | None = None  # of our library
        self._last_status: tuple[int, int] | None = None

    def reset(self) -> None:
        """Reset it to the state before it was submitted."""
        self.initialize_request()

    @property
    def job(self) -> GearmanJob:
        """The job."""
        return self.gearman_job

    @property
    def complete(self) -> bool:
        """Whether it has ended; for a background job, whether a server has accepted it."""
        ends = (JOB_CREATED,) if self.background else (JOB_FAILED, JOB_COMPLETE)
        return self.state in ends

    def set_status(self, known: bool, running: bool, numerator: int, denominator: int) -> None:
        """Record the status that a server has sent."""
        self.status = {
            "handle": self.job.handle,
            "known": known,
            "running": running,
            "numerator": numerator,
            "denominator": denominator,
            "time_received": time.time(),
        }

    def update_from_job(self, decode: Callable[[bytes], Any]) -> None:
        """Update it from the job of our library."""
        job, before = self.submitted, self.state
        if job is None:
            return
        self.state = _STATES[job.state]
        if job.handle:
            self.job.handle = job.handle.encode(errors="surrogateescape")
        for heard, updates in ((job.data, self.data_updates), (job.warnings, self.warning_updates)):
            new = heard[:]
            del heard[: len(new)]  # more may have arrived meanwhile
            updates.extend(map(decode, new))
        if job.status not in (None, self._last_status):
            self._last_status = job.status
            self.set_status(True, True, *job.status)
        if self.state == before:
            return
        if self.state == JOB_COMPLETE:
            self.result = decode(job.result())
        elif isinstance(job.error, JobException):
            self.exception = _decode_or_keep(decode, job.error.data)


def _decode_or_keep(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """The data of an exception, which other workers may not have encoded."""
    try:
        return decode(data)
    except Exception:
        return data
