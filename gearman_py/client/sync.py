"""The client that blocks: ``Client``."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Any, Literal, Self, Unpack, overload

from gearman_py.client.arguments import (
    Data,
    MapOptions,
    Options,
    Submit,
    SubmitOptions,
    Timeout,
    as_unique,
    with_priority,
)
from gearman_py.client.dispatch import Dispatcher, Job
from gearman_py.client.job import JobStatus
from gearman_py.client.routing import Manner, Retry
from gearman_py.client.window import IN_FLIGHT, IN_FLIGHT_BYTES, Window, check
from gearman_py.errors import GearmanError, JobTimeout
from gearman_py.net.servers import Servers, parse_servers
from gearman_py.net.tls import TLS
from gearman_py.not_copied import NotCopied
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.serializer import JSON, Serializer


class Client(NotCopied):
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
    ``prefix`` goes before the name of each function. ``serializer`` is for call(), ``value=`` and
    Job.value(). ``max_packet``: the most bytes of one packet, sent or taken; a larger job is
    refused (ArgumentTooLarge), of a larger result its job fails (ResultTooLarge).

    Raises ValueError for what is not a server's address, or a limit that cannot be.
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
        max_packet: int = MAX_PACKET,
    ) -> None:
        self._manner = Manner(
            servers=parse_servers(servers, tls=tls),
            connect_timeout=connect_timeout,
            submit_timeout=submit_timeout,
            timeout=timeout,
            retry=retry,
            on_lost=on_lost,
            prefix=prefix,
            serializer=serializer,
            max_packet=max_packet,
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
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """Run a job and return its result: the workload of WORK_COMPLETE.

        ``options`` are those of submit(). Raises what submit() and Job.result() raise.
        """
        job = self._dispatcher.job(Submit(function=function, workload=workload, **options))
        job._must_have_result()
        accept_by = monotonic() + self._manner.submit_timeout
        self._dispatcher.start([job], accept_by)
        try:
            return self._dispatcher.result(job, accept_by, timeout)
        except BaseException:
            self._dispatcher.hub.forget(job)
            raise

    def do_low(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """do() at low priority."""
        return self.do(function, workload, timeout=timeout, **with_priority("low", options))

    def do_high(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """do() at high priority."""
        return self.do(function, workload, timeout=timeout, **with_priority("high", options))

    def do_background(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> str:
        """Hand over a job and return its handle, once a server has accepted it.

        ``at``: the time to run it, a datetime or seconds since 1970.
        """
        options["background"] = True
        return self.submit(function, workload, **options).handle

    def do_low_background(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> str:
        """do_background() at low priority."""
        return self.do_background(function, workload, **with_priority("low", options))

    def do_high_background(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> str:
        """do_background() at high priority."""
        return self.do_background(function, workload, **with_priority("high", options))

    def call(
        self,
        function: str,
        value: Any = None,
        *,
        timeout: Timeout = ...,
        **options: Unpack[Options],
    ) -> Any:
        """do() with values: the serializer's dumps() makes the workload, loads() the result.

        For jobs in the background and in batches there is ``value=``, for map() call_map().
        """
        return self._manner.serializer.loads(
            self.do(function, value=value, timeout=timeout, **options)
        )

    def call_map(
        self, function: str, values: Iterable[Any], **options: Unpack[MapOptions]
    ) -> Iterator[Any]:
        """map() with values, as call(); an error that is yielded is one of GearmanError."""
        dumps, loads = self._manner.serializer.dumps, self._manner.serializer.loads
        results = self.map(function, map(dumps, values), **options)
        return (one if isinstance(one, GearmanError) else loads(one) for one in results)

    def submit(self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]) -> Job:
        """Submit a job and return once a server has accepted it.

        ``value``: what the serializer is to make the workload of, instead of ``workload``.
        ``unique``: jobs of one unique share a run; True stands for the workload itself.
        ``priority``: "low", "normal" or "high". ``background``: nobody waits for the result.
        ``at``: run it then, a datetime or seconds since 1970, in the background. ``reducer``:
        the function that puts the parts together. ``on_data``, ``on_warning``, ``on_status``
        are called with what the worker sends, in the thread that waits for the job; what they
        are called with is not kept in the job.

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
        in_flight_bytes: int = ...,
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
        in_flight_bytes: int = ...,
        ordered: bool = ...,
        timeout: Timeout = ...,
        on_error: Literal["raise", "yield"] = ...,
        **options: Unpack[Options],
    ) -> Iterator[bytes | GearmanError]: ...
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = IN_FLIGHT,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
        ordered: bool = True,
        timeout: Timeout = ...,
        on_error: Literal["raise", "yield"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[bytes | GearmanError]:
        """The results of a job for each workload, in their order unless ``ordered=False``.

        Workloads are read when there is room for them: at most ``in_flight`` are submitted and
        not yet yielded, and so many are read first (choose few for a source that is slow); fewer
        where workloads and results have over ``in_flight_bytes`` together, as far as the results
        so far foretell it (before the first one 1 MiB is supposed).
        ``timeout``: seconds for the next result. ``on_error="yield"`` gives a job's error in
        place of its result and goes on; JobTimeout and ServerUnavailable are raised all the
        same. Jobs left when the iteration ends early run nevertheless.
        """
        check(function, on_error, options)
        window = Window[Job](in_flight, in_flight_bytes)
        make, given = self._dispatcher.job, iter(workloads)
        jobs = (make(Submit(function=function, workload=one, **options)) for one in given)
        return self._map(jobs, window, function, timeout, on_error, ordered=ordered)

    def _map(
        self,
        given: Iterator[Job],
        window: Window[Job],
        function: str,
        timeout: Timeout,
        on_error: Literal["raise", "yield"],
        *,
        ordered: bool,
    ) -> Iterator[bytes | GearmanError]:
        ended: deque[Job] | None = None if ordered else deque()  # in the order of their ends
        try:
            while True:
                batch = window.fill(given)
                for job in batch:
                    job._listener = None if ended is None else ended.append
                self._dispatcher.start(batch, monotonic() + self._manner.submit_timeout)
                if not window.jobs:
                    return
                until = window.first().done if ended is None else partial(bool, ended)
                self._dispatcher.await_next(until, timeout, function)
                for job in window.in_turn(ended):
                    job.deliver()
                    yield job._yielded(on_error)
        finally:
            for job in window.jobs:
                self._dispatcher.hub.forget(job)

    def as_completed(self, jobs: Iterable[Job], *, timeout: float | None = None) -> Iterator[Job]:
        """Jobs of this client as they end, in whatever way. Raises JobTimeout after ``timeout``."""
        deadline = None if timeout is None else monotonic() + timeout
        ended: deque[Job] = deque()
        left = set(jobs)
        for job in left:
            job._listener = ended.append
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
