"""All slots of a running worker: how they begin, what they have done, how they end."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable, iscoroutine
from time import monotonic
from typing import Any, TypedDict

from gearman_py.net.servers import Server
from gearman_py.worker.aio_connection import Connection
from gearman_py.worker.async_slot import AsyncSlot
from gearman_py.worker.drain_signal import Leaving
from gearman_py.worker.executor import Performer
from gearman_py.worker.fork_server import Nursery
from gearman_py.worker.function_spec import seconds, whole, word
from gearman_py.worker.hooks import awaited, shut_down, shut_down_async
from gearman_py.worker.registry import Registry
from gearman_py.worker.session import Answer, Assignment, Session
from gearman_py.worker.slot import Slot

_log = logging.getLogger("gearman_py.worker")

# Seconds without a step forward after which a slot that has no job in hand is stuck.
_STUCK = 60.0


class CannotBegin(Exception):
    """An on_startup function raised its cause."""


class Settings(TypedDict, total=False):
    """What Worker() may be told of its slots; see there."""

    client_id: str
    concurrency: int
    processes: int
    drain_timeout: float
    max_jobs: int | None
    max_jobs_per_child: int | None
    max_memory_per_child: int | None
    max_packet: int
    reducers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a worker was told of its slots. Raises ValueError for what makes no sense."""

    servers: list[Server]
    client_id: str
    concurrency: int
    processes: int
    drain_timeout: float
    max_jobs: int | None
    max_jobs_per_child: int | None
    max_memory_per_child: int | None
    max_packet: int
    reducers: bool

    def __post_init__(self) -> None:
        word("client_id", self.client_id)
        seconds("drain_timeout", self.drain_timeout, zero=True)
        whole("concurrency", self.concurrency, 1)
        whole("processes", self.processes, 0)
        whole("max_packet", self.max_packet, 1, 2**32 - 1)
        for name in ("max_jobs", "max_jobs_per_child", "max_memory_per_child"):
            if (most := getattr(self, name)) is not None:
                whole(name, most, 1)


