"""The connections of a blocking client, one for each server, shared by its threads.

The client has no thread of its own. One of the waiting threads reads the sockets for all of them;
when it has what it waited for, another one takes over.
"""

import select
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from threading import Condition, Lock
from time import monotonic

from gearman_py.client.job import ClientJob, JobState
from gearman_py.client.session import ClientSession
from gearman_py.errors import ConnectionLost
from gearman_py.net import keepalive
from gearman_py.net.dial import connect
from gearman_py.net.servers import ServerAddress, why_not

_READ_SIZE = 256 * 1024
READ_INTERVAL = 1  # second: how long a read blocks before the deadline is checked


class PooledConnection:
    """A socket and its session. The lock of the pool guards the session, not the socket."""

    def __init__(self, server: ServerAddress, connection: socket.socket, max_packet: int) -> None:
        self.socket = connection
        self.socket.setblocking(True)
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, Struct("@ll").pack(READ_INTERVAL, 0)
        )
        self.fd = connection.fileno()
        self.session = ClientSession(str(server), max_packet)
        self._least = 1
        self.writing = Lock()  # keeps bytes in the order in which the session expects answers

    def has_unread(self) -> bool:
        """Whether bytes, or the end of the connection, can be read."""
        try:
            self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def read_available(self, flags: int = socket.MSG_DONTWAIT) -> bytes | OSError | None:
        """The bytes that have arrived (b"" at the end), the error, or None if there is nothing.

        With ``flags=0`` it waits, for READ_INTERVAL.
        """
        try:
            return self.socket.recv(_READ_SIZE, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            return error

    def await_bytes(self, least: int) -> None:
        """Have blocking reads wait for at least ``least`` bytes, or READ_INTERVAL."""
        if least != self._least:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least

    def feed_session(self, fetched: bytes | OSError | None) -> None:
        """Pass the result of read_available() to the session."""
        if isinstance(fetched, OSError):
            self.session.lose_connection(why_not(fetched))
        elif fetched:
            self.session.receive_data(fetched)
        elif fetched is not None:
            self.session.lose_connection("it closed the connection")


class ConnectionPool:
    """All connections, and waiting for them.

    ``resubmit`` is called with lost jobs to submit again, in a waiting thread. ``sole``: there is
    only one server. ``max_packet``: see ClientSession.
    """

    def __init__(
        self, resubmit: Callable[[list[ClientJob]], object], *, sole: bool, max_packet: int
    ) -> None:
        self._sole, self._max_packet = sole, max_packet
        self.changed = Condition()  # guards everything here
        self.lost: deque[ClientJob] = deque()
        self._resubmit = resubmit
        self._connections: dict[ServerAddress, PooledConnection] = {}
        self._by_fd: dict[int, PooledConnection] = {}
        self._poll = select.poll()
        self._reading = False
        self._followers = 0  # threads that wait while another one reads
        self._wakers: tuple[socket.socket, socket.socket] | None = None

    def count_in_flight(self, server: ServerAddress) -> int:
        """The number of jobs in flight to ``server``."""
        connection = self._connections.get(server)
        return connection.session.in_flight if connection is not None else 0

    def get_connection(self, server: ServerAddress, timeout: float) -> PooledConnection:
        """The connection to ``server``, opened within ``timeout`` seconds. Raises OSError."""
        with self.changed:
            connection = self._find_open(server)
            while connection is not None and not self._reading and connection.has_unread():
                self._read_once(0.0)  # a pending end is read after what was sent before it
                connection = self._find_open(server)
            if connection is not None:
                return connection
        made = connect(server, timeout)
        with self.changed:
            if (connection := self._find_open(server)) is not None:
                made.close()  # another thread was faster
                return connection
            connection = PooledConnection(server, made, self._max_packet)
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
            with self.changed:
                if connection.session.error is not None:
                    return False
                ask(connection.session)
                out = memoryview(connection.session.take_output())
            try:
                while out:
                    out = out[self._write_some(connection, out, deadline) :]
            except OSError as error:
                self.close_connection(connection, why_not(error))
            except BaseException:  # ^C: half a packet may have been sent
                self.close_connection(connection, "interrupted while it was written to")
                raise
        return True

    def _write_some(self, connection: PooledConnection, out: memoryview, deadline: float) -> int:
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
            with self.changed:
                if not self._reading and connection.session.error is None:
                    connection.feed_session(connection.read_available())
                    self.changed.notify_all()
                elif connection.session.error is None:
                    self.changed.wait(0.01)
                if connection.session.error is not None:
                    raise ConnectionAbortedError("it closed the connection")
        return 0

    def wait_until(
        self, until: Callable[[], bool], deadline: float | None, *, job: ClientJob | None = None
    ) -> bool:
        """Read, or let another thread read, until ``until()``; False if ``deadline`` passes first.

        Reads at least once, even if the deadline has passed. With ``job``, its JOB_CREATED alone
        does not end a blocking read.
        """
        with self.changed:
            while not until():
                late = deadline is not None and monotonic() >= deadline
                if self.lost and not late:
                    self._resubmit_lost()
                elif self._reading:
                    if late or not self._wait_for_reader(deadline):
                        return until()
                else:
                    self._read_once(deadline, job)
                    if late:
                        return until()
        return True

    def _wait_for_reader(self, deadline: float | None) -> bool:
        """Wait while another thread reads; False if ``deadline`` passes first."""
        self._followers += 1
        try:
            return self.changed.wait(_seconds_left(deadline))
        finally:
            self._followers -= 1

    def _resubmit_lost(self) -> None:
        jobs = list(dict.fromkeys(self.lost))
        self.lost.clear()
        self.changed.release()
        try:
            self._resubmit(jobs)
        except BaseException:  # ^C, most likely while connecting
            self.lost.extend(jobs)
            raise
        finally:
            self.changed.acquire()
            self.changed.notify_all()

    def _read_once(self, deadline: float | None, job: ClientJob | None = None) -> None:
        """Read once, at most until ``deadline``; the lock is released meanwhile."""
        remaining = None if deadline is None else deadline - monotonic()
        if self._sole and self._by_fd and (remaining is None or remaining > READ_INTERVAL):
            connection = next(iter(self._by_fd.values()))
            created = job is not None and job.state is JobState.SUBMITTED
            connection.await_bytes(connection.session.created_size + 1 if created else 1)
            self._read_sole(connection)
            return
        for connection in self._by_fd.values():
            connection.await_bytes(1)
        self._reading = True
        self.changed.release()
        try:
            interval = (
                keepalive.INTERVAL if remaining is None else min(remaining, keepalive.INTERVAL)
            )
            ready = self._poll.poll(max(0.0, interval * 1000))
        finally:
            self._stop_reading()
        for fd, _ in ready:
            ready_one = self._by_fd.get(fd)
            if ready_one is None:
                assert self._wakers is not None  # noqa: S101  only they are polled besides
                self._wakers[1].recv(1000)
                continue
            if ready_one.session.error is None:
                ready_one.feed_session(ready_one.read_available())
            if ready_one.session.error is not None:
                self._drop_connection(ready_one)
        if not ready:
            for silent in list(self._by_fd.values()):
                self._drop_if_gone(silent)

    def _drop_if_gone(self, connection: PooledConnection) -> None:
        if keepalive.peer_gone(connection.socket):
            connection.session.lose_connection("it does not answer")
            self._drop_connection(connection)

    def _read_sole(self, connection: PooledConnection) -> None:
        """Read once from the only connection: one system call less than polling first."""
        self._reading = True
        self.changed.release()
        try:
            fetched = connection.read_available(0)
        finally:
            self._stop_reading()
        if connection.session.error is None:
            connection.feed_session(fetched)
        if connection.session.error is not None:
            self._drop_connection(connection)
        elif fetched is None:
            self._drop_if_gone(connection)

    def _stop_reading(self) -> None:
        self.changed.acquire()
        self._reading = False
        if self._followers:
            self.changed.notify_all()

    def forget_job(self, job: ClientJob) -> None:
        """Drop what arrives for this job, and never resubmit it."""
        with self.changed:
            job.resubmits = 0
            for connection in self._connections.values():
                if connection.session.server == job.server:
                    connection.session.forget_job(job)

    def close_connection(self, connection: PooledConnection, why: str) -> None:
        """Close it; all jobs and questions on it are lost, for this reason."""
        with self.changed:
            if connection.session.error is None:
                connection.session.lose_connection(why)
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
            if not self._reading:  # else the polling thread wakes up and drops it
                self._drop_connection(connection)
            self.changed.notify_all()

    def _drop_connection(self, connection: PooledConnection) -> None:
        for server, one in list(self._connections.items()):
            if one is connection:
                del self._connections[server]
                del self._by_fd[connection.fd]
                self._poll.unregister(connection.fd)
        connection.socket.close()

    def close_all(self) -> None:
        """Close all connections."""
        for connection in list(self._connections.values()):
            self.close_connection(connection, "closed by this client")
        with self.changed:
            while self.lost:
                job = self.lost.popleft()
                job._give_up(ConnectionLost(job.server, "closed by this client"))
            if self._wakers is not None and not self._reading:
                for waker in self._wakers:
                    waker.close()


def _to_milliseconds(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic()) * 1000


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())
