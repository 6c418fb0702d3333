"""The client that blocks: ``Client``."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import Any, Literal, Self, Unpack, overload

from gearman_py.client.arguments import (
    Data,
    Options,
    Submit,
    Timeout,
    Unique,
    as_unique,
    room_for,
)
from gearman_py.client.dispatch import Dispatcher, Job
from gearman_py.client.job import JobStatus, in_turn
from gearman_py.client.routing import Manner, Retry
from gearman_py.errors import GearmanError, JobTimeout
from gearman_py.serializer import JSON, Serializer
from gearman_py.servers import Servers, parse_servers
from gearman_py.tls import TLS


class Client:
    """Submits jobs. Safe to use from several threads; a forked child opens its own connections.

    ``servers`` are "host", "host:port", "[address]:port" or "unix:/path", in a list or parted by
    commas; left out, those in GEARMAN_SERVERS, else localhost:4730. A job goes to the server
    with the fewest of ours in flight, jobs of one unique to the same one; one that does not
    answer is passed over, and left alone for a while. Nothing is connected before it is used.

    Limits are in seconds: ``connect_timeout`` for one server to accept a connection,
    ``submit_timeout`` for it to accept a job, ``timeout`` for results (None: no limit).

    ``retry``: how often all servers are tried before ServerUnavailable is raised; three times
    within a third of a second unless told.
    ``on_lost``: what becomes of a job whose server is lost after it was sent: "raise"
    ConnectionLost, as the job may have run, or "resubmit" it, if it may as well run twice.
    ``prefix`` goes before the name of each function. ``serializer`` is for call() and
    Job.value().

    Raises ValueError for what is not a server's address.
    """

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        tls: TLS | None = None,
        connect_timeout: float = 3.0,
        submit_timeout: float = 10.0,
        timeout: float | None = None,
        retry: Retry = Retry(),  # noqa: B008  it is frozen
        on_lost: Literal["raise", "resubmit"] = "raise",
        prefix: str = "",
        serializer: Serializer = JSON,
    ) -> None:
        self._manner = Manner(
            servers=parse_servers(servers, tls=tls),
            connect_timeout=connect_timeout,
            submit_timeout=submit_timeout,
            timeout=timeout,
            retry=retry,
            resubmits=retry.attempts if on_lost == "resubmit" else 0,
            prefix=prefix,
            serializer=serializer,
        )
        self._dispatcher = Dispatcher(self._manner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,
        **options: Unpack[Options],
    ) -> bytes:
        """Run a job and return its result: the workload of WORK_COMPLETE.

        ``options`` are those of submit(). Raises what submit() and Job.result() raise.
        """
        job = self._dispatcher.job(Submit(function=function, workload=workload, **options))
        job.must_have_result()
        accept_by = monotonic() + self._manner.submit_timeout
        self._dispatcher.start([job], accept_by)
        try:
            return self._dispatcher.result(job, accept_by, timeout)
        except BaseException:
            self._dispatcher.hub.forget(job)
            raise

    def do_low(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at low priority."""
        return self.do(function, workload, unique=unique, priority="low")

    def do_high(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at high priority."""
        return self.do(function, workload, unique=unique, priority="high")

    def do_background(self, function: str, workload: Data = b"", **options: Unpack[Options]) -> str:
        """Hand over a job and return its handle, once a server has accepted it.

        ``at``: the time to run it, a datetime or seconds since 1970.
        """
        options["background"] = True
        return self.submit(function, workload, **options).handle

    def do_low_background(
        self, function: str, workload: Data = b"", *, unique: Unique = None
    ) -> str:
        """do_background() at low priority."""
        return self.do_background(function, workload, unique=unique, priority="low")

    def do_high_background(
        self, function: str, workload: Data = b"", *, unique: Unique = None
    ) -> str:
        """do_background() at high priority."""
        return self.do_background(function, workload, unique=unique, priority="high")

    def call(
        self,
        function: str,
        value: Any = None,
        *,
        timeout: Timeout = ...,
        **options: Unpack[Options],
    ) -> Any:
        """do() with values: the serializer's dumps() makes the workload, loads() the result."""
        workload = self._manner.serializer.dumps(value)
        return self._manner.serializer.loads(
            self.do(function, workload, timeout=timeout, **options)
        )

    def submit(self, function: str, workload: Data = b"", **options: Unpack[Options]) -> Job:
        """Submit a job and return once a server has accepted it.

        ``unique``: jobs of one unique share a run; True stands for the workload itself.
        ``priority``: "low", "normal" or "high". ``background``: nobody waits for the result.
        ``at``: run it then, a datetime or seconds since 1970, in the background. ``reducer``:
        the function that puts the parts together. ``on_data``, ``on_warning``, ``on_status``
        are called with what the worker sends, in the thread that waits for the job.

        Raises ServerUnavailable, ConnectionLost, JobTimeout (after ``submit_timeout``),
        SubmitError (QueueFull, ArgumentTooLarge), ValueError.
        """
        job = self._dispatcher.job(Submit(function=function, workload=workload, **options))
        self._dispatcher.submit([job])
        if job.error is not None and not job.handle:
            raise job.error
        return job

    def submit_many(self, jobs: Iterable[Submit]) -> list[Job]:
        """Submit jobs, many in one write, in the order given; return when all are accepted.

        One that is refused fails by itself: its ``error`` says why. Raises what submit()
        raises when no server can be had.
        """
        submitted = [self._dispatcher.job(one) for one in jobs]  # a wrong one: none is submitted
        self._dispatcher.submit(submitted)
        return submitted

    @overload
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = ...,
        ordered: bool = ...,
        timeout: Timeout = ...,
        on_error: Literal["raise"] = ...,
        **options: Unpack[Options],
    ) -> Iterator[bytes]: ...
    @overload
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = ...,
        ordered: bool = ...,
        timeout: Timeout = ...,
        on_error: Literal["yield"],
        **options: Unpack[Options],
    ) -> Iterator[bytes | GearmanError]: ...
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = 256,
        ordered: bool = True,
        timeout: Timeout = ...,
        on_error: Literal["raise", "yield"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[bytes | GearmanError]:
        """The results of a job for each workload, in their order unless ``ordered=False``.

        Workloads are read when there is room for them: at most ``in_flight`` are submitted and
        not yet yielded, and so many are read first (choose few for a source that is slow).
        ``timeout``: seconds for the next result. ``on_error="yield"`` gives a job's error in
        place of its result and goes on; JobTimeout and ServerUnavailable are raised all the
        same. Jobs left when the iteration ends early run nevertheless.
        """
        make = self._dispatcher.job
        given = iter(workloads)
        flying: dict[Job, None] = {}  # in the order in which they were given
        ended: deque[Job] = deque()  # in the order in which they ended
        try:
            while True:
                room = islice(given, room_for(in_flight, len(flying)))
                batch = [make(Submit(function=function, workload=one, **options)) for one in room]
                for job in batch:
                    job.listener = None if ordered else ended.append
                    flying[job] = None
                self._dispatcher.start(batch, monotonic() + self._manner.submit_timeout)
                if not flying:
                    return
                first = next(iter(flying))
                self._dispatcher.await_next(
                    first.done if ordered else lambda: bool(ended), timeout, function
                )
                for job in in_turn(flying, ended, ordered=ordered):
                    yield job.yielded(on_error)
        finally:
            for job in flying:
                self._dispatcher.hub.forget(job)

    def as_completed(self, jobs: Iterable[Job], *, timeout: float | None = None) -> Iterator[Job]:
        """Jobs of this client as they end, in whatever way. Raises JobTimeout after ``timeout``."""
        deadline = None if timeout is None else monotonic() + timeout
        ended: deque[Job] = deque()
        left = set(jobs)
        for job in left:
            job.listener = ended.append
        ended.extend([job for job in left if job.done()])  # one that ends now is in it twice
        while left:
            if not self._dispatcher.wait_until(lambda: bool(ended), deadline):
                raise JobTimeout(f"{len(left)} jobs have not ended within {timeout:g} s")
            job = ended.popleft()
            if job in left:
                left.remove(job)
                job.deliver()
                yield job

    def wait(
        self, jobs: Iterable[Job], *, timeout: float | None = None
    ) -> tuple[set[Job], set[Job]]:
        """Wait until all jobs have ended, or for ``timeout`` seconds; those that have, the rest."""
        left = set(jobs)
        done = set()
        try:
            for job in self.as_completed(left, timeout=timeout):
                done.add(job)
        except JobTimeout:
            pass
        return done, left - done

    def status(self, job: Job | str) -> JobStatus:
        """What its server knows of a job, or what any knows of one given by its handle."""
        handle = job if isinstance(job, str) else job.handle
        server = None if isinstance(job, str) else job.server
        return self._dispatcher.status(lambda session: session.ask_status(handle), server)

    def status_unique(self, unique: str) -> JobStatus:
        """What any server knows of the job of a unique, with how many clients wait for it."""
        key = as_unique(unique)
        return self._dispatcher.status(lambda session: session.ask_status_unique(key), None)

    def ping(self) -> float:
        """Send a few bytes to a server and back; return the seconds that took."""
        connection = self._dispatcher.connected(self._dispatcher.router.order(monotonic()))
        start = monotonic()
        self._dispatcher.ask(connection, lambda session: session.ping(b"ping"))
        return monotonic() - start

    def close(self) -> None:
        """Close the connections; foreground jobs not yet done are lost."""
        self._dispatcher.close()
