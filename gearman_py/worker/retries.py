"""The retry policy of a worker: which jobs are tried again after an error, and when."""

from gearman_py.errors import DataTooLarge
from gearman_py.worker.backoff import add_jitter
from gearman_py.worker.function_spec import FunctionSpec

LONGEST_PAUSE = 60.0  # seconds between attempts at a job


def may_retry(spec: FunctionSpec, attempt: int, error: BaseException) -> bool:
    """Whether a job of this function is tried again after ``attempt`` ended in ``error``."""
    if attempt > spec.retries or isinstance(error, DataTooLarge):
        return False
    return isinstance(error, spec.retry_errors)


def retry_pause(spec: FunctionSpec, attempt: int) -> float:
    """Seconds to wait after an attempt that failed: ``spec.backoff``, doubled each time."""
    longest = max(spec.backoff, LONGEST_PAUSE)
    return add_jitter(min(spec.backoff * 2.0 ** min(attempt - 1, 64), longest))
