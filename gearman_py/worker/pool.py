"""All slots of a running worker: how they start, their state, and how they end."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from inspect import isawaitable, iscoroutine
from time import monotonic
from typing import Any

from gearman_py.worker.aio_connection import AioConnection
from gearman_py.worker.aio_slot import AsyncSlot
from gearman_py.worker.drain_signal import DrainSignal
from gearman_py.worker.executor import JobExecutor
from gearman_py.worker.fork_server import ForkServer
from gearman_py.worker.hooks import as_coroutine, shut_down, shut_down_async
from gearman_py.worker.job_runner import JobRunner, worker_error
from gearman_py.worker.labels import add_labels
from gearman_py.worker.pool_config import PoolConfig
from gearman_py.worker.pool_members import PoolMembers
from gearman_py.worker.pool_scaler import PoolScaler
from gearman_py.worker.registry import FunctionRegistry
from gearman_py.worker.scaling import ScalingRule
from gearman_py.worker.server_log import ServerLog
from gearman_py.worker.session import Answer, Assignment, WorkerSession
from gearman_py.worker.sync_slot import Slot

_log = logging.getLogger("gearman_py.worker")


class StartupFailed(Exception):
    """An on_startup function raised its cause."""


class WorkerPool:
    """Created when the worker starts; ``serve()`` returns once it has drained or was stopped."""

    def __init__(self, config: PoolConfig, registry: FunctionRegistry) -> None:
        self._config = config
        self._registry = registry
        self._drain_signal = DrainSignal()
        self._drain_event = asyncio.Event()  # the same, in the event loop
        self._runner = JobRunner(registry, config.max_packet, self._drain_signal.wait_for_drain)
        self._fork_server: ForkServer | None = None
        self.members = PoolMembers()
        self._server_log = ServerLog()
        self._changed = asyncio.Event()  # for _wait_ended() alone, which clears it
        self._ready = asyncio.Event()
        self._draining = False
        self._hooks_ran = False  # on_startup has run in this process
        self._startup_calls: list[object] = []  # what its functions returned
        self.stopped = False  # and abandoned a job

    def open(self) -> None:
        """Start what the first job needs: processes, and what on_startup functions set up.

        Call it before there are threads. Raises ValueError for options that contradict each
        other, ProcessDied, or StartupFailed.
        """
        config, specs = self._config, self._registry.functions.values()
        plain = [spec for spec in specs if not spec.is_async]
        none_async = len(plain) == len(specs) and not self._registry.is_partial
        if config.processes and config.concurrency > 1 and none_async:
            raise ValueError(
                f"concurrency={config.concurrency} with processes is for async functions, "
                f"and none is async: processes={config.processes} jobs run at a time"
            )
        limited = self._registry.timeout or any(spec.timeout for spec in plain)
        if plain and (config.processes or limited):
            self._fork_server = ForkServer(self._runner, self._drain_signal)
        elif not self._registry.is_partial:
            self._refuse_limits_per_child()
        if not config.processes or len(plain) < len(specs):
            try:
                for hook in self._registry.on_startup:
                    self._startup_calls.append(hook())
            except Exception as error:
                raise StartupFailed from error
            self._hooks_ran = True
        if plain:
            count = config.least_processes or config.concurrency
            self.members.executors = [self._make_executor() for _ in range(count)]
        for executor in self.members.executors:
            executor.ensure_process()

    def _refuse_limits_per_child(self) -> None:
        for name in ("max_jobs_per_child", "max_memory_per_child"):
            if (most := getattr(self._config, name)) is not None:
                raise ValueError(
                    f"{name}={most} needs child processes: processes=N, or a timeout, and "
                    "functions that are not async"
                )

    def _make_executor(self) -> JobExecutor:
        return JobExecutor(
            self._runner,
            self._fork_server,
            all_in_process=self._config.least_processes > 0,
            max_jobs=self._config.max_jobs_per_child,
            max_memory=self._config.max_memory_per_child,
            is_draining=lambda: self._draining,
        )

    def close(self) -> None:
        """End what open() has started. Call it after serve()."""
        for called in self._startup_calls:
            if iscoroutine(called):
                called.close()  # has no effect once it has been awaited
        for executor in self.members.executors:
            executor.close(now=self.stopped)
        if self._fork_server is not None:
            self._fork_server.close()
        if self._hooks_ran:
            shut_down(self._registry.on_shutdown)
        self._drain_signal.close()

    async def serve(self) -> None:
        """Work until drained or stopped; if cancelled, stop.

        Raises StartupFailed, or RuntimeError if a slot ended unexpectedly.
        """
        self._loop = asyncio.get_running_loop()
        self._runner.run_in_loop = self._run_in_loop
        try:
            for called in self._startup_calls:
                if isawaitable(called):
                    await called
        except Exception as error:
            self._hooks_ran = False
            raise StartupFailed from error
        try:
            await self._run_slots()
        finally:
            if self._hooks_ran:
                self._hooks_ran = False
                await shut_down_async(self._registry.on_shutdown)

    async def _run_slots(self) -> None:
        members = self.members
        for executor in members.executors:
            members.add_slot(self._thread_slot(executor), executor)
        members.slots = [*members.slots, *self._async_slots()]
        for slot in members.slots:
            slot.start()
        if self._draining:
            self.drain()
        scaling = asyncio.create_task(self._scale_processes())
        try:
            await self._wait_ended()
        except asyncio.CancelledError:  # by ^C in asyncio.run(), or by the caller
            self.stop() if members.busy else self.drain()
            await self._wait_ended()
            raise
        finally:
            scaling.cancel()

    async def _scale_processes(self) -> None:
        """Have as many processes as are needed, where their number may change."""
        least, most = self._config.least_processes, self._config.most_processes
        if least < most and self.members.executors:
            scaler = PoolScaler(
                self.members,
                ScalingRule(least, most),
                make_executor=self._make_executor,
                make_slot=self._thread_slot,
                call_in_loop=self._call_from_thread,
                is_draining=lambda: self._draining,
            )
            await scaler.run()

    async def _wait_ended(self) -> None:
        while not self.members.all_ended:
            await self._changed.wait()
            self._changed.clear()
            if not self._draining and self.members.any_failed:
                self.stop()
                raise RuntimeError("a slot ended unexpectedly; see the log")

    def run_jobs(self, limit: int | None, deadline: float | None) -> int:
        """Run jobs of plain functions in this thread; return how many."""
        if not self.members.executors:
            raise ValueError("work() is for plain functions; async ones need run() or serve()")
        for called in self._startup_calls:
            if isawaitable(called):
                asyncio.run(as_coroutine(called))
        slot = Slot(
            self._config.servers,
            self._session_factory(is_async=False),
            self.members.executors[0],
            on_change=lambda: None,
            on_answer=lambda: slot.drain() if slot.counters.total == limit else None,
            server_log=self._server_log,
        )
        self.members.slots = [slot]
        self._runner.interruptible = True
        try:
            slot.run(deadline=deadline, burst=limit is None and deadline is None)
        except KeyboardInterrupt:
            self.stopped = slot.busy
            raise
        return slot.counters.total

    def _thread_slot(self, executor: JobExecutor) -> Slot:
        return Slot(
            self._config.servers,
            self._session_factory(is_async=False),
            executor,
            on_change=partial(self._call_from_thread, self._note_change),
            on_answer=partial(self._count_answer, partial(self._call_from_thread, self.drain)),
            server_log=self._server_log,
        )

    def _async_slots(self) -> Iterator[AsyncSlot]:
        if any(spec.is_async for spec in self._registry.functions.values()):
            for _ in range(self._config.concurrency):
                yield AsyncSlot(
                    self._config.servers,
                    self._session_factory(is_async=True),
                    self._run_async_job,
                    on_change=self._note_change,
                    on_answer=partial(self._count_answer, self.drain),
                    server_log=self._server_log,
                )

    def _note_change(self) -> None:
        self._changed.set()
        if self.members.is_ready:
            self._ready.set()

    def _call_from_thread(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed: this thread was abandoned with its job

    def _session_factory(self, *, is_async: bool) -> Callable[[], WorkerSession]:
        functions = [
            name for name, spec in self._registry.functions.items() if spec.is_async == is_async
        ]
        # Not earlier: the pid of a worker that takes over changes while it starts.
        client_id = self._config.client_id or f"{socket.gethostname()}:{os.getpid()}"
        return partial(
            WorkerSession,
            functions,
            add_labels(client_id),
            limits=self._registry.server_limits(),
            reducers=self._config.reducers,
            max_packet=self._config.max_packet,
        )

    async def _run_async_job(self, assignment: Assignment, connection: AioConnection) -> Answer:
        began = monotonic()
        send = partial(connection.send_update, assignment.handle)
        job = self._runner.make_job(assignment, connection.server, send)
        try:
            if assignment.too_large:
                answer = self._runner.refuse_oversized(job)
            else:
                answer = await self._runner.run_async(
                    job, connection.wait_writable, self._wait_for_drain
                )
        except Exception as error:
            answer = worker_error(job, error)
        return await self._runner.report_outcome_async(job, answer, began)

    async def _wait_for_drain(self, pause: float) -> bool:
        try:
            async with asyncio.timeout(pause):
                return await self._drain_event.wait()
        except TimeoutError:
            return False

    def _run_in_loop(self, call: Coroutine[Any, Any, object]) -> object:
        """Run ``call`` in the event loop; called in a slot's thread."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def _count_answer(self, drain: Callable[[], object]) -> None:
        """Drain after the last of max_jobs, before the next job is asked for."""
        most = self._config.max_jobs
        if most is not None and not self._draining and self.members.counters.total >= most:
            self._draining = True
            for slot in self.members.slots:
                if isinstance(slot, Slot):
                    slot.drain()
            drain()

    def drain(self) -> None:
        """Finish the running jobs, take no others, and end. Call it in the event loop's thread."""
        self._signal_drain()
        for slot in self.members.slots:
            slot.drain()
        if self.members.busy:
            loop = asyncio.get_running_loop()
            loop.call_later(self._config.drain_timeout, self._stop_late_drain)

    def stop(self) -> None:
        """Stop now; servers give the running jobs to other workers."""
        self._signal_drain()
        self.stopped = self.stopped or self.members.busy > 0
        for slot in self.members.slots:
            slot.stop()
            if isinstance(slot, Slot):
                slot.ended = True  # a plain function cannot be stopped: its thread is abandoned
        # Not earlier: while servers can be told that a process died, its job would fail.
        for executor in self.members.executors:
            executor.kill()
        self._changed.set()

    def _signal_drain(self) -> None:
        self._draining = True
        self._drain_signal.start_drain()
        self._drain_event.set()

    def _stop_late_drain(self) -> None:
        if busy := self.members.busy:
            jobs = "1 job" if busy == 1 else f"{busy} jobs"
            _log.error("%s did not end within %g s: abandoned", jobs, self._config.drain_timeout)
            self.stop()

    @property
    def is_draining(self) -> bool:
        """Whether it takes no further jobs."""
        return self._draining

    async def wait_ready(self) -> None:
        """Wait until it has been ready."""
        await self._ready.wait()

    def status_line(self) -> str:
        """One line for humans: the numbers of jobs, slots and servers."""
        members, counters = self.members, self.members.counters
        at_work = f"{members.busy} of {len(members.slots)} at work"
        return (
            f"{'draining' if self._draining else at_work}; "
            f"{counters.done} jobs done, {counters.failed} failed; "
            f"registered with {members.registered_servers} of {self.server_count} job servers"
        )

    @property
    def server_count(self) -> int:
        """The job servers that it was given."""
        return len(self._config.servers)
