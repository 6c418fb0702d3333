"""How many jobs a slot has answered, and how."""

from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import Answer


class Tally:
    """Counts of one slot, written by its own thread alone."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.given_back = 0

    def count(self, answer: Answer) -> None:
        """A job has been answered so."""
        if answer.packet is Packet.WORK_COMPLETE:
            self.done += 1
        elif answer.packet is Packet.CANT_DO:
            self.given_back += 1
        else:
            self.failed += 1

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.failed + self.given_back
