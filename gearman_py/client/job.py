"""A job as its client sees it. The session changes it; the front ends wait for it.

What happened to a job is kept as news until someone waits for it: callbacks run in the
thread or task that waits, never inside the reading of a socket.
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
from gearman_py.errors import GearmanError
from gearman_py.not_copied import NotCopied
from gearman_py.serializer import JSON, Serializer


class JobState(Enum):
    """How far a job is, as far as its client has heard."""

    SUBMITTED = "submitted"
    CREATED = "created"  # the server has accepted it
    RUNNING = "running"  # a worker has been heard
    COMPLETE = "complete"
    FAILED = "failed"
    LOST = "lost"  # nobody will tell how it ends


_OVER = (JobState.COMPLETE, JobState.FAILED, JobState.LOST)  # a set would hash in Python


class JobStatus(NamedTuple):
    """What a server says of a job: ``numerator / denominator`` is the worker's own measure."""

    known: bool
    running: bool
    numerator: int
    denominator: int
    clients: int | None = None
    """How many clients wait for it; None: the question was not by unique."""

    @property
    def fraction(self) -> float:
        """The part done, from 0.0; 0.0 when the worker has not said."""
        return self.numerator / self.denominator if self.denominator else 0.0


@dataclass(frozen=True, kw_only=True)
class JobSnapshot:
    """What was known of a job when an error about it was copied or pickled; see Job."""

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
    """What both kinds of client job share: the facts, and the news to be told.

    ``resubmits``: how often it may be submitted again when its server is lost.
    Raises ValueError or ArgumentTooLarge for what cannot be submitted.
    """

    _instead = "pass on its handle, or snapshot()"

    def __init__(
        self,
        given: Submit,
        *,
        prefix: str = "",
        resubmits: int = 0,
        serializer: Serializer = JSON,
    ) -> None:
        self.function = as_function(given.function)
        self.workload = as_bytes(given.workload)
        if given.value is not ...:
            self.workload = _dumped(given, serializer)
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
        self._answer = b""
        self._on_data, self._on_warning = given.on_data, given.on_warning
        self._on_status = given.on_status
        self._news: deque[Callable[[], object]] = deque()
        if self.priority not in ("low", "normal", "high"):
            raise ValueError(f"{self.priority!r} is no priority: expected low, normal or high")
        if self.priority != "normal" and (self.at is not None or self.reducer is not None):
            kind = "at a time" if self.at is not None else "with a reducer"
            raise ValueError(f"a job {kind} has normal priority: the protocol has no other for it")
        if self.at is not None and self.reducer is not None:
            raise ValueError("a job has a time or a reducer: the protocol has no packet for both")

    def __repr__(self) -> str:
        handle = self.handle or "no handle yet"
        return f"<{type(self).__name__} {self.function} {handle} {self.state.value}>"

    @property
    def key(self) -> bytes | None:
        """What it has in common with jobs that can share its run; None: there can be none."""
        return key_of(self.function, self.unique, self.workload)

    def done(self) -> bool:
        """Whether the job is complete, has failed or is lost; in the background, whether a
        server has accepted it, or will not."""
        return self.state in _OVER or (self.background and self.state is not JobState.SUBMITTED)

    # The session calls these.

    def _created(self, handle: str) -> None:
        """The server has accepted the job."""
        self.handle = handle
        self.state = JobState.CREATED
        self._wake()

    def _add_data(self, data: bytes) -> None:
        """A part of the result has come."""
        self._heard(self._on_data, self.data, data)

    def _add_warning(self, data: bytes) -> None:
        """The worker has warned."""
        self._heard(self._on_warning, self.warnings, data)

    def _set_status(self, numerator: int, denominator: int) -> None:
        """The worker has said how far it is."""
        self.status = (numerator, denominator)
        self.state = JobState.RUNNING
        if self._on_status is not None:
            self._tell(partial(self._on_status, numerator, denominator))

    def _complete(self, answer: bytes) -> None:
        """The job is done."""
        self._answer = answer
        self.state = JobState.COMPLETE
        self._wake()

    def _fail(self, error: GearmanError) -> None:
        """The job has failed."""
        self.error = error
        self.state = JobState.FAILED
        self._wake()

    def _lose(self, error: GearmanError) -> None:
        """Nothing more will be heard of it."""
        if self.resubmits:
            self.resubmits -= 1
            self.state = JobState.SUBMITTED
            self.handle = ""
            del self.data[:], self.warnings[:]  # the next run sends its own
            self._again(error)
        else:
            self._give_up(error)

    def _give_up(self, error: GearmanError) -> None:
        """Nothing more will be heard of it, and it is not submitted again."""
        self.error = error
        self.state = JobState.LOST
        self._wake()

    def _heard(
        self, tell: Callable[[bytes], object] | None, kept: list[bytes], data: bytes
    ) -> None:
        """``data`` is handed on, or kept: never both, as there may be more than memory holds."""
        self.state = JobState.RUNNING
        if tell is None:
            kept.append(data)
            self._wake()
        else:
            self._tell(partial(tell, data))

    def _tell(self, news: Callable[[], object]) -> None:
        self._news.append(news)
        self._wake()

    # The front ends call these, and say what follows from them.

    _listener: Callable[[Any], object] | None = None
    """Called with the job when it has ended."""

    def _wake(self) -> None:
        """Something has changed: let those who wait for it learn of it."""
        if self._listener is not None and self.done():
            self._listener(self)

    def _again(self, error: GearmanError) -> None:
        """It was lost, and is to be submitted again."""

    def _has_news(self) -> bool:
        """Whether there are callbacks to be called, or it has ended."""
        return bool(self._news) or self.done()

    @property
    def result_size(self) -> int:
        """The bytes that have come of its result."""
        size = len(self._answer)
        return size + sum(map(len, self.data)) if self.data else size

    def snapshot(self) -> JobSnapshot:
        """What is known of it now."""
        facts = vars(self)
        return JobSnapshot(**{name: facts[name] for name in JobSnapshot.__dataclass_fields__})

    def _yielded(self, on_error: Literal["raise", "yield"]) -> bytes | GearmanError:
        """What map() gives for it."""
        if self.error is not None and on_error == "yield":
            return self.error
        return self._outcome()

    def _parts(self) -> Iterator[bytes]:
        """The data that has come; what is handed on is not kept."""
        while self.data:
            parts = deque(self.data)
            del self.data[: len(parts)]  # a thread that reads may add more meanwhile
            try:
                while parts:
                    yield parts.popleft()
            finally:
                self.data[:0] = parts

    def _outcome(self) -> bytes:
        if self.error is not None:
            raise self.error
        return self._answer

    def _must_have_result(self) -> None:
        """Raises GearmanError for a job in the background."""
        if self.background:
            what = f"job {self.handle}" if self.handle else "a job for do_background() or submit()"
            raise GearmanError(
                f"{self.function} runs in the background: nobody hears its result "
                f"({what}); ask status() whether it is known"
            )


def _dumped(given: Submit, serializer: Serializer) -> bytes:
    if given.workload:
        raise ValueError(f"a job of {given.function} has a workload or a value, not both")
    return as_bytes(serializer.dumps(given.value))
