"""The connections of a blocking client, one for each server, shared by its threads.

The client has no thread of its own. One of the waiting threads reads the sockets for all of them;
when it has what it waited for, another one takes over.
"""

import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, RLock
from time import monotonic

from gearman_py.client.config import ClientConfig
from gearman_py.client.job import SUBMITTED, ClientJob
from gearman_py.client.question import Question
from gearman_py.client.session import ClientSession
from gearman_py.client.sync_pooled_connection import READ_INTERVAL, PooledConnection
from gearman_py.errors import ConnectionLost, GearmanError
from gearman_py.net import keepalive
from gearman_py.net.dial import connect
from gearman_py.net.servers import ServerAddress, why_not

_CLOSED = "closed by this client"


class ConnectionPool:
    """All connections, and waiting for them.

    ``resubmit`` is called with lost jobs to submit again, in a waiting thread.
    """

    def __init__(self, config: ClientConfig, resubmit: Callable[[list[ClientJob]], object]) -> None:
        self._sole, self._max_packet = len(config.servers) == 1, config.max_packet
        # Entered by ``with`` alone: then a KeyboardInterrupt cannot come between taking the lock
        # and the block that gives it back.
        self._lock = RLock()  # guards everything here
        self._lost: deque[ClientJob] = deque()
        self._resubmit = resubmit
        self._closing = False
        self.abandoned = False  # it is the parent's, in a forked child
        self._connections: dict[ServerAddress, PooledConnection] = {}
        self._by_fd: dict[int, PooledConnection] = {}
        self._poll = select.poll()
        self._reading = False
        self._followers: list[Lock] = []  # held by threads that wait while another one reads
        self._wakers: tuple[socket.socket, socket.socket] | None = None

    def count_in_flight(self, server: ServerAddress) -> int:
        """The number of jobs in flight to ``server``."""
        connection = self._connections.get(server)
        return connection.session.in_flight if connection is not None else 0

    def get_connection(self, server: ServerAddress, timeout: float) -> PooledConnection:
        """The connection to ``server``, opened within ``timeout`` seconds. Raises OSError."""
        connection = self._find_open(server)
        # A pending end is read after what was sent before it.
        while connection is not None and not self._reading and connection.has_unread():
            self._read_once(0.0)
            connection = self._find_open(server)
        if connection is not None:
            return connection
        made = connect(server, timeout)
        with self._lock:
            if (connection := self._find_open(server)) is not None:
                made.close()  # another thread was faster
                return connection
            session = ClientSession(str(server), self._max_packet, resubmits=not self._sole)
            connection = PooledConnection(made, session)
            self._connections[server] = connection
            self._by_fd[connection.fd] = connection
            self._poll.register(connection.fd, select.POLLIN)
            self._wake_poller()  # the thread that polls has to poll this one too
            return connection

    def _wake_poller(self) -> None:
        if self._wakers is None:
            self._wakers = socket.socketpair()
            self._wakers[1].setblocking(False)
            self._poll.register(self._wakers[1], select.POLLIN)
        elif self._reading:
            self._wakers[0].send(b"w")

    def _find_open(self, server: ServerAddress) -> PooledConnection | None:
        connection = self._connections.get(server)
        return connection if connection is not None and connection.session.error is None else None

    def send_request(
        self, connection: PooledConnection, ask: Callable[[ClientSession], object], deadline: float
    ) -> bool:
        """Have ``ask`` queue bytes in the session, and write them; False if it had ended before.

        If the connection ends while it is written to, all jobs and questions on it are lost.
        """
        with connection.writing:
            try:
                with self._lock:
                    if connection.session.error is not None:
                        return False
                    ask(connection.session)
                    out = connection.session.take_output()
                sent = self._write_some(connection, out, deadline)
                while sent < len(out):
                    sent += self._write_some(connection, memoryview(out)[sent:], deadline)
            except OSError as error:
                self.close_connection(connection, why_not(error))
            except BaseException:  # ^C: half a packet may have been queued or sent
                self.close_connection(connection, "interrupted while it was written to")
                raise
        return True

    def _write_some(
        self, connection: PooledConnection, out: bytes | memoryview, deadline: float
    ) -> int:
        try:
            return connection.socket.send(out, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        # The server may not read more until we have read its answers.
        connection.await_bytes(1)
        poll = select.poll()
        poll.register(connection.fd, select.POLLOUT | select.POLLIN)
        events = poll.poll(_to_milliseconds(deadline))
        if not events:
            raise TimeoutError("it does not read what is sent")
        if events[0][1] & select.POLLIN:
            self._wait_for_reader(lambda: False, monotonic() + 0.01)
            with self._lock:
                if not self._reading and connection.session.error is None:
                    connection.read_available()
                    connection.feed_session()
                    self._wake_followers()
                if connection.session.error is not None:
                    raise ConnectionAbortedError("it closed the connection")
        return 0

    def send_jobs(
        self, connection: PooledConnection, jobs: Sequence[ClientJob], deadline: float
    ) -> bool:
        """Write jobs; False if the connection had ended before anything was written."""

        def queue_jobs(session: ClientSession) -> None:
            for job in jobs:
                session.submit_job(job)

        return self.send_request(connection, queue_jobs, deadline)

    def ask_question(
        self,
        connection: PooledConnection,
        ask: Callable[[ClientSession], Question],
        deadline: float,
    ) -> Question:
        """Ask a question, and wait for the answer until ``deadline``. Raises ConnectionLost."""
        asked: list[Question] = []
        if not self.send_request(connection, lambda session: asked.append(ask(session)), deadline):
            raise ConnectionLost(connection.session.server, "it closed the connection")
        self.wait_until(asked[0].done, deadline)
        return asked[0]

    def wait_until(
        self, until: Callable[[], bool], deadline: float | None, *, job: ClientJob | None = None
    ) -> bool:
        """Read, or let another thread read, until ``until()``; False if ``deadline`` passes first.

        Reads at least once, even if the deadline has passed. With ``job``, its JOB_CREATED alone
        does not end a blocking read.
        """
        while not until():
            remaining = None if deadline is None else deadline - monotonic()
            late = remaining is not None and remaining <= 0
            if self._lost and not late:
                self._resubmit_lost()
            elif not self._read_once(remaining, job) and not late:
                self._wait_for_reader(until, deadline)
            if late:
                return until()
        return True

    def _wait_for_reader(self, until: Callable[[], bool], deadline: float | None) -> None:
        """Wait until another thread has read, at most READ_INTERVAL."""
        seconds = READ_INTERVAL if deadline is None else min(deadline - monotonic(), READ_INTERVAL)
        waiter = Lock()
        with self._lock:
            if not self._reading or until():
                return
            waiter.acquire()
            self._followers.append(waiter)
        waiter.acquire(timeout=max(0.0, seconds))

    def _wake_followers(self) -> None:
        followers, self._followers = self._followers, []
        for waiter in followers:
            waiter.release()

    def _resubmit_lost(self) -> None:
        jobs: list[ClientJob] = []
        try:
            with self._lock:
                jobs = list(dict.fromkeys(self._lost))
                self._lost.clear()
            self._resubmit(jobs)
        except BaseException:  # ^C, most likely while connecting
            self._lost.extend(jobs)
            raise
        finally:
            with self._lock:
                self._wake_followers()

    def _read_once(self, remaining: float | None, job: ClientJob | None = None) -> bool:
        """Read once, within ``remaining`` seconds; False if another thread reads."""
        reading = False
        read: list[PooledConnection] = []
        try:
            with self._lock:
                if self._reading:
                    return False
                self._reading = reading = True
                sole = self._prepare_reading(remaining, job)
            if sole is None:
                self._poll_connections(remaining, read)
            else:  # one system call less than polling first
                read.append(sole)
                sole.read_available(0)
        finally:
            if reading:
                with self._lock:
                    self._reading = False
                    if self._followers:
                        self._wake_followers()
                    try:
                        for connection in read:
                            self._process_received(connection)
                    finally:
                        if not self._by_fd:
                            self._close_wakers()
        return True

    def _prepare_reading(
        self, remaining: float | None, job: ClientJob | None
    ) -> PooledConnection | None:
        """The connection to read from; None to poll all of them."""
        if (
            self._sole
            and len(self._by_fd) == 1
            and (remaining is None or remaining > READ_INTERVAL)
        ):
            (connection,) = self._by_fd.values()
            created = job is not None and job.state is SUBMITTED
            connection.await_bytes(connection.session.created_size + 1 if created else 1)
            return connection
        for connection in self._by_fd.values():
            connection.await_bytes(1)
        return None

    def _poll_connections(self, remaining: float | None, read: list[PooledConnection]) -> None:
        """Wait until connections can be read, and read; ``read`` gets all if none can."""
        interval = keepalive.INTERVAL if remaining is None else min(remaining, keepalive.INTERVAL)
        ready = self._poll.poll(max(0.0, interval * 1000))
        if not ready:
            read += self._by_fd.values()
        for fd, _ in ready:
            connection = self._by_fd.get(fd)
            if connection is not None:
                read.append(connection)
                connection.read_available()
            else:
                assert self._wakers is not None  # noqa: S101  only they are polled besides
                self._wakers[1].recv(1000)

    def _process_received(self, connection: PooledConnection) -> None:
        """Process what was read; drop a connection that has ended."""
        try:
            connection.feed_session()
        finally:
            if connection.session.error is not None:
                self._drop_connection(connection)

    def submit_again(self, job: ClientJob, error: GearmanError) -> None:
        """Have a waiting thread resubmit a job that was lost by ``error``."""
        if self._closing:
            job._give_up(error)
        else:
            self._lost.append(job)

    def forget_job(self, job: ClientJob) -> None:
        """Drop what arrives for this job, and never resubmit it."""
        with self._lock:
            job.resubmits = job.others = 0
            for connection in self._connections.values():
                if connection.session.server == job.server:
                    connection.session.forget_job(job)

    def close_connection(self, connection: PooledConnection, why: str) -> None:
        """Close it; all jobs and questions on it are lost, for this reason."""
        with self._lock:
            if connection.session.error is None:
                connection.session.lose_connection(why)
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
            if not self._reading:  # else the polling thread wakes up and drops it
                self._drop_connection(connection)
            self._wake_followers()

    def _drop_connection(self, connection: PooledConnection) -> None:
        for server, one in list(self._connections.items()):
            if one is connection:
                del self._connections[server]
        if self._by_fd.get(connection.fd) is connection:
            del self._by_fd[connection.fd]
            self._poll.unregister(connection.fd)
        connection.socket.close()

    def close(self) -> None:
        """Close all connections; foreground jobs that are not done are lost."""
        self._closing = True
        for connection in list(self._connections.values()):
            self.close_connection(connection, _CLOSED)
        with self._lock:
            while self._lost:
                job = self._lost.popleft()
                job._give_up(ConnectionLost(job.server, _CLOSED))
            if not (self._reading or self._by_fd):
                self._close_wakers()
        self._closing = False

    def _close_wakers(self) -> None:
        """Without connections there is nothing to poll."""
        if self._wakers is not None:
            # In one step, which no KeyboardInterrupt divides.
            wakers, self._wakers, self._poll = self._wakers, None, select.poll()
            for waker in wakers:
                waker.close()

    def abandon(self) -> None:
        """In a forked child: close its copies of the sockets, and leave the connections alone."""
        self.abandoned = True
        for connection in self._by_fd.values():
            connection.socket.close()
        for waker in self._wakers or ():
            waker.close()


def _to_milliseconds(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic()) * 1000
