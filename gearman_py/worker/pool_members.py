"""The slots of a running worker and the processes that they use, and what they have done."""

from collections import Counter
from time import monotonic

from gearman_py.worker.aio_slot import AsyncSlot
from gearman_py.worker.counters import JobCounters
from gearman_py.worker.executor import JobExecutor
from gearman_py.worker.sync_slot import Slot

# Seconds without progress after which a slot without a job counts as stuck.
_STUCK_TIMEOUT = 60.0


class PoolMembers:
    """The lists are replaced, not changed: other threads read them.

    ``leaving``: slots that take no further job as fewer are needed. What has left is counted.
    """

    def __init__(self) -> None:
        self.slots: list[Slot | AsyncSlot] = []
        self.executors: list[JobExecutor] = []
        self.leaving: set[Slot] = set()
        self.executor_of: dict[Slot, JobExecutor] = {}
        self._left = JobCounters()
        self._ended_processes = Counter[str]()

    def add_slot(self, slot: Slot, executor: JobExecutor) -> None:
        """Add a slot of plain functions."""
        self.slots = [*self.slots, slot]
        self.executor_of[slot] = executor

    def remove_slot(self, slot: Slot) -> JobExecutor:
        """It has left; return its executor."""
        self.slots = [each for each in self.slots if each is not slot]
        self.leaving.discard(slot)
        self._left += slot.counters
        return self.executor_of.pop(slot)

    def remove_executor(self, executor: JobExecutor) -> None:
        """Its process has ended."""
        self.executors = [each for each in self.executors if each is not executor]
        self._ended_processes += executor.ended_processes

    @property
    def busy(self) -> int:
        """The slots that have a job, or to which one may be on its way."""
        return sum(slot.busy for slot in self.slots)

    @property
    def all_ended(self) -> bool:
        """Whether no slot runs any more."""
        return all(slot.ended for slot in self.slots)

    @property
    def any_failed(self) -> bool:
        """Whether a slot has ended that was not told to leave."""
        return any(slot.ended and slot not in self.leaving for slot in self.slots)

    @property
    def is_ready(self) -> bool:
        """Whether every slot is registered with a server."""
        return bool(self.slots) and all(slot.registered for slot in self.slots)

    @property
    def is_healthy(self) -> bool:
        """Whether every slot makes progress, or runs a job."""
        limit = monotonic() - _STUCK_TIMEOUT
        return all(
            slot.busy or slot.last_progress > limit or slot in self.leaving for slot in self.slots
        )

    @property
    def registered_servers(self) -> int:
        """The job servers that a slot is registered with."""
        return max((slot.registered for slot in self.slots), default=0)

    @property
    def counters(self) -> JobCounters:
        """Jobs so far, by how they ended."""
        return sum((slot.counters for slot in self.slots), self._left)

    @property
    def ended_processes(self) -> Counter[str]:
        """Processes that ended unexpectedly or at a limit, by why."""
        return sum((each.ended_processes for each in self.executors), self._ended_processes)

    @property
    def resident_memory(self) -> int:
        """The memory that all processes use now, in bytes."""
        return sum(each.resident_memory for each in self.executors)
