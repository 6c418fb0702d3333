"""Runs one job of a plain function at a time, in a thread that owns its connections.

It grabs from each of its servers in turn. One thread reads, runs the function and writes:
handing a job to another thread and back would cost more than a small job does.
"""

import logging
import select
import socket
from collections import deque
from collections.abc import Callable, Collection
from threading import Thread
from time import monotonic

from gearman_py.errors import GearmanError
from gearman_py.net.dial import connect
from gearman_py.net.servers import ServerAddress
from gearman_py.worker.backoff import reconnect_backoff
from gearman_py.worker.counters import JobCounters
from gearman_py.worker.server_log import ServerLog
from gearman_py.worker.session import Answer, Assignment, State, WorkerSession
from gearman_py.worker.sync_connection import SyncConnection

_log = logging.getLogger("gearman_py.worker")

CONNECT_TIMEOUT = 3.0
# Ask again after this many seconds asleep: a wake-up may be lost with a connection that died
# without being closed.
SLEEP_LIMIT = 60.0
_POLL_INTERVAL = 10.0  # seconds, at most, between two checks
GIVE_BACK_PAUSE = 1.0  # seconds for others to take the job

RunJob = Callable[[Assignment, SyncConnection], Answer]


class ServerState:
    """What a slot knows of one server: its connection, or when to connect again."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self.connection: SyncConnection | None = None
        self.dialing = False
        self.retry_at = 0.0
        self.backoff = reconnect_backoff()


class Slot:
    """Runs jobs with ``run_job`` until drained; ``start`` does so in a thread.

    In that thread ``on_answer`` is called after each job, and ``on_change`` when a server has
    registered the functions, and at the end.
    """

    def __init__(
        self,
        servers: Collection[ServerAddress],
        make_session: Callable[[], WorkerSession],
        run_job: RunJob,
        *,
        on_change: Callable[[], object],
        on_answer: Callable[[], object],
        server_log: ServerLog,
    ) -> None:
        self.ended = False
        self.counters = JobCounters()
        self.last_progress = monotonic()  # the time a job takes does not count
        self._servers = deque(map(ServerState, servers))
        self._make_session = make_session
        self._run_job = run_job
        self._on_change = on_change
        self._on_answer = on_answer
        self._server_log = server_log
        self._working = False
        self._draining = False
        self._stopped = False
        self._deadline: float | None = None
        self._dialed: deque[tuple[ServerState, socket.socket | OSError]] = deque()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)

    def start(self) -> None:
        """Start, in a daemon thread."""
        Thread(target=self._run_thread, name="gearman-slot", daemon=True).start()

    def _run_thread(self) -> None:
        try:
            self.run()
        except BaseException:
            _log.exception("a worker thread ended because of a bug in gearman_py")
        finally:
            self._on_change()

    @property
    def registered(self) -> int:
        """How many servers have registered the functions."""
        connections = [server.connection for server in list(self._servers)]
        return sum(
            connection is not None and connection.session.registered for connection in connections
        )

    @property
    def busy(self) -> bool:
        """Whether it has a job, or one may be on its way."""
        return self._working

    def drain(self) -> None:
        """Take no further job; end when the running one has been answered."""
        self._draining = True
        for server in list(self._servers):
            if (connection := server.connection) is not None and not connection.session.registered:
                connection.shut_down()  # it never answered, so no job can be lost
        self._wake_thread()

    def stop(self) -> None:
        """Stop now; a running job goes back to its server."""
        self._stopped = self._draining = True
        for server in list(self._servers):
            if server.connection is not None:
                server.connection.shut_down()
        self._wake_thread()

    def run(self, *, deadline: float | None = None, burst: bool = False) -> None:
        """Work in this thread until drained, or until ``deadline`` (of time.monotonic()), or, in
        a ``burst``, until no server has a job."""
        self._deadline = deadline
        try:
            while not (self._draining or (burst and self.is_idle) or self._past_deadline):
                server = self._next_idle_server()
                if server is None or server.connection is None:
                    self._wait_for_servers()
                else:
                    self._call_guarded(server, self._take_turn)
        finally:
            for server in self._servers:
                if server.connection is not None:
                    server.connection.close_gracefully()
                    server.connection = None
            self.ended = True
            self._waker.close()
            self._woken.close()
            self._abandon_dialed()

    @property
    def is_idle(self) -> bool:
        """Whether every server that could be reached has said that it has no job."""
        servers = list(self._servers)
        connections = [server.connection for server in servers if server.connection]
        asleep = all(each.session.state is State.ASLEEP for each in connections)
        return bool(connections) and asleep and not any(server.dialing for server in servers)

    @property
    def _past_deadline(self) -> bool:
        return self._deadline is not None and monotonic() >= self._deadline

    def _next_idle_server(self) -> ServerState | None:
        """A server that may have a job; they take turns."""
        for _ in range(len(self._servers)):
            self._servers.rotate(-1)
            server = self._servers[-1]
            if server.connection is not None and server.connection.session.state is State.IDLE:
                return server
        return None

    def _take_turn(self, server: ServerState, connection: SyncConnection) -> None:
        """Ask for a job and run it, or go to sleep if there is none.

        A result and the next grab are one write, unless another server waits for its turn.
        """
        session = connection.session
        known = session.registered
        self._working = True
        session.grab_job()
        while session.is_grabbing():
            connection.flush()
            connection.read_packets()
            while session.is_grabbing():
                connection.read_packets()
            if not known:
                known = True
                server.backoff.reset()
                self._server_log.note_registered(server.address)
                self._on_change()
            if session.assignment is None:
                session.pre_sleep()
                connection.asleep_since = monotonic()
            else:
                self._answer_job(session.assignment, connection)
                if not self._draining and self._is_only_source(server):
                    session.grab_job()
        self._working = False
        connection.flush()

    def _answer_job(self, assignment: Assignment, connection: SyncConnection) -> None:
        answer = self._run_job(assignment, connection)
        connection.session.finish_job(answer)
        self.last_progress = monotonic()
        self.counters.count_answer(answer)
        self._on_answer()
        if answer.is_for_others and not self._draining:
            connection.flush()
            self._poll_servers(GIVE_BACK_PAUSE)

    def _is_only_source(self, server: ServerState) -> bool:
        """Whether no other server has announced a job."""
        if len(self._servers) == 1:
            return True
        self._poll_servers(0)
        return not any(
            other.connection is not None and other.connection.session.state is State.IDLE
            for other in self._servers
            if other is not server
        )

    def _wait_for_servers(self) -> None:
        """No server has a job: connect where a retry is due, then wait for any server."""
        now = self.last_progress = monotonic()
        wake = now + _POLL_INTERVAL
        for server in self._servers:
            if (connection := server.connection) is not None:
                if connection.asleep_since + SLEEP_LIMIT < now:
                    connection.session.wake_up()
                    return
            elif not server.dialing and server.retry_at > now:
                wake = min(wake, server.retry_at)
            elif not server.dialing:
                server.dialing = True
                Thread(
                    target=self._dial_server, args=(server,), name="gearman-dial", daemon=True
                ).start()
        if self._deadline is not None:
            wake = min(wake, self._deadline)
        self._poll_servers(wake - now)

    def _poll_servers(self, seconds: float) -> None:
        """Handle what has arrived: wake-ups from servers, new connections, a drain."""
        ready = self._poll.poll(max(0.0, seconds) * 1000)
        if not ready:
            for server in self._servers:
                if server.connection is not None:
                    self._call_guarded(server, lambda _, connection: connection.check_alive())
        for fd, _ in ready:
            if fd == self._woken.fileno():
                self._woken.recv(100)
                while self._dialed:
                    self._take_dialed(*self._dialed.popleft())
                continue
            for server in self._servers:
                if (connection := server.connection) is not None and connection.fd == fd:
                    if connection.session.state is State.ASLEEP:
                        self._call_guarded(server, lambda _, connection: connection.read_packets())
                    break

    def _call_guarded(
        self, server: ServerState, act: Callable[[ServerState, SyncConnection], object]
    ) -> None:
        """Call ``act``; if it ends the connection, note when to try that server again."""
        assert server.connection is not None  # noqa: S101  callers have checked
        try:
            act(server, server.connection)
        except (OSError, GearmanError) as error:
            self._working = False
            self._poll.unregister(server.connection.fd)
            server.connection.close()
            server.connection = None
            if not self._draining:
                self._schedule_retry(server, error)

    def _schedule_retry(self, server: ServerState, error: Exception) -> None:
        pause = server.backoff.next()
        server.retry_at = monotonic() + pause
        self._server_log.note_failure(server.address, error, CONNECT_TIMEOUT, pause)

    def _dial_server(self, server: ServerState) -> None:
        """Connect, in a separate thread: a silent server must not delay the others."""
        try:
            result: socket.socket | OSError = connect(server.address, CONNECT_TIMEOUT)
        except OSError as error:
            result = error
        except Exception as error:  # a name that cannot be looked up is a UnicodeError
            result = OSError(f"{type(error).__name__}: {error}")
        self._dialed.append((server, result))
        if self.ended:
            self._abandon_dialed()
        else:
            self._wake_thread()

    def _abandon_dialed(self) -> None:
        while self._dialed:
            _, result = self._dialed.popleft()
            if not isinstance(result, OSError):
                result.close()

    def _take_dialed(self, server: ServerState, result: socket.socket | OSError) -> None:
        server.dialing = False
        if isinstance(result, OSError):
            self._schedule_retry(server, result)
        else:
            server.connection = SyncConnection(server.address, result, self._make_session())
            self._poll.register(server.connection.fd, select.POLLIN)

    def _wake_thread(self) -> None:
        try:
            self._waker.send(b"w")
        except OSError:
            pass  # a wake-up is pending already, or the slot has ended
