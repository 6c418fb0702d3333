"""The search for a background job at all servers."""

from gearman_py.client.job import ClientJob
from gearman_py.errors import (
    GearmanError,
    ResultsUnsupported,
    ServerUnavailable,
    SubmitError,
    UnknownJob,
)


class JobSearch:
    """What servers have said about a job that is not known to any so far.

    ``silent``: those that did not answer, and why. ``unable``: those that cannot be asked.
    """

    def __init__(self, handle: str) -> None:
        self._handle = handle
        self._why: list[str] = []  # of those where it is unknown
        self.silent: list[tuple[str, str]] = []
        self.unable: list[str] = []

    def is_found(self, job: ClientJob) -> bool:
        """Whether a server has answered that it knows the job. Raises the job's error."""
        if isinstance(job.error, SubmitError) and job.error.code == "UNKNOWN_JOB":
            self._why.append(job.error.text)
            return False
        if job.error is not None and not job.has_ended:
            raise job.error
        return True

    def explain(self) -> GearmanError:
        """Why it was not found."""
        if self.silent:
            where = f"job {self._handle} is unknown at {len(self._why)} others"
            return ServerUnavailable(self.silent, where if self._why else "")
        if self.unable:
            return ResultsUnsupported(self._handle, self.unable)
        return UnknownJob(self._handle, "; ".join(dict.fromkeys(self._why)))