class Crew:
    """Made when the worker begins; ``serve`` lasts until it has drained or was stopped."""

    def __init__(self, plan: Plan, registry: Registry) -> None:
        self._plan = plan
        self._registry = registry
        self._nursery: Nursery | None = None
        self._performers: list[Performer] = []
        self._slots: list[Slot | AsyncSlot] = []
        self._changed = asyncio.Event()
        self._draining = False
        self._leaving = Leaving()
        self._left = asyncio.Event()  # the same, in the event loop
        self._hooked = False  # on_startup has run in this process
        self._starting: list[object] = []  # what its functions returned
        self.stopped = False  # with a job in hand

    def open(self) -> None:
        """Start what must be there before the first job: processes, on_startup functions.

        Call it before there are threads. Raises ValueError for what does not go together, Died,
        or CannotBegin.
        """
        plan, declared = self._plan, self._registry.declared.values()
        plain = [one for one in declared if not one.awaits]
        if plan.processes and plan.concurrency > 1 and len(plain) == len(declared):
            raise ValueError(
                f"concurrency={plan.concurrency} is for async functions where there are processes, "
                f"and none is async: processes={plan.processes} jobs run at a time"
            )
        self._registry.max_packet = plan.max_packet
        self._registry.rest = self._leaving.wait
        limited = self._registry.timeout or any(one.timeout for one in plain)
        if plain and (plan.processes or limited):
            self._nursery = Nursery(self._registry, self._leaving)
        if not plan.processes or len(plain) < len(declared):
            try:
                for hook in self._registry.on_startup:
                    self._starting.append(hook())
            except Exception as error:
                raise CannotBegin from error
            self._hooked = True
        if plain:
            self._performers = [self._performer() for _ in range(self._threads)]
        for performer in self._performers:
            performer.prepare()

    def close(self) -> None:
        """End what open() has started; after serve()."""
        for called in self._starting:
            if iscoroutine(called):
                called.close()  # of no effect once it has been awaited
        for performer in self._performers:
            performer.kill() if self.stopped else performer.close()
        if self._nursery is not None:
            self._nursery.close()
        if self._hooked:
            shut_down(self._registry.on_shutdown)
        if not any(slot.busy for slot in self._slots if isinstance(slot, Slot)):
            self._leaving.close()  # else a job that was left behind may rest

    @property
    def _threads(self) -> int:
        return self._plan.processes or self._plan.concurrency

    def _performer(self) -> Performer:
        return Performer(
            self._registry,
            self._nursery,
            all_in_process=self._plan.processes > 0,
            max_jobs=self._plan.max_jobs_per_child,
            max_memory=self._plan.max_memory_per_child,
            leaving=lambda: self._draining,
        )

    async def serve(self) -> None:
        """Work until drained or stopped. Raises CannotBegin, or RuntimeError when a slot ended by
        itself."""
        self._loop = asyncio.get_running_loop()
        self._registry.run_async = self._run_async
        try:
            for called in self._starting:
                if isawaitable(called):
                    await called
        except Exception as error:
            self._hooked = False
            raise CannotBegin from error
        try:
            await self._serve()
        finally:
            if self._hooked:
                self._hooked = False
                await shut_down_async(self._registry.on_shutdown)

    async def _serve(self) -> None:
        self._slots = [*self._thread_slots(), *self._async_slots()]
        for slot in self._slots:
            slot.start()
        if self._draining:
            self.drain()
        try:
            await self._until_ended()
        except asyncio.CancelledError:  # by ^C in asyncio.run(), or by the caller
            self.stop() if self.busy else self.drain()
            await self._until_ended()
            raise

    async def _until_ended(self) -> None:
        while not all(slot.ended for slot in self._slots):
            await self._changed.wait()
            self._changed.clear()
            if not self._draining and any(slot.ended for slot in self._slots):
                self.stop()
                raise RuntimeError("a slot ended by itself; see the log")

    def work(self, limit: int | None, deadline: float | None) -> int:
        """Do jobs of plain functions in this thread; how many."""
        if not self._performers:
            raise ValueError("work() is for plain functions; async ones need run() or serve()")
        for called in self._starting:
            if isawaitable(called):
                asyncio.run(awaited(called))
        slot = Slot(
            self._plan.servers,
            self._session(awaiting=False),
            self._performers[0],
            on_change=lambda: None,
            on_answer=lambda: slot.drain() if slot.tally.total == limit else None,
        )
        self._slots = [slot]
        self._registry.interruptible = True
        try:
            slot.run(deadline=deadline, burst=limit is None and deadline is None)
        except KeyboardInterrupt:
            self.stopped = slot.busy
            raise
        finally:
            self._registry.interruptible = False
        return slot.tally.total

    def _thread_slots(self) -> Iterator[Slot]:
        for performer in self._performers:
            yield Slot(
                self._plan.servers,
                self._session(awaiting=False),
                performer,
                on_change=partial(self._from_thread, self._changed.set),
                on_answer=partial(self._count, partial(self._from_thread, self.drain)),
            )

    def _async_slots(self) -> Iterator[AsyncSlot]:
        if any(one.awaits for one in self._registry.declared.values()):
            for _ in range(self._plan.concurrency):
                yield AsyncSlot(
                    self._plan.servers,
                    self._session(awaiting=True),
                    self._perform,
                    on_change=self._changed.set,
                    on_answer=partial(self._count, self.drain),
                )

    def _from_thread(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed: this thread was left behind with its job

    def _session(self, *, awaiting: bool) -> Callable[[], Session]:
        functions = [
            name for name, one in self._registry.declared.items() if one.awaits == awaiting
        ]
        # Only now: a worker that takes over has another pid than when it was made.
        client_id = self._plan.client_id or f"{socket.gethostname()}:{os.getpid()}"
        return partial(
            Session,
            functions,
            client_id,
            limits=self._registry.server_limits(),
            reducers=self._plan.reducers,
            max_packet=self._plan.max_packet,
        )

    async def _perform(self, assignment: Assignment, connection: Connection) -> Answer:
        began = monotonic()
        send = partial(connection.send, assignment.handle)
        job = self._registry.job(assignment, connection.server, send)
        try:
            if assignment.too_large:
                answer = self._registry.too_large(job)
            else:
                answer = await self._registry.perform_async(job, connection.room, self._rest)
        except Exception as error:
            answer = self._registry.broken(job, error)
        return await self._registry.conclude_async(job, answer, began)

    async def _rest(self, pause: float) -> bool:
        try:
            async with asyncio.timeout(pause):
                return await self._left.wait()
        except TimeoutError:
            return False

    def _run_async(self, call: Coroutine[Any, Any, object]) -> object:
        """Run it in the event loop; from a slot's thread."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def _count(self, drain: Callable[[], object]) -> None:
        """A job was answered; leave after the last of max_jobs, before the next is asked for."""
        most = self._plan.max_jobs
        if most is not None and not self._draining and self.answered >= most:
            self._draining = True
            for slot in self._slots:
                if isinstance(slot, Slot):
                    slot.drain()
            drain()

    def drain(self) -> None:
        """Finish the jobs in hand, take no others, leave. Call it in the event loop's thread."""
        self._leave()
        for slot in self._slots:
            slot.drain()
        if self.busy:
            loop = asyncio.get_running_loop()
            loop.call_later(self._plan.drain_timeout, self._drained_too_long)

    def stop(self) -> None:
        """Leave now; jobs in hand are left to the servers to give to others."""
        self._leave()
        self.stopped = self.stopped or self.busy > 0
        for slot in self._slots:
            slot.stop()
            if isinstance(slot, Slot):
                slot.ended = True  # a plain function cannot be stopped: its thread is left behind
        # Only now: a death that a server could still be told of would fail the job.
        for performer in self._performers:
            performer.kill()
        self._changed.set()

    def _leave(self) -> None:
        self._draining = True
        self._leaving.begin()
        self._left.set()

    def _drained_too_long(self) -> None:
        if self.busy:
            limit = self._plan.drain_timeout
            _log.error("%d jobs did not end within %g s: left", self.busy, limit)
            self.stop()

    @property
    def draining(self) -> bool:
        """Whether it takes no more jobs."""
        return self._draining

    @property
    def busy(self) -> int:
        """The slots with a job in hand, or with one that may be on its way."""
        return sum(slot.busy for slot in self._slots)

    @property
    def ready(self) -> bool:
        """Whether every slot is known to a server."""
        return bool(self._slots) and all(slot.registered for slot in self._slots)

    @property
    def well(self) -> bool:
        """Whether every slot goes on, or does a job."""
        limit = monotonic() - _STUCK
        return all(slot.busy or slot.progress > limit for slot in self._slots)

    async def until_ready(self) -> None:
        """Wait until it is ready."""
        while not self.ready:
            await self._changed.wait()

    def status(self) -> str:
        """One line for people: how many jobs, how many slots, how many servers."""
        done = sum(slot.tally.done for slot in self._slots)
        failed = sum(slot.tally.failed for slot in self._slots)
        known = max((slot.registered for slot in self._slots), default=0)
        state = "draining" if self._draining else f"{self.busy} of {len(self._slots)} at work"
        return (
            f"{state}; {done} jobs done, {failed} failed; "
            f"registered with {known} of {len(self._plan.servers)} job servers"
        )

    @property
    def answered(self) -> int:
        """Jobs so far, however they ended."""
        return sum(slot.tally.total for slot in self._slots)
