"""Starts and ends a running worker's processes as its rule says."""

import asyncio
import logging
from collections.abc import Callable
from threading import Thread
from time import monotonic

from gearman_py.worker.backoff import Backoff
from gearman_py.worker.executor import JobExecutor
from gearman_py.worker.fork_server import ProcessDied
from gearman_py.worker.memory_group import read_memory
from gearman_py.worker.pool_members import PoolMembers
from gearman_py.worker.scaling import ScalingRule
from gearman_py.worker.sync_slot import Slot

_log = logging.getLogger("gearman_py.worker")

_LOOK_INTERVAL = 0.25  # seconds
# The share of the limit of memory up to which processes are started; the rest is for what those
# that run may still need.
MEMORY_SHARE = 0.8


class PoolScaler:
    """Changes the ``members`` in the event loop; processes start and end in threads of their own,
    whose results ``call_in_loop`` brings there."""

    def __init__(
        self,
        members: PoolMembers,
        rule: ScalingRule,
        *,
        make_executor: Callable[[], JobExecutor],
        make_slot: Callable[[JobExecutor], Slot],
        call_in_loop: Callable[[Callable[[], object]], object],
        is_draining: Callable[[], bool],
    ) -> None:
        self._members = members
        self._rule = rule
        self._make_executor = make_executor
        self._make_slot = make_slot
        self._call_in_loop = call_in_loop
        self._is_draining = is_draining
        self._starting = 0
        self._backoff = Backoff(1.0, 60.0)
        self._retry_at = 0.0  # after a process that could not be started
        self._was_short = False

    async def run(self) -> None:
        """Look at the slots and change them, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            self._remove_ended()
            if not self._starting:
                self._follow_rule()

    def _follow_rule(self) -> None:
        members = self._members
        slots = [s for s in members.slots if isinstance(s, Slot) and s not in members.leaving]
        busy = sum(slot.busy for slot in slots)
        memory = read_memory()
        size = max((each.resident_memory for each in members.executors), default=0)
        fitting = int(memory.limit * MEMORY_SHARE - memory.used) // max(size, 1)
        change = self._rule.decide(monotonic(), len(slots), len(slots) - busy, fitting)
        if self._rule.lacks_memory and not self._was_short:
            _log.warning(
                "no more than %d processes: %d of %d MiB of memory are used, and one takes %d MiB",
                *(len(slots), memory.used >> 20, memory.limit >> 20, size >> 20),
            )
        self._was_short = self._rule.lacks_memory
        if change > 0 and monotonic() >= self._retry_at:
            _log.info("all %d processes have jobs: starting %d more", len(slots), change)
            for _ in range(change):
                self._start_process()
        elif change < 0:
            _log.info("%d of %d processes are not needed: they end", -change, len(slots))
            # Free ones first, the youngest first; one that has a job finishes it.
            slots.reverse()
            for slot in sorted(slots, key=lambda slot: slot.busy)[:-change]:
                members.leaving.add(slot)
                slot.drain()

    def _start_process(self) -> None:
        executor = self._make_executor()
        self._members.executors = [*self._members.executors, executor]
        self._starting += 1
        # A daemon: a worker that is told to stop does not wait for on_startup functions.
        Thread(target=self._ensure_process, args=(executor,), daemon=True).start()

    def _ensure_process(self, executor: JobExecutor) -> None:
        problem = ""
        try:
            executor.ensure_process()
        except (ProcessDied, OSError, ValueError) as error:  # or the fork server was closed
            problem = str(error)
        self._call_in_loop(lambda: self._process_started(executor, problem))

    def _process_started(self, executor: JobExecutor, problem: str) -> None:
        self._starting -= 1
        if problem:
            self._members.remove_executor(executor)
            pause = self._backoff.next()
            self._retry_at = monotonic() + pause
            _log.error("cannot start a worker process: %s; trying again in %.1f s", problem, pause)
            return
        self._backoff.reset()
        if self._is_draining():
            return
        slot = self._make_slot(executor)
        self._members.add_slot(slot, executor)
        slot.start()

    def _remove_ended(self) -> None:
        for slot in [each for each in self._members.leaving if each.ended]:
            executor = self._members.remove_slot(slot)
            Thread(target=self._close_executor, args=(executor,), daemon=True).start()

    def _close_executor(self, executor: JobExecutor) -> None:
        executor.close(now=False)
        self._call_in_loop(lambda: self._members.remove_executor(executor))
