"""What a broker counts: events and durations, since the start.

What happens to each job is noted on objects that it touches anyway; all else is rare.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from gearman_py.broker.limits import MAX_TOLD_APART
from gearman_py.protocol.packets import FAULT, MESSAGE_NUMBERS, TEXT, Packet
from gearman_py.protocol.text import OTHERS

# Seconds: upper bounds of how long jobs wait and run.
JOB_BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1800.0),
)

COALESCED = "coalesced"  # submissions that joined a live job
RESTORED = "restored"  # jobs of the previous run
ADOPTED = "adopted"  # jobs of another server
RETRIED = "retried"  # failed jobs that an operator queued again
TIMED_OUT = "timed out"  # runs
INTERRUPTED = "interrupted"  # runs that ended without a report
LATE = "late"  # reports of runs that had timed out
# Why the job of a run was queued again.
DISCONNECTED = "disconnected"
TIMEOUT = "timeout"
UNREGISTERED = "unregistered"
POSTPONED = "postponed"  # by its worker, which has reported so
# How a job ended that was not completed.
FAILED = "fail"
EXCEPTION = "exception"
ATTEMPTS = "attempts"  # it was attempted as often as is allowed
CANCELLED = "cancelled"
MOVED = "moved"  # to another server
DROPPED = "dropped"  # its clients are gone
NOT_STORED = "store"  # also why a submission was refused
# Why a submission was refused.
TOO_LARGE = "too_large"
INVALID = "invalid"
FUNCTIONS_FULL = "functions"
QUEUE_FULL = "queue_full"
MEMORY = "memory"
STOPPING = "stopping"


class Tally(dict[str, int]):
    """How often each of some events happened; 0 for one that did not."""

    __slots__ = ()

    def __missing__(self, event: str) -> int:
        return 0


class Durations(list[float]):
    """How long things took, in seconds: ``total`` of them took ``seconds`` in all.

    To append is all that a job has time for. `settle` does the rest for many at once: until then
    they are not among what the attributes say.
    """

    __slots__ = ("_buckets", "bounds", "seconds", "total")

    def __init__(self, bounds: Sequence[float] = JOB_BOUNDS) -> None:
        super().__init__()
        self.bounds = bounds
        self.total = 0
        self.seconds = 0.0
        self._buckets: list[int] = []

    def settle(self) -> None:
        """Count what was appended."""
        if not self:
            return
        self.sort()
        self.total += len(self)
        self.seconds += sum(self)
        within = [bisect_right(self, bound) for bound in self.bounds]
        self._buckets = [old + new for old, new in zip(self.cumulated, within, strict=True)]
        self.clear()

    @property
    def cumulated(self) -> Sequence[int]:
        """How many were at most each of ``bounds``."""
        return self._buckets or [0] * len(self.bounds)


class Counts(Tally):
    """What happened to the jobs of a function. Functions that are not told apart share one.

    ``accepted`` jobs are new ones. ``waits`` are of all runs that were started, ``runs`` of those
    that have ended. ``submitters``: of the last ones that have left, by address and client id, how
    often they have submitted and when they left.
    """

    __slots__ = ("accepted", "name", "runs", "submitters", "waits")

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self.name = name
        self.accepted = 0
        self.waits = Durations()
        self.runs = Durations()
        self.submitters: dict[tuple[str, bytes], tuple[int, float]] = {}

    def settle(self) -> None:
        """Count what was appended to the durations."""
        self.waits.settle()
        self.runs.settle()

    @property
    def completed(self) -> int:
        """Jobs that their workers reported complete."""
        ended = self.runs.total + len(self.runs) + self[LATE]
        return ended - self[FAILED] - self[EXCEPTION] - self[INTERRUPTED]

    @property
    def unused(self) -> bool:
        """Whether nothing was counted."""
        return not (self.accepted or self)


class BrokerCounts:
    """What happened in the broker: ``functions`` that are told apart, ``others`` together; sleeping
    workers woken, grabs that found no job, submissions refused by reason.

    ``packets`` that were received, by message number; the accelerator counts those that it is
    given in ``accelerated_packets``, as numbers of 64 bits.
    """

    __slots__ = (
        *("accelerated_packets", "empty_grabs", "functions", "others", "packets", "refusals"),
        "wakeups",
    )

    def __init__(self) -> None:
        self.functions: dict[bytes, Counts] = {}
        self.others = Counts(OTHERS)
        self.wakeups = self.empty_grabs = 0
        self.refusals = Tally()
        self.packets = [0] * MESSAGE_NUMBERS
        self.accelerated_packets = bytearray(8 * MESSAGE_NUMBERS)

    def received_packets(self) -> dict[str, int]:
        """How many packets were received, by name: of each type that a peer may send; ``text``
        lines; ``invalid`` ones, which no peer may send, or which were too large.
        """
        accelerated = memoryview(self.accelerated_packets).cast("Q")
        sums = [sum(pair) for pair in zip(self.packets, accelerated, strict=True)]
        found = {packet.name: sums[packet] for packet in Packet if packet.senders != "S"}
        found["text"] = sums[TEXT]
        found["invalid"] = sum(sums) - sum(found.values())
        return found

    def restore_packets(self, received: Mapping[str, int]) -> None:
        """Go on counting from what `received_packets` was before a reload."""
        numbers = {"text": TEXT, **Packet.__members__}
        for name, count in received.items():
            self.packets[numbers.get(name, FAULT)] += count

    def find(self, name: bytes) -> Counts:
        """The counts that a function is to use."""
        counts = self.functions.get(name)
        if counts is None:
            if len(self.functions) >= MAX_TOLD_APART:
                return self.others
            counts = self.functions[name] = Counts(name)
        return counts

    def forget(self, counts: Counts) -> None:
        """A function is gone. What happened to its jobs stays."""
        if counts.unused:
            self.functions.pop(counts.name, None)

    def settle(self) -> None:
        """Settle all durations."""
        for counts in (*self.functions.values(), self.others):
            counts.settle()
