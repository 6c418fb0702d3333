"""Room for one plain function's job at a time: a thread that owns its connections.

It grabs from each of its servers in turn. The thread reads, runs the function and writes
itself: handing a job to another thread and back would cost more than a small job does.
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
from gearman_py.net.servers import Server, why_not
from gearman_py.protocol.packets import Packet
from gearman_py.worker.backoff import Backoff
from gearman_py.worker.counters import Tally
from gearman_py.worker.session import Answer, Assignment, Session, State
from gearman_py.worker.sync_connection import Line

_log = logging.getLogger("gearman_py.worker")

CONNECT_TIMEOUT = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds between attempts to reach a server
# Ask again after so long asleep: a wake-up may be lost with a connection that nobody closed.
SLEEP_LIMIT = 60.0
_BEAT = 10.0  # seconds, at most, between two looks at anything
AFTER_GIVING_BACK = 1.0  # seconds for others to take the job

Perform = Callable[[Assignment, Line], Answer]


class _Bond:
    """What a slot has to do with one server: a line, or an attempt to have one."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.line: Line | None = None
        self.dialing = False
        self.due = 0.0
        self.backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)


class Slot:
    """Runs jobs by ``perform`` until drained; ``start`` does so in a thread.

    In that thread ``on_answer`` is called after each job, and ``on_change`` when a server
    knows the functions, and at the end.
    """

    def __init__(
        self,
        servers: Collection[Server],
        session: Callable[[], Session],
        perform: Perform,
        *,
        on_change: Callable[[], object],
        on_answer: Callable[[], object],
    ) -> None:
        self.ended = False
        self.tally = Tally()
        self.progress = monotonic()  # when it last went on; a job's own time does not count
        self._bonds = deque(map(_Bond, servers))
        self._session = session
        self._perform = perform
        self._on_change = on_change
        self._on_answer = on_answer
        self._working = False
        self._draining = False
        self._stopped = False
        self._deadline: float | None = None
        self._dialed: deque[tuple[_Bond, socket.socket | OSError]] = deque()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)

    def start(self) -> None:
        """Begin, in a thread that does not keep the process from leaving."""
        Thread(target=self._run, name="gearman-slot", daemon=True).start()

    def _run(self) -> None:
        try:
            self.run()
        except BaseException:
            _log.exception("a worker's thread ended by mistake")
        finally:
            self._on_change()

    @property
    def registered(self) -> int:
        """How many servers know the functions now."""
        lines = [bond.line for bond in list(self._bonds)]
        return sum(line is not None and line.session.registered for line in lines)

    @property
    def busy(self) -> bool:
        """Whether it has a job in hand, or one may be on its way."""
        return self._working

    def drain(self) -> None:
        """Take no further job; end when the one in hand is answered."""
        self._draining = True
        for bond in list(self._bonds):
            if (line := bond.line) is not None and not line.session.registered:
                line.cut()  # it has never answered: it has none of our jobs, and may never do so
        self._wake()

    def stop(self) -> None:
        """End now; a job in hand goes back to its server."""
        self._stopped = self._draining = True
        for bond in list(self._bonds):
            if bond.line is not None:
                bond.line.cut()
        self._wake()

    def run(self, *, deadline: float | None = None, burst: bool = False) -> None:
        """Work in this thread until drained; or until ``deadline`` (of time.monotonic()); or, in
        a ``burst``, until no server has a job."""
        self._deadline = deadline
        try:
            while not (self._draining or (burst and self._idle) or self._late):
                bond = self._next()
                if bond is None or bond.line is None:
                    self._wait()
                else:
                    self._attempt(bond, self._turn)
        finally:
            for bond in self._bonds:
                if bond.line is not None:
                    bond.line.leave()
                    bond.line = None
            self.ended = True
            self._waker.close()
            self._woken.close()
            self._abandon_dialed()

    @property
    def _idle(self) -> bool:
        """Whether every server that could be reached has said that it has no job."""
        lines = [bond.line for bond in self._bonds if bond.line is not None]
        asleep = all(line.session.state is State.ASLEEP for line in lines)
        return bool(lines) and asleep and not any(bond.dialing for bond in self._bonds)

    @property
    def _late(self) -> bool:
        return self._deadline is not None and monotonic() >= self._deadline

    def _next(self) -> _Bond | None:
        """A server that may have a job, each in its turn."""
        for _ in range(len(self._bonds)):
            self._bonds.rotate(-1)
            if (line := self._bonds[-1].line) is not None and line.session.state is State.IDLE:
                return self._bonds[-1]
        return None

    def _turn(self, bond: _Bond, line: Line) -> None:
        """Ask for a job and do it; or go to sleep when there is none.

        A result and the next grab are one write, where no other server waits for its turn.
        """
        session = line.session
        known = session.registered
        self._working = True
        session.grab()
        while session.grabbing():
            line.flush()
            while session.grabbing():
                line.read()
            if not known:
                known = True
                bond.backoff.reset()
                _log.info("registered with %s", line.server)
                self._on_change()
            if session.assignment is None:
                session.sleep()
                line.asleep_since = monotonic()
            else:
                self._do(session.assignment, line)
                if not self._draining and self._alone(bond):
                    session.grab()
        self._working = False
        line.flush()

    def _do(self, assignment: Assignment, line: Line) -> None:
        answer = self._perform(assignment, line)
        line.session.finish(answer)
        self.progress = monotonic()
        self.tally.count(answer)
        self._on_answer()
        if answer.packet is Packet.CANT_DO and not self._draining:
            line.flush()
            self._look(AFTER_GIVING_BACK)

    def _alone(self, bond: _Bond) -> bool:
        """Whether no other server has a job for us, as far as it has said."""
        if len(self._bonds) == 1:
            return True
        self._look(0)
        return not any(
            other.line is not None and other.line.session.state is State.IDLE
            for other in self._bonds
            if other is not bond
        )

    def _wait(self) -> None:
        """Nobody has a job: connect where that is due, then wait for any server's word."""
        now = self.progress = monotonic()
        wake = now + _BEAT
        for bond in self._bonds:
            if (line := bond.line) is not None:
                if line.asleep_since + SLEEP_LIMIT < now:
                    line.session.wake()
                    return
            elif not bond.dialing and bond.due > now:
                wake = min(wake, bond.due)
            elif not bond.dialing:
                bond.dialing = True
                Thread(target=self._dial, args=(bond,), name="gearman-dial", daemon=True).start()
        if self._deadline is not None:
            wake = min(wake, self._deadline)
        self._look(wake - now)

    def _look(self, seconds: float) -> None:
        """Take what has come: wake-ups of servers, new connections, or a word to drain."""
        ready = self._poll.poll(max(0.0, seconds) * 1000)
        if not ready:
            for bond in self._bonds:
                if bond.line is not None:
                    self._attempt(bond, lambda _, line: line.look())
        for fd, _ in ready:
            if fd == self._woken.fileno():
                self._woken.recv(100)
                while self._dialed:
                    self._dialed_one(*self._dialed.popleft())
                continue
            for bond in self._bonds:
                if (line := bond.line) is not None and line.fd == fd:
                    if line.session.state is State.ASLEEP:
                        self._attempt(bond, lambda _, line: line.read())
                    break

    def _attempt(self, bond: _Bond, act: Callable[[_Bond, Line], object]) -> None:
        """Do it; when it ends the connection, note when to try that server again."""
        assert bond.line is not None  # noqa: S101  callers have looked
        try:
            act(bond, bond.line)
        except (OSError, GearmanError) as error:
            self._working = False
            self._poll.unregister(bond.line.fd)
            bond.line.close()
            bond.line = None
            if not self._draining:
                self._failed(bond, error)

    def _failed(self, bond: _Bond, error: Exception) -> None:
        pause = bond.backoff.next()
        bond.due = monotonic() + pause
        why = why_not(error, CONNECT_TIMEOUT)
        _log.warning("%s: %s; trying again in %.1f s", bond.server, why, pause)

    def _dial(self, bond: _Bond) -> None:
        """In a thread of its own: a server that does not answer must not delay the others."""
        try:
            result: socket.socket | OSError = connect(bond.server, CONNECT_TIMEOUT)
        except OSError as error:
            result = error
        except Exception as error:  # a name that cannot be looked up is a UnicodeError
            result = OSError(f"{type(error).__name__}: {error}")
        self._dialed.append((bond, result))
        if self.ended:
            self._abandon_dialed()
        else:
            self._wake()

    def _abandon_dialed(self) -> None:
        while self._dialed:
            _, result = self._dialed.popleft()
            if not isinstance(result, OSError):
                result.close()

    def _dialed_one(self, bond: _Bond, result: socket.socket | OSError) -> None:
        bond.dialing = False
        if isinstance(result, OSError):
            self._failed(bond, result)
        else:
            bond.line = Line(bond.server, result, self._session())
            self._poll.register(bond.line.fd, select.POLLIN)

    def _wake(self) -> None:
        try:
            self._waker.send(b"w")
        except OSError:
            pass  # it has a wake-up to read already, or has ended
