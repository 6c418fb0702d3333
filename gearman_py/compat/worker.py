"""GearmanWorker: runs jobs in the calling thread, with the API and hooks of python-gearman.

It runs one job at a time, from each server in turn. Changes of its functions or its id take effect
between jobs, on new connections: if a function were unregistered while its job runs, the server
would give that job to another worker too.
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
from gearman_py.errors import ConnectionLost, DataTooLarge, GearmanError, ServerUnavailable
from gearman_py.net.dial import connect
from gearman_py.net.servers import ServerAddress, why_not
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import (
    Answer,
    Assignment,
    State,
    WorkerSession,
    must_fit,
)
from gearman_py.worker.sync_connection import SyncConnection

_log = logging.getLogger("gearman_py.compat")

POLL_TIMEOUT_IN_SECONDS = 60.0
CONNECT_TIMEOUT = 3.0  # seconds for a server to accept a connection

Task = Callable[["GearmanWorker", GearmanJob], Any]


class GearmanWorker(GearmanConnectionManager):
    """Serves functions, which are called with the worker and the job and return the result."""

    def __init__(self, host_list: Iterable[Host] | None = None) -> None:
        super().__init__(host_list)
        self.worker_abilities: dict[Name, Task] = {}
        self.worker_client_id: str | None = None
        self._connections: dict[ServerAddress, SyncConnection] = {}
        self._changed = False  # servers have to be told
        self._in_job = False
        self._stopping = False

    def register_task(self, task: Name, callback_function: Task) -> Name:
        """Serve ``task`` with ``callback_function(worker, job)``."""
        self._remove_task(task)
        self.worker_abilities[task] = callback_function
        return task

    def unregister_task(self, task: Name) -> Name:
        """Stop serving ``task``."""
        self._remove_task(task)
        return task

    def set_client_id(self, client_id: str) -> str:
        """The name of this worker at the servers; host:pid by default."""
        self.worker_client_id = client_id
        self._changed = True
        return client_id

    def work(self, poll_timeout: float = POLL_TIMEOUT_IN_SECONDS) -> None:
        """Run jobs until a hook returns False.

        Lost servers are tried again every ``poll_timeout`` seconds. Raises ServerUnavailable if
        none is left.
        """
        self._stopping = False
        try:
            while self._work_for(poll_timeout):
                pass
        finally:
            self._close_connections()

    def shutdown(self) -> None:
        """Close the connections and have work() return, after the current job."""
        self._stopping = True
        if not self._in_job:
            self._close_connections()

    # Hooks, for subclasses.

    def after_poll(self, any_activity: bool) -> bool:
        """Called when servers sent something, or nothing came in time; False ends work()."""
        return True

    def after_job(self) -> bool:
        """Called after each job; False ends work()."""
        return True

    def on_job_execute(self, current_job: GearmanJob) -> bool:
        """Runs a job."""
        try:
            result = self._find_task(as_text(current_job.task))[1](self, current_job)
        except Exception:
            return self.on_job_exception(current_job, sys.exc_info())
        return self.on_job_complete(current_job, result)

    def on_job_exception(self, current_job: GearmanJob, exc_info: Any) -> bool:
        """Called when a function raises: the job fails."""
        _log.error("%s failed (job %s)", current_job.task, current_job.handle, exc_info=exc_info)
        self.send_job_failure(current_job)
        return False

    def on_job_complete(self, current_job: GearmanJob, job_result: Any) -> bool:
        """Called when a function returns."""
        self.send_job_complete(current_job, job_result)
        return True

    # For functions. Only the first end of a job counts; data, status and warnings raise
    # ConnectionLost if the server is gone. poll_timeout has no effect: packets are sent at once.

    def send_job_status(
        self,
        current_job: GearmanJob,
        numerator: float,
        denominator: float,
        poll_timeout: Any = None,
    ) -> None:
        """Report the progress of the job."""
        counts = (b"%d" % number for number in (numerator, denominator))
        self._send_packet(current_job, Packet.WORK_STATUS, *counts)

    def send_job_data(self, current_job: GearmanJob, data: Any, poll_timeout: Any = None) -> None:
        """Send a part of the result."""
        self._send_packet(current_job, Packet.WORK_DATA, self.encode(data))

    def send_job_warning(
        self, current_job: GearmanJob, data: Any, poll_timeout: Any = None
    ) -> None:
        """Send a warning to the client."""
        self._send_packet(current_job, Packet.WORK_WARNING, self.encode(data))

    def send_job_complete(
        self, current_job: GearmanJob, data: Any, poll_timeout: Any = None
    ) -> None:
        """End the job with its result."""
        self._finish_job(current_job, Packet.WORK_COMPLETE, self.encode(data))

    def send_job_failure(self, current_job: GearmanJob, poll_timeout: Any = None) -> None:
        """End the job as failed."""
        self._finish_job(current_job, Packet.WORK_FAIL)

    def send_job_exception(
        self, current_job: GearmanJob, data: Any, poll_timeout: Any = None
    ) -> None:
        """End the job as failed, with a reason. A later failure has no effect."""
        self._finish_job(current_job, Packet.WORK_EXCEPTION, self.encode(data))

    def _remove_task(self, task: Name) -> None:
        for name in [name for name in self.worker_abilities if as_text(name) == as_text(task)]:
            del self.worker_abilities[name]
        self._changed = True

    def _find_task(self, function: str) -> tuple[Name, Task]:
        """A function, and its name as registered."""
        for name, task in self.worker_abilities.items():
            if as_text(name) == function:
                return name, task
        raise LookupError(f"{function} was unregistered")

    def _work_for(self, seconds: float) -> bool:
        """Work for ``seconds``; False if a hook ended it."""
        deadline = monotonic() + seconds
        self._update_connections()
        go_on = self.after_poll(False)
        while go_on and self._connections and not self._stopping:
            if self._changed:
                self._update_connections()
            active = self._wait_for_servers(deadline)
            go_on = self._serve_jobs() and self.after_poll(active)
            if monotonic() >= deadline:
                break
        if go_on and not self._connections and not self._stopping:
            raise ServerUnavailable([(str(one), "it was lost") for one in self.connection_list])
        return go_on and not self._stopping

    def _update_connections(self) -> None:
        """Connect to the servers that are missing; to all, if the functions have changed."""
        if self._changed:
            self._close_connections()
        self._connect_servers()

    def _connect_servers(self) -> None:
        """Connect to the other servers. Raises ServerUnavailable if none answers."""
        failures = []
        self._changed = False
        for server in self.connection_list:
            if server in self._connections:
                continue
            try:
                connection = connect(server, CONNECT_TIMEOUT)
            except OSError as error:
                failures.append((str(server), why_not(error, CONNECT_TIMEOUT)))
            else:
                name = self.worker_client_id or f"{socket.gethostname()}:{os.getpid()}"
                session = WorkerSession(map(as_text, self.worker_abilities), as_text(name))
                self._connections[server] = SyncConnection(server, connection, session)
        if not self._connections:
            raise ServerUnavailable(failures)

    def _close_connections(self) -> None:
        while self._connections:
            _, line = self._connections.popitem()
            line.close_gracefully()

    def _wait_for_servers(self, deadline: float) -> bool:
        """Wait for servers to wake us up, unless one may already have a job."""
        idle = any(line.session.state is State.IDLE for line in self._connections.values())
        poll = select.poll()
        lines = {line.fd: line for line in self._connections.values()}
        for fd in lines:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(0 if idle else max(0.0, deadline - monotonic()) * 1000)
        for fd, _ in ready:
            self._try_call(lines[fd], lines[fd].read_packets)
        if not (ready or idle):
            for line in lines.values():
                self._try_call(line, line.check_alive)
        return bool(ready)

    def _serve_jobs(self) -> bool:
        """Run one job from each server that has one; False if a hook ended it."""
        for line in list(self._connections.values()):
            if line.session.state is State.IDLE and self._try_call(line, partial(_grab_job, line)):
                assignment = line.session.assignment
                if assignment is not None:
                    self._run_job(assignment, line)
                    if not (self.after_poll(True) and self.after_job()):
                        return False
                    if self._changed or self._stopping:
                        break  # other servers have to be told first
        return True

    def _try_call(self, line: SyncConnection, act: Callable[[], object]) -> bool:
        """Call ``act``; False if the connection was lost."""
        try:
            act()
        except (OSError, GearmanError) as error:
            _log.warning("%s: %s", line.server, why_not(error))
            line.close()
            left = {server: one for server, one in self._connections.items() if one is not line}
            self._connections = left
            return False
        return True

    def _run_job(self, assignment: Assignment, line: SyncConnection) -> None:
        name, _ = self._find_task(assignment.function)
        if assignment.too_large:
            _log.error("%s failed: it is too large (job %s)", name, assignment.handle)
            text = b"JobTooLarge: it is over the limit of %d" % MAX_PACKET
            line.session.finish_job(Answer(Packet.WORK_EXCEPTION, (text,)))
            self._try_call(line, line.flush)
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

    def _send_packet(self, job: GearmanJob, packet: Packet, *arguments: bytes) -> None:
        must_fit(MAX_PACKET, as_text(job.handle), arguments[-1])
        try:
            job.connection.send_update(as_text(job.handle), packet, *arguments)
        except OSError as error:
            raise ConnectionLost(str(job.connection.server), why_not(error)) from error

    def _finish_job(self, job: GearmanJob, packet: Packet, *arguments: bytes) -> None:
        line: SyncConnection = job.connection
        assignment = line.session.assignment
        if assignment is not None and assignment.handle == as_text(job.handle):
            try:
                must_fit(MAX_PACKET, assignment.handle, b"".join(arguments))
            except DataTooLarge as error:
                _log.error("%s failed: %s (job %s)", job.task, error, job.handle)
                packet, arguments = Packet.WORK_EXCEPTION, (f"ResultTooLarge: {error}".encode(),)
            line.session.finish_job(Answer(packet, arguments))
            self._try_call(line, line.flush)


def _grab_job(line: SyncConnection) -> None:
    """Ask for a job; if there is none, tell the server to wake us up."""
    line.session.grab_job()
    line.flush()
    while line.session.is_grabbing():
        line.read_packets()
    if line.session.assignment is None:
        line.session.pre_sleep()
        line.flush()
