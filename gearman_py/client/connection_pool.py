"""The connections of a blocking client, one for each server, shared by its threads.

There is no helper thread. Of the threads that wait one reads the sockets, for all of them;
when it has what it waited for, another takes over.
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
from gearman_py.client.session import Session
from gearman_py.errors import ConnectionLost
from gearman_py.net import keepalive
from gearman_py.net.dial import connect
from gearman_py.net.servers import Server, why_not

_READ_SIZE = 256 * 1024
BEAT = 1  # second, for which a read may wait before it looks at the deadline


class Connection:
    """A socket and the session on it. Its hub's lock guards the session, not the socket."""

    def __init__(self, server: Server, connection: socket.socket, max_packet: int) -> None:
        self.socket = connection
        self.socket.setblocking(True)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, Struct("@ll").pack(BEAT, 0))
        self.fd = connection.fileno()
        self.session = Session(str(server), max_packet)
        self._least = 1
        self.writing = Lock()  # keeps bytes in the order in which the session expects answers

    def has_unread(self) -> bool:
        """Whether there is something to be read: bytes, or the end."""
        try:
            self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def fetch(self, flags: int = socket.MSG_DONTWAIT) -> bytes | OSError | None:
        """What has come (nothing at the end), why nothing can, or None; with 0 for ``flags`` it
        waits for it, for a beat."""
        try:
            return self.socket.recv(_READ_SIZE, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            return error

    def await_bytes(self, least: int) -> None:
        """Let reads that wait wait for so many bytes, or a beat, and then give what there is."""
        if least != self._least:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least

    def take(self, fetched: bytes | OSError | None) -> None:
        """Let the session have it."""
        if isinstance(fetched, OSError):
            self.session.lose(why_not(fetched))
        elif fetched:
            self.session.receive(fetched)
        elif fetched is not None:
            self.session.lose("it closed the connection")


class Hub:
    """All connections, and waiting on them. ``revive`` is given jobs that were lost and are to
    be submitted again, in a thread that waits. ``sole``: there will be one connection.
    ``max_packet``: see Session."""

    def __init__(
        self, revive: Callable[[list[ClientJob]], object], *, sole: bool, max_packet: int
    ) -> None:
        self._sole, self._max_packet = sole, max_packet
        self.changed = Condition()  # guards all of it
        self.lost: deque[ClientJob] = deque()
        self._revive = revive
        self._connections: dict[Server, Connection] = {}
        self._by_fd: dict[int, Connection] = {}
        self._poll = select.poll()
        self._reading = False
        self._followers = 0  # threads that wait for another to read
        self._wakers: tuple[socket.socket, socket.socket] | None = None

    def load(self, server: Server) -> int:
        """How many jobs are in flight to ``server``."""
        connection = self._connections.get(server)
        return connection.session.in_flight if connection is not None else 0

    def connected(self, server: Server, timeout: float) -> Connection:
        """The connection to ``server``, made within so many seconds. Raises OSError."""
        with self.changed:
            connection = self._living(server)
            while connection is not None and not self._reading and connection.has_unread():
                self._look(0.0)  # the end of a connection comes after what was sent before it
                connection = self._living(server)
            if connection is not None:
                return connection
        made = connect(server, timeout)
        with self.changed:
            if (connection := self._living(server)) is not None:
                made.close()  # another thread was faster
                return connection
            connection = Connection(server, made, self._max_packet)
            self._connections[server] = connection
            self._by_fd[connection.fd] = connection
            self._poll.register(connection.fd, select.POLLIN)
            self._wake()  # whoever polls is to poll this one too
            return connection

    def _wake(self) -> None:
        if self._wakers is None:
            self._wakers = socket.socketpair()
            self._wakers[1].setblocking(False)
            self._poll.register(self._wakers[1], select.POLLIN)
        elif self._reading:
            self._wakers[0].send(b"w")

    def _living(self, server: Server) -> Connection | None:
        connection = self._connections.get(server)
        return connection if connection is not None and connection.session.error is None else None

    def send(
        self, connection: Connection, ask: Callable[[Session], object], deadline: float
    ) -> bool:
        """Let ``ask`` queue something in a session, and write it; False if that had ended before.

        An end that comes while it is written is told to all that is awaited on it.
        """
        with connection.writing:
            with self.changed:
                if connection.session.error is not None:
                    return False
                ask(connection.session)
                out = memoryview(connection.session.take())
            try:
                while out:
                    out = out[self._write(connection, out, deadline) :]
            except OSError as error:
                self.close(connection, why_not(error))
            except BaseException:  # ^C: half a packet may be out, and nothing can follow it
                self.close(connection, "interrupted while it was written to")
                raise
        return True

    def _write(self, connection: Connection, out: memoryview, deadline: float) -> int:
        try:
            return connection.socket.send(out, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        # The server may wait for us to read before it takes more.
        connection.await_bytes(1)
        poll = select.poll()
        poll.register(connection.fd, select.POLLOUT | select.POLLIN)
        events = poll.poll(_milliseconds(deadline))
        if not events:
            raise TimeoutError("it takes no more bytes")
        if events[0][1] & select.POLLIN:
            with self.changed:
                if not self._reading and connection.session.error is None:
                    connection.take(connection.fetch())
                    self.changed.notify_all()
                elif connection.session.error is None:
                    self.changed.wait(0.01)
                if connection.session.error is not None:
                    raise ConnectionAbortedError("it closed the connection")
        return 0

    def wait(
        self, until: Callable[[], bool], deadline: float | None, *, job: ClientJob | None = None
    ) -> bool:
        """Read, or let another thread read, until ``until()``; False when ``deadline`` came first.

        Looks at the sockets at least once, also when the deadline has passed already. ``job``
        says that its JOB_CREATED alone is no reason to come back.
        """
        with self.changed:
            while not until():
                late = deadline is not None and monotonic() >= deadline
                if self.lost and not late:
                    self._revive_lost()
                elif self._reading:
                    if late or not self._follow(deadline):
                        return until()
                else:
                    self._look(deadline, job)
                    if late:
                        return until()
        return True

    def _follow(self, deadline: float | None) -> bool:
        """Wait for what another thread reads; False when ``deadline`` came first."""
        self._followers += 1
        try:
            return self.changed.wait(_remaining(deadline))
        finally:
            self._followers -= 1

    def _revive_lost(self) -> None:
        jobs = list(dict.fromkeys(self.lost))
        self.lost.clear()
        self.changed.release()
        try:
            self._revive(jobs)
        except BaseException:  # ^C, most likely while it connects
            self.lost.extend(jobs)
            raise
        finally:
            self.changed.acquire()
            self.changed.notify_all()

    def _look(self, deadline: float | None, job: ClientJob | None = None) -> None:
        """Read once what comes until ``deadline``, with the lock let go meanwhile."""
        remaining = None if deadline is None else deadline - monotonic()
        if self._sole and self._by_fd and (remaining is None or remaining > BEAT):
            connection = next(iter(self._by_fd.values()))
            created = job is not None and job.state is JobState.SUBMITTED
            connection.await_bytes(connection.session.created_size + 1 if created else 1)
            self._listen(connection)
            return
        for connection in self._by_fd.values():
            connection.await_bytes(1)
        self._reading = True
        self.changed.release()
        try:
            beat = keepalive.INTERVAL if remaining is None else min(remaining, keepalive.INTERVAL)
            ready = self._poll.poll(max(0.0, beat * 1000))
        finally:
            self._read_by_us()
        for fd, _ in ready:
            ready_one = self._by_fd.get(fd)
            if ready_one is None:
                assert self._wakers is not None  # noqa: S101  what else is polled
                self._wakers[1].recv(1000)
                continue
            if ready_one.session.error is None:
                ready_one.take(ready_one.fetch())
            if ready_one.session.error is not None:
                self._drop(ready_one)
        if not ready:
            for silent in list(self._by_fd.values()):
                self._drop_if_gone(silent)

    def _drop_if_gone(self, connection: Connection) -> None:
        if keepalive.gone(connection.socket):
            connection.session.lose("it does not answer")
            self._drop(connection)

    def _listen(self, connection: Connection) -> None:
        """Read once from the one connection there is: a system call less than to poll first."""
        self._reading = True
        self.changed.release()
        try:
            fetched = connection.fetch(0)
        finally:
            self._read_by_us()
        if connection.session.error is None:
            connection.take(fetched)
        if connection.session.error is not None:
            self._drop(connection)
        elif fetched is None:
            self._drop_if_gone(connection)

    def _read_by_us(self) -> None:
        self.changed.acquire()
        self._reading = False
        if self._followers:
            self.changed.notify_all()

    def forget(self, job: ClientJob) -> None:
        """Drop what comes for this job; if it is lost, it stays so."""
        with self.changed:
            job.resubmits = 0
            for connection in self._connections.values():
                if connection.session.server == job.server:
                    connection.session.forget(job)

    def close(self, connection: Connection, why: str) -> None:
        """End it; whatever is awaited is lost, for this reason."""
        with self.changed:
            if connection.session.error is None:
                connection.session.lose(why)
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
            if not self._reading:  # a thread that polls it wakes from the shutdown, and drops it
                self._drop(connection)
            self.changed.notify_all()

    def _drop(self, connection: Connection) -> None:
        for server, one in list(self._connections.items()):
            if one is connection:
                del self._connections[server]
                del self._by_fd[connection.fd]
                self._poll.unregister(connection.fd)
        connection.socket.close()

    def close_all(self) -> None:
        """End all of them."""
        for connection in list(self._connections.values()):
            self.close(connection, "closed by this client")
        with self.changed:
            while self.lost:
                job = self.lost.popleft()
                job._give_up(ConnectionLost(job.server, "closed by this client"))
            if self._wakers is not None and not self._reading:
                for waker in self._wakers:
                    waker.close()


def _milliseconds(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic()) * 1000


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())
