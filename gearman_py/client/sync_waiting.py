"""How jobs are waited for by threads: the pool wakes them, and a job belongs to a process."""

from collections import deque
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Generic, TypeVar

from gearman_py.client.config import ClientConfig
from gearman_py.client.job import ClientJob
from gearman_py.client.sync_connection_pool import ConnectionPool
from gearman_py.errors import ConnectionLost, GearmanError


class WaitableJob(ClientJob):
    """What is the blocking client's own in a job."""

    _config: ClientConfig
    _pool: ConnectionPool

    def _check_callbacks(self) -> None:
        """Raise ValueError for an ``async`` callback."""
        for callback in (self._on_data, self._on_warning, self._on_status):
            if callback is not None and iscoroutinefunction(callback):
                raise ValueError(f"{callback!r} is async; use AsyncClient, which awaits callbacks")

    def _run_callbacks(self) -> None:
        """Run the callbacks that are due."""
        while self._news:
            self._news.popleft()()

    def _check_owner(self) -> None:
        """Raise ConnectionLost for a job whose connection belongs to the parent process."""
        if not self.done() and self._pool.abandoned:
            why = "its connection belongs to the parent process"
            raise ConnectionLost(self.server, why, handle=self.handle)

    def _wait_until(self, until: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until ``until()``; False if ``deadline`` passes first."""
        if self._pool.abandoned:
            self._check_owner()
        return self._pool.wait_until(until, deadline)

    def _wait_accepted(self, deadline: float) -> None:
        """Wait until a server has accepted or refused it, at most until ``deadline``."""
        self._pool.wait_until(self._is_answered, deadline)

    def _wait_first_answer(self, deadline: float) -> None:
        """As _wait_accepted(), but for the result too, which comes soon after JOB_CREATED.

        Waiting for both together saves a third of the work of a small job.
        """
        self._pool.wait_until(self._has_news, deadline, job=self)

    def _submit_again(self, error: GearmanError) -> None:
        self._pool.submit_again(self, error)


J = TypeVar("J", bound=WaitableJob)


class EndedJobs(Generic[J]):
    """Jobs in the order in which they end."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.jobs: deque[J] = deque()
        self.add_job = self.jobs.append

    def wait_any(self, deadline: float | None) -> bool:
        """Wait for a job that was not taken yet; False if ``deadline`` passes first."""
        return self._pool.wait_until(lambda: bool(self.jobs), deadline)
