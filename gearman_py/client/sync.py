"""The client that blocks: ``Client``, its jobs, and its connection.

There is no helper thread. Of the threads that wait on a connection one reads the socket,
for all of them; when it has what it waited for, another takes over.
"""

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Lock
from time import monotonic
from types import EllipsisType
from typing import Self, TypeVar

from gearman_py.client.job import (
    ClientJob,
    Data,
    JobState,
    JobStatus,
    OnData,
    OnStatus,
    Priority,
    Timeout,
    Unique,
)
from gearman_py.client.session import (
    Session,
    as_bytes,
    as_function,
    as_unique,
    read_status,
)
from gearman_py.dial import connect
from gearman_py.errors import JobTimeout, ServerUnavailable
from gearman_py.servers import Choice, Server, Servers, parse_servers, why_not

T = TypeVar("T")
_READ_SIZE = 256 * 1024


class Job(ClientJob):
    """A job that was submitted; ``result()`` waits for it."""

    _connection: "Connection"
    _timeout: float | None

    def result(self, timeout: Timeout = ...) -> bytes:
        """The workload of WORK_COMPLETE; data sent before it is in ``data``.

        ``timeout`` is in seconds, None for ever; left out, it is the client's. Raises
        JobFailed, JobException, JobTimeout or ConnectionLost. After a JobTimeout the job
        goes on: ask again. Callbacks given to submit() run in here.
        """
        self._must_have_result()
        limit = self._timeout if isinstance(timeout, EllipsisType) else timeout
        deadline = None if limit is None else monotonic() + limit
        while not self.done():
            if not self._connection.wait(lambda: bool(self._news) or self.done(), deadline):
                raise JobTimeout(
                    f"no result of {self.function} within {limit:g} s (job {self.handle})"
                )
            self._deliver()
        return self._outcome()


