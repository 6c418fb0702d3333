"""Processes that run plain functions: they compute, and their parent speaks to the servers.

So a function that crashes its process fails only its own job, and one that takes too long can be
stopped. The processes are forked by a fork server, which is forked before there are threads:
forking a process with threads may hang. Parent and process speak Gearman to each other, like
server and worker. All of these processes end with the parent, however it ends.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from functools import partial
from inspect import isawaitable
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import NoReturn

from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.framing import response
from gearman_py.protocol.packets import FAULT, Packet
from gearman_py.worker.drain_signal import DrainSignal
from gearman_py.worker.hooks import as_coroutine, shut_down
from gearman_py.worker.job import Send
from gearman_py.worker.job_runner import JobRunner
from gearman_py.worker.session import GIVEN_BACK, Answer, Assignment

_log = logging.getLogger("gearman_py.worker")

_TERMINATE_TIMEOUT = 5.0  # seconds between SIGTERM and SIGKILL for a function over its limit
_READ_SIZE = 2**16
_FORK = b"fork"
_ANY_SIZE = 2**32 - 1  # no limit here: sizes are checked where jobs arrive and results leave
_ENDS = GIVEN_BACK | {Packet.WORK_COMPLETE, Packet.WORK_EXCEPTION, Packet.WORK_FAIL}


class ProcessDied(Exception):
    """The process ended unexpectedly; the text says how."""


class TimeLimitReached(Exception):
    """The process was ended because its job took too long."""


class ForkServer:
    """Forks worker processes. Create it while this process has only one thread."""

    def __init__(self, runner: JobRunner, drain_signal: DrainSignal) -> None:
        self._lock = Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._control.close()
            drain_signal.start_drain()  # only the parent's copy counts
            _run_fork_server(theirs, runner)
        theirs.close()

    def start_process(self) -> "WorkerProcess":
        """A new process, ready for jobs. Raises ProcessDied if it could not start."""
        ours, theirs = socket.socketpair()
        try:
            with self._lock, theirs:
                socket.send_fds(self._control, [_FORK], [theirs.fileno()])
                pid = int(self._control.recv(32))
            process = WorkerProcess(self, pid, ours)
            process.await_ready()
        except BaseException:
            ours.close()
            raise
        return process

    def reap_process(self, pid: int) -> str:
        """Wait until a process has ended; return how it ended."""
        with self._lock:
            self._control.send(b"%d" % pid)
            code = os.waitstatus_to_exitcode(int(self._control.recv(32)))
        return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def close(self) -> None:
        """End all processes."""
        self._control.close()
        os.waitpid(self._pid, 0)


class WorkerProcess:
    """A process that runs one job at a time."""

    def __init__(self, fork_server: ForkServer, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.jobs = 0
        self._fork_server = fork_server
        self._socket = connection
        self._decoder = Decoder(RESPONSE, max_packet=_ANY_SIZE)

    @property
    def resident_memory(self) -> int:
        """The memory it uses now, in bytes."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def await_ready(self) -> None:
        """Wait until the worker's on_startup functions have run. Raises ProcessDied."""
        self._read_packets(None)

    def run_job(
        self, assignment: Assignment, server: str, send: Send, limit: float | None
    ) -> Answer:
        """Run a job; what it sends goes to ``send``.

        Raises ProcessDied, and TimeLimitReached after ``limit`` seconds.
        """
        self.jobs += 1
        names = (assignment.handle, assignment.function, assignment.unique, assignment.reducer)
        fields = [name.encode(errors="surrogateescape") for name in names]
        self._socket.settimeout(None)
        deadline = None if limit is None else monotonic() + limit
        try:
            self._socket.sendall(
                response(Packet.OPTION_RES, server.encode())
                + response(Packet.JOB_ATTEMPT, fields[0], b"%d" % assignment.attempt)
                + response(Packet.JOB_ASSIGN_ALL, *fields, assignment.workload)
            )
        except OSError:
            pass  # it is dead; the next read will show how it ended
        while True:
            for packet, arguments in self._read_packets(deadline):
                if packet in _ENDS:
                    return Answer(Packet(packet), tuple(arguments[1:]))
                if packet == FAULT:
                    self.end_now()
                    raise ProcessDied("it sent an invalid packet")
                send(Packet(packet), *arguments[1:])

    def _read_packets(self, deadline: float | None) -> list[tuple[int, list[bytes]]]:
        try:
            self._socket.settimeout(
                None if deadline is None else max(0.001, deadline - monotonic())
            )
            data = self._socket.recv(_READ_SIZE)
        except TimeoutError:
            self._terminate_process()
            raise TimeLimitReached from None
        except ConnectionResetError:
            data = b""
        if not data:
            self._socket.close()
            raise ProcessDied(self._fork_server.reap_process(self.pid))
        return self._decoder.feed(data)

    def _terminate_process(self) -> None:
        self._send_signal(signal.SIGTERM)
        self._await_end()

    def close(self) -> None:
        """Let it end between two jobs, after running its on_shutdown functions."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended
        self._await_end()

    def _await_end(self) -> None:
        deadline = monotonic() + _TERMINATE_TIMEOUT
        try:
            while True:
                self._socket.settimeout(max(0.001, deadline - monotonic()))
                if not self._socket.recv(_READ_SIZE):
                    break
        except TimeoutError:
            self._send_signal(signal.SIGKILL)
        except OSError:
            pass
        self._socket.close()
        self._fork_server.reap_process(self.pid)

    def end_now(self) -> None:
        """Kill it, and wait until it has ended."""
        self.kill()
        self._await_end()

    def kill(self) -> None:
        """Kill it now, from any thread."""
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, number: signal.Signals) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass


# In the fork server.


def _run_fork_server(control: socket.socket, runner: JobRunner) -> NoReturn:
    os.setpgid(0, 0)  # the parent handles ^C at a terminal, and lets running jobs finish
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    alive: set[int] = set()
    while True:
        try:
            word, fds, _, _ = socket.recv_fds(control, 32, 1)
        except OSError:
            word, fds = b"", []
        if word == _FORK:
            if (pid := os.fork()) == 0:
                control.close()
                _run_process(socket.socket(fileno=fds[0]), runner)
            os.close(fds[0])
            alive.add(pid)
            control.send(b"%d" % pid)
        elif word:
            _, status = os.waitpid(int(word), 0)
            alive.discard(int(word))
            control.send(b"%d" % status)
        else:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)


# In a worker process.


def _run_process(parent: socket.socket, runner: JobRunner) -> NoReturn:
    status = 1
    try:
        for hook in runner.registry.on_startup:
            if isawaitable(called := hook()):
                asyncio.run(as_coroutine(called))
        _serve_parent(parent, runner)
        shut_down(runner.registry.on_shutdown)
        status = 0
    except BaseException:
        _log.exception("a worker process ended")
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _serve_parent(parent: socket.socket, runner: JobRunner) -> None:
    decoder = Decoder(RESPONSE, max_packet=_ANY_SIZE)
    server, attempt = "", 0

    def send_packet(handle: bytes, packet: Packet, *arguments: bytes) -> None:
        with runner.send_guard:  # a function may send from any thread
            parent.sendall(response(packet, handle, *arguments))

    parent.sendall(response(Packet.NOOP))
    while data := parent.recv(_READ_SIZE):
        for packet, arguments in decoder.feed(data):
            if packet == Packet.OPTION_RES:
                server = arguments[0].decode()
                continue
            if packet == Packet.JOB_ATTEMPT:
                attempt = int(arguments[1])
                continue
            assignment = Assignment.from_arguments(arguments, attempt)
            job = runner.make_job(assignment, server, partial(send_packet, arguments[0]))
            answer = runner.run_plain(job)
            send_packet(arguments[0], answer.packet, *answer.arguments)
