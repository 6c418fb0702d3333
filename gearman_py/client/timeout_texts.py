"""What JobTimeout says: the same for clients that block and clients that await.

``seconds`` is the limit that has passed; None where there is none, so that the text is not used.
"""

from gearman_py.client.job import ClientJob


def no_result(job: ClientJob, seconds: float | None) -> str:
    """The job has not ended in time."""
    return f"no result of {job.function}{_within(seconds)} (job {job.handle})"


def no_next_result(function: str, seconds: float | None) -> str:
    """None of map()'s jobs has ended in time."""
    return f"no next result of {function}{_within(seconds)}"


def not_accepted(job: ClientJob, seconds: float) -> str:
    """The server has not answered the submission in time."""
    return f"{job.server} did not accept {job.function}{_within(seconds)}"


def not_ended(count: int, seconds: float | None) -> str:
    """Jobs of as_completed() have not ended in time."""
    jobs = "1 job has" if count == 1 else f"{count} jobs have"
    return f"{jobs} not ended{_within(seconds)}"


def no_answer(server: str, seconds: float) -> str:
    """The server has not answered a question in time."""
    return f"no answer from {server}{_within(seconds)}"


def _within(seconds: float | None) -> str:
    return "" if seconds is None else f" within {seconds:g} s"
