"""A job as its client sees it. The session changes it; the front ends wait for it.

What happened to a job is kept as news until someone waits for it: callbacks run in the
thread or task that waits, never inside the reading of a socket.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from types import EllipsisType
from typing import Literal, NamedTuple

from gearman_py.errors import GearmanError

Data = bytes | str
Priority = Literal["low", "normal", "high"]
Unique = str | bytes | Literal[True] | None
OnData = Callable[[bytes], object]
OnStatus = Callable[[int, int], object]
Timeout = float | EllipsisType | None
"""Seconds, None for no limit, or ... for the client's own limit."""


class JobState(Enum):
    """How far a job is, as far as its client has heard."""

    SUBMITTED = "submitted"
    CREATED = "created"  # the server has accepted it
    RUNNING = "running"  # a worker has been heard
    COMPLETE = "complete"
    FAILED = "failed"
    LOST = "lost"  # nobody will tell how it ends


_OVER = frozenset({JobState.COMPLETE, JobState.FAILED, JobState.LOST})


class JobStatus(NamedTuple):
    """What a server says of a job: ``numerator / denominator`` is the worker's own measure."""

    known: bool
    running: bool
    numerator: int
    denominator: int

    @property
    def fraction(self) -> float:
        """The part done, from 0.0; 0.0 when the worker has not said."""
        return self.numerator / self.denominator if self.denominator else 0.0


class ClientJob:
    """What both kinds of client job share: the facts, and the news to be told."""

    def __init__(
        self,
        function: str,
        workload: bytes,
        unique: str,
        *,
        background: bool = False,
        on_data: OnData | None = None,
        on_warning: OnData | None = None,
        on_status: OnStatus | None = None,
    ) -> None:
        self.function = function
        self.workload = workload
        self.unique = unique
        self.background = background
        self.handle = ""
        self.server = ""
        self.state = JobState.SUBMITTED
        self.data: list[bytes] = []
        self.warnings: list[bytes] = []
        self.status: tuple[int, int] | None = None
        self.error: GearmanError | None = None
        self._answer = b""
        self._on_data, self._on_warning, self._on_status = on_data, on_warning, on_status
        self._news: deque[Callable[[], object]] = deque()

    def __repr__(self) -> str:
        handle = self.handle or "no handle yet"
        return f"<{type(self).__name__} {self.function} {handle} {self.state.value}>"

    def done(self) -> bool:
        """Whether the job is complete, has failed or is lost."""
        return self.state in _OVER

    # The session calls these.

    def created(self, handle: str) -> None:
        """The server has accepted the job."""
        self.handle = handle
        self.state = JobState.CREATED
        self._wake()

    def add_data(self, data: bytes) -> None:
        """A part of the result has come."""
        self.data.append(data)
        self._heard(self._on_data, data)

    def add_warning(self, data: bytes) -> None:
        """The worker has warned."""
        self.warnings.append(data)
        self._heard(self._on_warning, data)

    def set_status(self, numerator: int, denominator: int) -> None:
        """The worker has said how far it is."""
        self.status = (numerator, denominator)
        self._heard(self._on_status, numerator, denominator)

    def complete(self, answer: bytes) -> None:
        """The job is done."""
        self._answer = answer
        self.state = JobState.COMPLETE
        self._wake()

    def fail(self, error: GearmanError, *, lost: bool = False) -> None:
        """The job has failed, or nothing more will be heard of it."""
        self.error = error
        self.state = JobState.LOST if lost else JobState.FAILED
        self._wake()

    def _heard(self, tell: Callable[..., object] | None, *news: object) -> None:
        self.state = JobState.RUNNING
        if tell is not None:
            self._news.append(partial(tell, *news))
            self._wake()

    # The front ends call these.

    def _wake(self) -> None:
        """Something has changed; a front end may say how its waiters learn of it."""

    def _deliver(self) -> None:
        """Run the callbacks for what has happened since."""
        while self._news:
            self._news.popleft()()

    def _outcome(self) -> bytes:
        self._deliver()
        if self.error is not None:
            raise self.error
        return self._answer

    def _must_have_result(self) -> None:
        if self.background:
            raise GearmanError(
                f"{self.function} runs in the background: nobody hears its result "
                f"(job {self.handle}); ask status() whether it is known"
            )
