"""Runs the jobs of one slot: in its thread, or in a process of its own where asked for."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic, sleep

from gearman_py.errors import GearmanError
from gearman_py.protocol.packets import Packet
from gearman_py.worker.backoff import Backoff
from gearman_py.worker.fork_server import Child, Died, Nursery, TooLate
from gearman_py.worker.job import Send, WorkerJob
from gearman_py.worker.registry import Registry, failure
from gearman_py.worker.session import Answer, Assignment
from gearman_py.worker.sync_connection import Line

_log = logging.getLogger("gearman_py.worker")


class Performer:
    """``nursery`` forks the process; without one all run in the thread. ``all_in_process``: not
    only the functions that have a time limit. After ``max_jobs`` jobs, or when it holds more
    than ``max_memory`` bytes after one, the process is replaced.
    """

    def __init__(
        self,
        registry: Registry,
        nursery: Nursery | None,
        *,
        all_in_process: bool,
        max_jobs: int | None,
        max_memory: int | None,
        leaving: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._nursery = nursery
        self._all_in_process = all_in_process
        self._max_jobs = max_jobs
        self._max_memory = max_memory
        self._leaving = leaving
        self._child: Child | None = None

    def prepare(self) -> None:
        """Have a process ready. Raises Died when on_startup does not let it begin."""
        if self._nursery is not None and self._child is None:
            self._child = self._nursery.fork()

    def __call__(self, assignment: Assignment, line: Line) -> Answer:
        """Run a job to its end. Raises OSError or GearmanError for the line's own."""
        began = monotonic()
        send = partial(line.send, assignment.handle)
        job = self._registry.job(assignment, line.server, send)
        try:
            answer = self._answer(job, assignment, send)
        except Exception as error:
            self._give_up_child()
            answer = self._registry.broken(job, error)
        answer = self._registry.conclude(job, answer, began)
        self._renew()
        return answer

    def _answer(self, job: WorkerJob, assignment: Assignment, send: Send) -> Answer:
        if assignment.too_large:
            return self._registry.too_large(job)
        limit = self._registry.time_limit(assignment.function)
        if self._nursery is None or not (self._all_in_process or limit):
            return self._registry.perform(job)
        if self._child is None:
            return failure("WorkerDied: no worker process could be started")
        try:
            return self._child.perform(assignment, job.server, partial(_send_on, send), limit)
        except Died as death:
            self._child = None
            job.log.error("its worker process died: %s", death)
            return failure(f"WorkerDied: the worker process died: {death}")
        except TooLate:
            self._child = None
            return self._registry.too_late(job, limit or 0)

    def _give_up_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            with suppress(OSError):
                child.end_now()

    def _renew(self) -> None:
        """Replace a process that died or has done enough."""
        child = self._child
        if child is not None and (
            (self._max_jobs is not None and child.jobs >= self._max_jobs)
            or (self._max_memory is not None and child.memory > self._max_memory)
        ):
            child.close()
            self._child = None
        backoff = Backoff(0.1, 10.0)
        while self._nursery is not None and self._child is None and not self._leaving():
            try:
                self.prepare()
            except Died as death:
                pause = backoff.next()
                _log.error("a worker process cannot begin: %s; again in %.1f s", death, pause)
                sleep(pause)

    def close(self) -> None:
        """Let the process end; the slot has no job."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def kill(self) -> None:
        """End the process now, from any thread."""
        if (child := self._child) is not None:
            child.kill()


def _send_on(send: Send, packet: Packet, *arguments: bytes) -> None:
    """From the process to the server; one that was lost meanwhile shows when the job ends."""
    try:
        send(packet, *arguments)
    except (OSError, GearmanError):
        pass
