"""A job as its client sees it. The session updates it; the front ends wait for it.

Events are queued until a thread or task waits for the job: callbacks run there, never while a
socket is being read.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Literal, NamedTuple

from gearman_py.client.arguments import (
    Priority,
    Submit,
    as_bytes,
    as_epoch,
    as_function,
    as_unique,
)
from gearman_py.client.routing import key_of
from gearman_py.errors import GearmanError, QueueFull, SubmitError
from gearman_py.not_copied import NotCopied
from gearman_py.serializer import JSON, Serializer


class JobState(Enum):
    """The state of a job, as far as its client knows."""

    SUBMITTED = "submitted"
    CREATED = "created"  # the server has accepted it
    RUNNING = "running"  # a worker has sent something
    COMPLETE = "complete"
    FAILED = "failed"
    LOST = "lost"  # its server was lost: the outcome will stay unknown


_OVER = (JobState.COMPLETE, JobState.FAILED, JobState.LOST)  # a tuple: hashing an Enum is slow


Outcome = Literal["complete", "failed"]

# How often a job goes to another server because one is drained.
MAX_RETURNS = 100


class JobStatus(NamedTuple):
    """What a server knows about a job; the worker chose ``numerator`` and ``denominator``.

    ``known``: it waits or runs.
    """

    known: bool
    running: bool
    numerator: int
    denominator: int
    clients: int | None = None
    """How many clients wait for it; None if the question was not by unique."""
    outcome: Outcome | None = None
    """How a background job has ended whose result or failure is kept. None: it has not ended, or
    the server does not know it (any longer)."""

    @property
    def fraction(self) -> float:
        """The part that is done, from 0.0; 0.0 if the worker has not reported any."""
        return self.numerator / self.denominator if self.denominator else 0.0


@dataclass(frozen=True, kw_only=True)
class JobSnapshot:
    """What was known about a job when an error about it was copied or pickled; see Job."""

    function: str
    workload: bytes
    unique: str
    priority: Priority
    background: bool
    handle: str
    server: str
    state: JobState
    data: list[bytes]
    warnings: list[bytes]
    status: tuple[int, int] | None

    def snapshot(self) -> "JobSnapshot":
        """Itself."""
        return self


class ClientJob(NotCopied):
    """What Job and AsyncJob share: the facts, and the callbacks that are due.

    ``resubmits``: how often it may be submitted again if its server is lost. ``others``: to how
    many other servers it may go if one refuses to queue it.
    Raises ValueError or ArgumentTooLarge for a job that cannot be submitted.
    """

    _instead = "pass on its handle or snapshot()"

    def __init__(
        self,
        given: Submit,
        *,
        prefix: str = "",
        resubmits: int = 0,
        others: int = 0,
        serializer: Serializer = JSON,
    ) -> None:
        self.function = as_function(given.function)
        self.workload = as_bytes(given.workload)
        if given.value is not ...:
            self.workload = _dump_value(given, serializer)
        self.unique = as_unique(given.unique)
        self.priority = given.priority
        self.at = as_epoch(given.at)
        self.reducer = None if given.reducer is None else as_function(given.reducer)
        self.background = given.background or self.at is not None
        self.handle = ""
        self.server = ""
        self.state = JobState.SUBMITTED
        self.data: list[bytes] = []
        self.warnings: list[bytes] = []
        self.status: tuple[int, int] | None = None
        self.error: GearmanError | None = None
        self.prefix = prefix
        self.resubmits = resubmits
        self.others = others
        self.is_awaited = False  # it was submitted before, in the background
        self.has_ended = False  # the server said so; its end follows
        self._refused_by = ""
        self._returns = 0
        self._answer = b""
        self._on_data, self._on_warning = given.on_data, given.on_warning
        self._on_status = given.on_status
        self._news: deque[Callable[[], object]] = deque()
        if self.background and (given.on_data or given.on_warning or given.on_status):
            raise ValueError(
                "on_data, on_warning and on_status: a background job sends nothing back"
            )
        if self.priority not in ("low", "normal", "high"):
            raise ValueError(f"unknown priority {self.priority!r}; expected low, normal or high")
        if self.priority != "normal" and (self.at is not None or self.reducer is not None):
            kind = "at a time" if self.at is not None else "with a reducer"
            raise ValueError(f"a job {kind} always has normal priority in the protocol")
        if self.at is not None and self.reducer is not None:
            raise ValueError(
                "a job can have a time or a reducer: the protocol has no packet for both"
            )
        if given.on_data or given.on_warning or given.on_status:
            self._check_callbacks()

    def __repr__(self) -> str:
        handle = self.handle or "no handle yet"
        return f"<{type(self).__name__} {self.function} {handle} {self.state.value}>"

    @property
    def _routing_key(self) -> bytes | None:
        """Equal for jobs that can share a run; None for a job that cannot."""
        return key_of(self.function, self.unique, self.workload)

    def done(self) -> bool:
        """Whether the job is complete, failed or lost; for a background job, whether a server
        has accepted it or never will."""
        return self.state in _OVER or (self.background and self.state is not JobState.SUBMITTED)

    def _await(self, handle: str) -> None:
        """It was submitted before, in the background: wait for its end."""
        self.handle, self.is_awaited = handle, True
        self.resubmits = self.others = 0

    # The session calls these.

    def _set_created(self, handle: str) -> None:
        """The server has accepted the job."""
        self.handle = handle
        self.state = JobState.CREATED
        self._notify_waiters()

    def _add_data(self, data: bytes) -> None:
        """A part of the result has arrived."""
        self._keep_or_tell(self._on_data, self.data, data)

    def _add_warning(self, data: bytes) -> None:
        """The worker has sent a warning."""
        self._keep_or_tell(self._on_warning, self.warnings, data)

    def _set_status(self, numerator: int, denominator: int) -> None:
        """The worker has reported its progress."""
        self.status = (numerator, denominator)
        self.state = JobState.RUNNING
        if self._on_status is not None:
            self._add_news(partial(self._on_status, numerator, denominator))

    def _set_complete(self, answer: bytes) -> None:
        """The job is done."""
        self._answer = answer
        self.state = JobState.COMPLETE
        self._notify_waiters()

    def _set_failed(self, error: GearmanError) -> None:
        """The job has failed."""
        self.error = error
        self.state = JobState.FAILED
        self._notify_waiters()

    def _handle_refusal(self, error: SubmitError) -> None:
        """A server did not queue it, and does not run it: another one may.

        A full queue and a job that is too large are what someone decided: they are refusals.
        """
        if self.others and error.code == "QUEUE_ERROR" and not isinstance(error, QueueFull):
            self.others -= 1
            self._refused_by = self.server
            self._submit_again(error)
        else:
            self._set_failed(error)

    def _handle_return(self, error: SubmitError) -> None:
        """A server that is drained gives it back: another one is to run it."""
        if self.others and self._returns < MAX_RETURNS:
            self._returns += 1
            self._refused_by = self.server
            self._forget_run()
            self._submit_again(error)
        else:
            self._set_failed(error)

    def _forget_run(self) -> None:
        """It is to be submitted again: what a run has sent is that run's."""
        self.state = JobState.SUBMITTED
        self.handle = ""
        del self.data[:], self.warnings[:]

    def _handle_loss(self, error: GearmanError) -> None:
        """Its server was lost: submit it again if that is allowed."""
        if self.resubmits:
            self.resubmits -= 1
            self._forget_run()
            self._submit_again(error)
        else:
            self._give_up(error)

    def _give_up(self, error: GearmanError) -> None:
        """Its server was lost, and it is not submitted again."""
        self.error = error
        self.state = JobState.LOST
        self._notify_waiters()

    def _keep_or_tell(
        self, tell: Callable[[bytes], object] | None, kept: list[bytes], data: bytes
    ) -> None:
        """Hand ``data`` on or keep it, never both: there may be more than fits into memory."""
        self.state = JobState.RUNNING
        if tell is None:
            kept.append(data)
            self._notify_waiters()
        else:
            self._add_news(partial(tell, data))

    def _add_news(self, news: Callable[[], object]) -> None:
        self._news.append(news)
        self._notify_waiters()

    # The front ends call these, or override them.

    _listener: Callable[[Any], object] | None = None
    """Called with the job when it has ended."""

    def _notify_waiters(self) -> None:
        """Wake whoever waits for this job."""
        if self._listener is not None and self.done():
            self._listener(self)

    def _submit_again(self, error: GearmanError) -> None:
        """Submit it again, after ``error``."""

    def _check_callbacks(self) -> None:
        """Raise ValueError for callbacks that cannot be called."""

    _streamed = False
    """Whether its parts are handed on as they arrive."""

    def _is_answered(self) -> bool:
        """Whether a server has accepted or refused it."""
        return self.state is not JobState.SUBMITTED

    def _has_news(self) -> bool:
        """Whether callbacks are due, or it has ended."""
        return bool(self._news) or self.done()

    def _has_part_or_news(self) -> bool:
        """Whether stream() has something to do."""
        return bool(self.data) or self._has_news()

    @property
    def _result_size(self) -> int:
        """The bytes of its result that have arrived."""
        size = len(self._answer)
        return size + sum(map(len, self.data)) if self.data else size

    def snapshot(self) -> JobSnapshot:
        """What is known about it now."""
        facts = vars(self)
        return JobSnapshot(**{name: facts[name] for name in JobSnapshot.__dataclass_fields__})

    def _map_outcome(self, on_error: Literal["raise", "yield"]) -> bytes | GearmanError:
        """What map() yields for it."""
        if self.error is not None and on_error == "yield":
            return self.error
        return self._result_or_raise()

    def _take_parts(self) -> Iterator[bytes]:
        """The data that has arrived; parts that were yielded are not kept."""
        while self.data:
            parts = deque(self.data)
            del self.data[: len(parts)]  # another thread may add more meanwhile
            try:
                while parts:
                    yield parts.popleft()
            finally:
                self.data[:0] = parts

    def _result_or_raise(self) -> bytes:
        if self.error is not None:
            raise self.error
        return self._answer

    def _must_have_result(self) -> None:
        """Raise GearmanError for a background job."""
        if self.background:
            if not self.handle:
                raise GearmanError(
                    f"{self.function}: this waits for a result, which a job in the background does "
                    "not have; use do_background() or submit()"
                )
            raise GearmanError(
                f"{self.function} runs in the background and has no result (job {self.handle}); "
                "status() says whether the server knows it"
            )


def _dump_value(given: Submit, serializer: Serializer) -> bytes:
    if given.workload:
        raise ValueError(f"a job of {given.function} can have a workload or a value, not both")
    return as_bytes(serializer.dumps(given.value))
