"""Counts a slot's jobs by how they ended."""

from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import GIVEN_BACK, Answer

_COMPLETE = Packet.WORK_COMPLETE


class JobCounters:
    """The counts of one slot; only its own thread changes them."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.given_back = 0

    def __add__(self, other: "JobCounters") -> "JobCounters":
        added = JobCounters()
        for name, count in vars(self).items():
            setattr(added, name, count + getattr(other, name))
        return added

    def count_answer(self, answer: Answer) -> None:
        """Count a job that was answered."""
        if answer.packet is _COMPLETE:
            self.done += 1
        elif answer.packet in GIVEN_BACK:
            self.given_back += 1
        else:
            self.failed += 1

    @property
    def total(self) -> int:
        """All jobs that were answered."""
        return self.done + self.failed + self.given_back