class Client:
    """Submits jobs. Safe to use from several threads; a forked child opens its own connection.

    ``servers`` are "host", "host:port" or "[address]:port", in a list or parted by commas;
    left out, those in GEARMAN_SERVERS, else localhost:4730. The first that answers is used;
    one that does not is passed over. Nothing is connected before the first use.

    Limits are in seconds: ``connect_timeout`` for one server to accept a connection,
    ``submit_timeout`` for it to accept a job, ``timeout`` for results (None: no limit).

    Raises ValueError for what is not a server's address.
    """

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        connect_timeout: float = 3.0,
        submit_timeout: float = 10.0,
        timeout: float | None = None,
    ) -> None:
        self._choice = Choice(parse_servers(servers))
        self._connect_timeout = connect_timeout
        self._submit_timeout = submit_timeout
        self._timeout = timeout
        self._lock = Lock()
        self._connection: Connection | None = None
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(
        self,
        function: str,
        workload: Data = b"",
        *,
        unique: Unique = None,
        priority: Priority = "normal",
        timeout: Timeout = ...,
        on_data: OnData | None = None,
        on_warning: OnData | None = None,
        on_status: OnStatus | None = None,
    ) -> bytes:
        """Run a job and return its result: the workload of WORK_COMPLETE.

        ``unique=True`` shares one run among all who submit the same workload at one time.
        Raises what submit() and Job.result() raise.
        """
        job = self.submit(
            function,
            workload,
            unique=unique,
            priority=priority,
            on_data=on_data,
            on_warning=on_warning,
            on_status=on_status,
        )
        try:
            return job.result(timeout)
        except BaseException:
            job._connection.forget(job)
            raise

    def do_low(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at low priority."""
        return self.do(function, workload, unique=unique, priority="low")

    def do_high(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at high priority."""
        return self.do(function, workload, unique=unique, priority="high")

    def do_background(
        self,
        function: str,
        workload: Data = b"",
        *,
        unique: Unique = None,
        priority: Priority = "normal",
    ) -> str:
        """Hand over a job and return its handle, once a server has accepted it."""
        job = self.submit(function, workload, unique=unique, priority=priority, background=True)
        return job.handle

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

    def submit(
        self,
        function: str,
        workload: Data = b"",
        *,
        unique: Unique = None,
        priority: Priority = "normal",
        background: bool = False,
        on_data: OnData | None = None,
        on_warning: OnData | None = None,
        on_status: OnStatus | None = None,
    ) -> Job:
        """Submit a job and return once a server has accepted it.

        Raises ServerUnavailable, ConnectionLost, JobTimeout (after ``submit_timeout``),
        SubmitError (QueueFull, ArgumentTooLarge).
        """
        job = Job(
            as_function(function),
            as_bytes(workload),
            as_unique(unique),
            background=background,
            on_data=on_data,
            on_warning=on_warning,
            on_status=on_status,
        )
        job._timeout = self._timeout
        job._connection = connection = self._connected()
        deadline = monotonic() + self._submit_timeout
        connection.send(lambda session: session.submit(job, priority), deadline)
        if not connection.wait(lambda: job.state is not JobState.SUBMITTED, deadline):
            limit = self._submit_timeout
            raise JobTimeout(f"{job.server} did not accept {function} within {limit:g} s")
        if job.error is not None and not job.handle:
            raise job.error
        return job

    def status(self, job: Job | str) -> JobStatus:
        """What the server knows of a job, given as such or by its handle."""
        handle = job if isinstance(job, str) else job.handle
        connection, deadline = self._connected(), monotonic() + self._submit_timeout
        question = connection.send(lambda session: session.ask_status(handle), deadline)
        if not connection.wait(question.done, deadline):
            raise JobTimeout(f"no answer about {handle} within {self._submit_timeout:g} s")
        return read_status(question.outcome())

    def ping(self) -> float:
        """Send a few bytes to the server and back; return the seconds that took."""
        connection, start = self._connected(), monotonic()
        deadline = start + self._submit_timeout
        question = connection.send(lambda session: session.ping(b"ping"), deadline)
        if not connection.wait(question.done, deadline):
            raise JobTimeout(f"no echo within {self._submit_timeout:g} s")
        question.outcome()
        return monotonic() - start

    def close(self) -> None:
        """Close the connection; foreground jobs not yet done are lost."""
        with self._lock:
            if self._connection is not None:
                self._connection.close("closed by this client")
                self._connection = None

    def _connected(self) -> "Connection":
        with self._lock:
            if self._pid != os.getpid():  # the parent's connection is not ours to use
                self._connection, self._pid = None, os.getpid()
            if self._connection is None or not self._connection.alive():
                self._connection = self._open()
            return self._connection

    def _open(self) -> "Connection":
        attempts = []
        for server in self._choice.order(monotonic()):
            try:
                connection = Connection(server, self._connect_timeout)
            except OSError as error:
                self._choice.failed(server, monotonic())
                attempts.append((str(server), why_not(error, self._connect_timeout)))
            else:
                self._choice.reached(server)
                return connection
        raise ServerUnavailable(attempts)


class Connection:
    """One connection and its session, shared by threads. Raises OSError when it cannot be made."""

    def __init__(self, server: Server, timeout: float) -> None:
        self._socket = connect(server, timeout)
        self._socket.setblocking(False)
        self._session = Session(str(server))
        self._changed = Condition()  # guards the session and _reading
        self._reading = False
        self._writing = Lock()  # keeps bytes in the order in which the session expects answers

    def alive(self) -> bool:
        """Whether it can still be used; sees a server that has gone since the last use."""
        with self._changed:
            while self._session.error is None and not self._reading and self._read(monotonic()):
                pass  # the end of a connection comes after what was sent before it
            return self._session.error is None

    def send(self, ask: Callable[[Session], T], deadline: float) -> T:
        """Let ``ask`` queue something in the session, and write it."""
        with self._writing:
            with self._changed:
                if self._session.error is not None:
                    raise self._session.error
                asked = ask(self._session)
                out = memoryview(self._session.take())
            try:
                while out:
                    out = out[self._write(out, deadline) :]
            except OSError as error:
                self.close(why_not(error))
            except BaseException:  # ^C: half a packet may be out, and nothing can follow it
                self.close("interrupted while it was written to")
                raise
        return asked

    def _write(self, out: memoryview, deadline: float) -> int:
        try:
            return self._socket.send(out)
        except BlockingIOError:
            if _ready(self._socket, select.POLLOUT, deadline):
                return 0
            raise TimeoutError("it takes no more bytes") from None

    def wait(self, until: Callable[[], bool], deadline: float | None) -> bool:
        """Read, or let another thread read, until ``until()``; False when ``deadline`` came first.

        Looks at the socket at least once, also when the deadline has passed already.
        """
        with self._changed:
            while not until():
                late = deadline is not None and monotonic() >= deadline
                if self._reading:
                    if late or not self._changed.wait(_remaining(deadline)):
                        return until()
                elif not self._read(deadline) or late:
                    return until()
        return True

    def _read(self, deadline: float | None) -> bool:
        """Read once, with the lock let go meanwhile; False when nothing came in time."""
        self._reading = True
        self._changed.release()
        data, why = None, ""
        try:
            if _ready(self._socket, select.POLLIN, deadline):
                data = self._socket.recv(_READ_SIZE)
                why = "" if data else "it closed the connection"
        except BlockingIOError:
            data = b""
        except (OSError, ValueError) as error:
            why = why_not(error)
        finally:
            self._changed.acquire()
            self._reading = False
            self._changed.notify_all()
        if data:
            self._session.receive(data)
        if why or self._session.error is not None:
            self._close(why)
        return data is not None or bool(why)

    def forget(self, job: ClientJob) -> None:
        """Drop what comes for this job."""
        with self._changed:
            self._session.forget(job)

    def close(self, why: str) -> None:
        """End it; whatever is awaited is lost, for this reason."""
        with self._changed:
            self._close(why)
            self._changed.notify_all()

    def _close(self, why: str) -> None:
        self._session.lose(why)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if not self._reading:  # a thread that polls it wakes from the shutdown, and closes it
            self._socket.close()


def _ready(sock: socket.socket, event: int, deadline: float | None) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    remaining = _remaining(deadline)
    return bool(poll.poll(None if remaining is None else remaining * 1000))


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())
