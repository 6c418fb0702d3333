"""GearmanWorker: does jobs in the calling thread, with python-gearman's names and hooks.

One job at a time, from each server in turn. A change of its functions or its id takes effect
between jobs, on new connections: taking a function back from a server while its job runs
would have the server give that job to another worker too.
"""

import logging
import os
import select
import socket
import sys
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any

from gearman_py.compat.connection_manager import (
    GearmanConnectionManager,
    Host,
    Name,
    as_bytes,
    as_text,
)
from gearman_py.compat.job import GearmanJob
from gearman_py.errors import ConnectionLost, GearmanError, ServerUnavailable
from gearman_py.net.dial import connect
from gearman_py.net.servers import Server, why_not
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import (
    Answer,
    Assignment,
    ResultTooLarge,
    State,
    WorkerSession,
    must_fit,
)
from gearman_py.worker.sync_connection import SyncConnection

_log = logging.getLogger("gearman_py.compat")

POLL_TIMEOUT_IN_SECONDS = 60.0
_CONNECT_LIMIT = 3.0  # seconds for a server to accept a connection

Task = Callable[["GearmanWorker", GearmanJob], Any]


class GearmanWorker(GearmanConnectionManager):
    """Serves functions, each called with the worker and the job; what it returns is the result."""

    def __init__(self, host_list: Iterable[Host] | None = None) -> None:
        super().__init__(host_list)
        self.worker_abilities: dict[Name, Task] = {}
        self.worker_client_id: str | None = None
        self._lines: dict[Server, SyncConnection] = {}
        self._changed = False  # what servers know of us is out of date
        self._in_job = False
        self._leaving = False

    def register_task(self, task: Name, callback_function: Task) -> Name:
        """Serve ``task`` by ``callback_function(worker, job)``."""
        self._forget(task)
        self.worker_abilities[task] = callback_function
        return task

    def unregister_task(self, task: Name) -> Name:
        """Serve ``task`` no more."""
        self._forget(task)
        return task

    def set_client_id(self, client_id: str) -> str:
        """What servers list this worker as; left out: host:pid."""
        self.worker_client_id = client_id
        self._changed = True
        return client_id

    def work(self, poll_timeout: float = POLL_TIMEOUT_IN_SECONDS) -> None:
        """Do jobs until a hook says stop.

        Servers that were lost are tried anew every ``poll_timeout`` seconds. Raises
        ServerUnavailable when none is left.
        """
        self._leaving = False
        try:
            while self._work(poll_timeout):
                pass
        finally:
            self._leave()

    def shutdown(self) -> None:
        """Close the connections; in a job: when it has ended, and work() returns."""
        self._leaving = True
        if not self._in_job:
            self._leave()

    # Hooks, for subclasses.

    def after_poll(self, any_activity: bool) -> bool:
        """Called whenever servers were heard, or nothing came in time; False ends work()."""
        return True

    def after_job(self) -> bool:
        """Called after each job; False ends work()."""
        return True

    def on_job_execute(self, current_job: GearmanJob) -> bool:
        """Runs a job."""
        try:
            result = self._task(as_text(current_job.task))[1](self, current_job)
        except Exception:
            return self.on_job_exception(current_job, sys.exc_info())
        return self.on_job_complete(current_job, result)

    def on_job_exception(self, current_job: GearmanJob, exc_info: Any) -> bool:
        """A function has raised: the job fails."""
        _log.error("%s failed (job %s)", current_job.task, current_job.handle, exc_info=exc_info)
        self.send_job_failure(current_job)
        return False

    def on_job_complete(self, current_job: GearmanJob, job_result: Any) -> bool:
        """A function has returned."""
        self.send_job_complete(current_job, job_result)
        return True

    # What a function may say of its job. The first ending counts; data, status and warnings
    # raise ConnectionLost when the server is gone. poll_timeout has no effect: all is sent at
    # once.

    def send_job_status(
        self,
        current_job: GearmanJob,
        numerator: float,
        denominator: float,
        poll_timeout: Any = None,
    ) -> None:
        """Say how far the job is."""
        self._send(current_job, Packet.WORK_STATUS, *(b"%d" % n for n in (numerator, denominator)))

    def send_job_data(self, current_job: GearmanJob, data: Any, poll_timeout: Any = None) -> None:
        """Send a part of the result."""
        self._send(current_job, Packet.WORK_DATA, self.encode(data))

    def send_job_warning(
        self, current_job: GearmanJob, data: Any, poll_timeout: Any = None
    ) -> None:
        """Warn the client."""
        self._send(current_job, Packet.WORK_WARNING, self.encode(data))

    def send_job_complete(
        self, current_job: GearmanJob, data: Any, poll_timeout: Any = None
    ) -> None:
        """End the job with its result."""
        self._finish(current_job, Packet.WORK_COMPLETE, self.encode(data))

    def send_job_failure(self, current_job: GearmanJob, poll_timeout: Any = None) -> None:
        """End the job as failed."""
        self._finish(current_job, Packet.WORK_FAIL)

    def send_job_exception(
        self, current_job: GearmanJob, data: Any, poll_timeout: Any = None
    ) -> None:
        """End the job as failed, with a reason. A failure sent after it has no effect."""
        self._finish(current_job, Packet.WORK_EXCEPTION, self.encode(data))

    def _forget(self, task: Name) -> None:
        for name in [name for name in self.worker_abilities if as_text(name) == as_text(task)]:
            del self.worker_abilities[name]
        self._changed = True

    def _task(self, function: str) -> tuple[Name, Task]:
        """A function and its name as it was registered."""
        for name, task in self.worker_abilities.items():
            if as_text(name) == function:
                return name, task
        raise LookupError(f"{function} was unregistered")

    def _work(self, seconds: float) -> bool:
        """Work for so long; False when a hook has said stop."""
        deadline = monotonic() + seconds
        self._connect()
        go_on = self.after_poll(False)
        while go_on and self._lines and not self._leaving:
            if self._changed:
                self._leave()
                self._connect()
            active = self._look(deadline)
            go_on = self._serve() and self.after_poll(active)
            if monotonic() >= deadline:
                break
        if go_on and not self._lines and not self._leaving:
            raise ServerUnavailable([(str(one), "it was lost") for one in self.connection_list])
        return go_on and not self._leaving

    def _connect(self) -> None:
        """Connect where we are not. Raises ServerUnavailable when there is nobody."""
        failures = []
        self._changed = False
        for server in self.connection_list:
            if server in self._lines:
                continue
            try:
                connection = connect(server, _CONNECT_LIMIT)
            except OSError as error:
                failures.append((str(server), why_not(error, _CONNECT_LIMIT)))
            else:
                name = self.worker_client_id or f"{socket.gethostname()}:{os.getpid()}"
                session = WorkerSession(map(as_text, self.worker_abilities), as_text(name))
                self._lines[server] = SyncConnection(server, connection, session)
        if not self._lines:
            raise ServerUnavailable(failures)

    def _leave(self) -> None:
        while self._lines:
            _, line = self._lines.popitem()
            line.close_gracefully()

    def _look(self, deadline: float) -> bool:
        """Wait for servers to wake us, unless one may have a job already."""
        idle = any(line.session.state is State.IDLE for line in self._lines.values())
        poll = select.poll()
        lines = {line.fd: line for line in self._lines.values()}
        for fd in lines:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(0 if idle else max(0.0, deadline - monotonic()) * 1000)
        for fd, _ in ready:
            self._attempt(lines[fd], lines[fd].read_packets)
        if not (ready or idle):
            for line in lines.values():
                self._attempt(line, line.check_alive)
        return bool(ready)

    def _serve(self) -> bool:
        """A job of each server that has one; False when a hook has said stop."""
        for line in list(self._lines.values()):
            if line.session.state is State.IDLE and self._attempt(line, partial(_ask, line)):
                assignment = line.session.assignment
                if assignment is not None:
                    self._do(assignment, line)
                    if not (self.after_poll(True) and self.after_job()):
                        return False
                    if self._changed or self._leaving:
                        break  # the other servers do not know of it yet
        return True

    def _attempt(self, line: SyncConnection, act: Callable[[], object]) -> bool:
        """Do something that the loss of the connection may end."""
        try:
            act()
        except (OSError, GearmanError) as error:
            _log.warning("%s: %s", line.server, why_not(error))
            line.close()
            self._lines = {server: one for server, one in self._lines.items() if one is not line}
            return False
        return True

    def _do(self, assignment: Assignment, line: SyncConnection) -> None:
        name, _ = self._task(assignment.function)
        if assignment.too_large:
            _log.error("%s failed: it is too large (job %s)", name, assignment.handle)
            text = b"JobTooLarge: it is over the limit of %d" % MAX_PACKET
            line.session.finish_job(Answer(Packet.WORK_EXCEPTION, (text,)))
            self._attempt(line, line.flush)
            return
        handle, unique = as_bytes(assignment.handle), as_bytes(assignment.unique)
        job = self.job_class(line, handle, name, unique, assignment.workload)
        self._in_job = True
        try:
            try:
                job.data = self.decode(assignment.workload)
            except Exception:
                self.on_job_exception(job, sys.exc_info())
            else:
                self.on_job_execute(job)
        finally:
            self._in_job = False
        if line.session.assignment is not None:
            _log.error("%s was not answered: it fails (job %s)", job.task, job.handle)
            self.send_job_failure(job)

    def _send(self, job: GearmanJob, packet: Packet, *arguments: bytes) -> None:
        must_fit(MAX_PACKET, as_text(job.handle), arguments[-1])
        try:
            job.connection.send_update(as_text(job.handle), packet, *arguments)
        except OSError as error:
            raise ConnectionLost(str(job.connection.server), why_not(error)) from error

    def _finish(self, job: GearmanJob, packet: Packet, *arguments: bytes) -> None:
        line: SyncConnection = job.connection
        assignment = line.session.assignment
        if assignment is not None and assignment.handle == as_text(job.handle):
            try:
                must_fit(MAX_PACKET, assignment.handle, b"".join(arguments))
            except ResultTooLarge as error:
                _log.error("%s failed: %s (job %s)", job.task, error, job.handle)
                packet, arguments = Packet.WORK_EXCEPTION, (f"ResultTooLarge: {error}".encode(),)
            line.session.finish_job(Answer(packet, arguments))
            self._attempt(line, line.flush)


def _ask(line: SyncConnection) -> None:
    """Ask for a job; when there is none, sleep until there is."""
    line.session.grab_job()
    line.flush()
    while line.session.is_grabbing():
        line.read_packets()
    if line.session.assignment is None:
        line.session.pre_sleep()
        line.flush()
