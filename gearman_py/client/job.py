"""A job as its client sees it. The session updates it; the front ends wait for it.

Events are queued until a thread or task waits for the job: callbacks run there, never while a
socket is being read.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Literal

from gearman_py.client.arguments import (
    NO_OPTIONS,
    At,
    Data,
    JobOptions,
    OnData,
    OnStatus,
    Priority,
    Unique,
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


# Looking up or hashing a member of an Enum is slow.
SUBMITTED, _CREATED, _COMPLETE = JobState.SUBMITTED, JobState.CREATED, JobState.COMPLETE
_OVER = (_COMPLETE, JobState.FAILED, JobState.LOST)

# How often a job goes to another server because one is drained.
MAX_RETURNS = 100


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

    Raises ValueError or ArgumentTooLarge for a job that cannot be submitted.
    """

    _instead = "pass on its handle or snapshot()"

    # What few jobs have, or none at first: the rest is set for each, which is faster to read.
    handle = ""
    server = ""
    status: tuple[int, int] | None = None
    prefix = ""
    resubmits = 0  # how often it may be submitted again if its server is lost
    others = 0  # to how many other servers it may go if one refuses to queue it
    has_ended = False  # the server said so; its end follows
    _refused_by = ""
    _returns = 0
    _answer = b""
    _on_data: OnData | None = None
    _on_warning: OnData | None = None
    _on_status: OnStatus | None = None
    _streamed = False  # whether its parts are handed on as they arrive

    def __init__(
        self,
        function: str,
        workload: Data = b"",
        options: JobOptions = NO_OPTIONS,
        serializer: Serializer = JSON,
    ) -> None:
        self.function = as_function(function)
        self.workload = as_bytes(workload)
        self.unique = ""
        self.priority: Priority = "normal"
        self.at: int | None = None
        self.reducer: str | None = None
        self.background = False
        self.is_awaited = False  # it was submitted before, in the background
        self.state = SUBMITTED
        self.data: list[bytes] = []
        self.warnings: list[bytes] = []
        self.error: GearmanError | None = None
        self._news: deque[Callable[[], object]] | None = None
        self._listener: Callable[[Any], object] | None = None  # called when it has ended
        if options:
            self._set_options(serializer, **options)

    def _set_options(
        self,
        serializer: Serializer,
        *,
        value: Any = ...,
        unique: Unique = None,
        priority: Priority = "normal",
        background: bool = False,
        at: At = None,
        reducer: str | None = None,
        on_data: OnData | None = None,
        on_warning: OnData | None = None,
        on_status: OnStatus | None = None,
    ) -> None:
        if value is not ...:
            self._set_value(value, serializer)
        self.unique, self.priority = as_unique(unique), priority
        self.at = as_epoch(at)
        self.reducer = None if reducer is None else as_function(reducer)
        self.background = background or at is not None
        self._on_data, self._on_warning, self._on_status = on_data, on_warning, on_status
        has_callbacks = on_data or on_warning or on_status
        if self.background and has_callbacks:
            raise ValueError(
                "on_data, on_warning and on_status: a background job sends nothing back"
            )
        if priority not in ("low", "normal", "high"):
            raise ValueError(f"unknown priority {priority!r}; expected low, normal or high")
        if priority != "normal" and (at is not None or reducer is not None):
            kind = "at a time" if at is not None else "with a reducer"
            raise ValueError(f"a job {kind} always has normal priority in the protocol")
        if at is not None and reducer is not None:
            raise ValueError(
                "a job can have a time or a reducer: the protocol has no packet for both"
            )
        if has_callbacks:
            self._check_callbacks()

    def _set_value(self, value: Any, serializer: Serializer) -> None:
        if self.workload:
            text = f"a job of {self.function} can have a workload or a value, not both"
            raise ValueError(text)
        self.workload = as_bytes(serializer.dumps(value))

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
        return self.state in _OVER or (self.background and self.state is not SUBMITTED)

    def _await(self, handle: str) -> None:
        """It was submitted before, in the background: wait for its end."""
        self.handle, self.is_awaited = handle, True
        self.resubmits = self.others = 0

    # The session calls these.

    def _set_created(self, handle: str) -> None:
        """The server has accepted the job."""
        self.handle = handle
        self.state = _CREATED
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
        self.state = _COMPLETE
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
        self.state = SUBMITTED
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
        if self._news is None:
            self._news = deque()
        self._news.append(news)
        self._notify_waiters()

    # The front ends call these, or override them.

    def _notify_waiters(self) -> None:
        """Wake whoever waits for this job."""
        if self._listener is not None and self.done():
            self._listener(self)

    def _submit_again(self, error: GearmanError) -> None:
        """Submit it again, after ``error``."""

    def _check_callbacks(self) -> None:
        """Raise ValueError for callbacks that cannot be called."""

    def _is_answered(self) -> bool:
        """Whether a server has accepted or refused it."""
        return self.state is not SUBMITTED

    def _has_news(self) -> bool:
        """Whether callbacks are due, or it has ended."""
        return self.done() or bool(self._news)

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
        names = JobSnapshot.__dataclass_fields__
        return JobSnapshot(**{name: getattr(self, name) for name in names})

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
