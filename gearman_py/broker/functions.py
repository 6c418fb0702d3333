"""The functions, the workers that can do them, and the one place that wakes workers."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from math import inf

from gearman_py.broker.counts import BrokerCounts
from gearman_py.broker.limits import MAX_FUNCTIONS, MAX_UNUSED_FUNCTIONS, SLICE
from gearman_py.broker.state import Function, Peer
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import Packet

NOOP = response(Packet.NOOP)

# Seconds after which the next worker is woken if one was woken and did not ask for a job: it may
# hang, or its network may be down.
WAKE_AGAIN = 1.0
# A worker with at most this many functions is removed from their sleepers when it wakes. One with
# more stays among them, awake: the cost of a packet must not grow with its functions.
FEW = 16


class Functions:
    """All functions by name. ``loaded``: those that have queued jobs.

    The cost of a packet does not grow with the number of functions, in all or of its worker.
    """

    __slots__ = (
        *("_leaving", "_unserved", "_unused", "_wakeup", "choosy", "closed"),
        *("counts", "full", "functions", "loaded", "next_event", "turn"),
    )

    def __init__(self, wakeup: int) -> None:
        self._wakeup = wakeup
        self.closed = False  # workers are not woken
        self.choosy = False  # not for all functions are workers woken
        self.full = False  # new jobs are refused
        self.functions: dict[bytes, Function] = {}
        self.loaded: set[Function] = set()
        self.counts = BrokerCounts()
        self.next_event = inf
        self.turn = 0  # increases: the turn of the function that was served last
        self._unused: OrderedDict[Function, None] = OrderedDict()  # or used again since
        self._unserved: dict[Function, float] = {}  # when jobs were queued while workers slept
        # Workers that are gone: whether they were woken, and the functions that still list them.
        self._leaving: deque[tuple[Peer, bool, list[Function]]] = deque()

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return sum(function.running for function in self.functions.values())

    def function(self, name: bytes) -> Function:
        """The function with this name, created if missing."""
        function = self.functions.get(name)
        if function is None:
            function = Function(name, self.loaded, self.counts.find(name))
            self.functions[name] = function
            self.disuse(function)
        return function

    def _disuse_unserved(self, function: Function) -> None:
        """Its last worker is gone; one that is of one worker alone, by its name, goes with it."""
        if b"@" in function.name and function.unused:
            self.forget_function(function)
        else:
            self.disuse(function)

    def forget_function(self, function: Function) -> None:
        """Stop listing an unused function; what was counted of it stays."""
        del self.functions[function.name]
        self.counts.forget(function.counts)

    def refuses(self, name: bytes) -> bytes:
        """Why a function with this name is refused; empty: it is not."""
        if name in self.functions:
            return b""
        if self.full:
            return b"The job server has no memory left for new functions"
        if len(self.functions) >= MAX_FUNCTIONS:
            return b"The job server takes no more functions"
        return b""

    def disuse(self, function: Function) -> None:
        """Check whether a function is still used; of the unused ones, keep the latest."""
        self._unused[function] = None
        self._unused.move_to_end(function)
        while len(self._unused) > MAX_UNUSED_FUNCTIONS:
            oldest, _ = self._unused.popitem(last=False)
            if oldest.unused and self.functions.get(oldest.name) is oldest:
                self.forget_function(oldest)

    def candidates(self, worker: Peer) -> Iterable[Function]:
        """The functions that may have a job for the worker: its own, or all with jobs if fewer."""
        turns = worker.turns
        if len(turns) <= len(self.loaded):
            return turns
        return [function for function in self.loaded if function in turns]

    def sleep(self, worker: Peer) -> None:
        """The worker asks to be woken; wake it at once if there is a job for it."""
        worker.woken = False
        if not self.closed and self.has_job(worker):
            self._wake_worker(worker)
            return
        worker.sleeping = True
        for function in worker.absent:
            function.sleepers[worker] = None
        worker.absent.clear()

    def has_job(self, worker: Peer) -> bool:
        """Whether the worker would be given a job."""
        loaded = self.loaded
        return bool(loaded) and any(each in loaded for each in self.candidates(worker))

    def awake(self, worker: Peer) -> None:
        """The worker is awake: it asks for a job, or is gone."""
        worker.woken = False
        if worker.sleeping:
            worker.sleeping = False
            absent = worker.absent
            for function in islice(worker.turns, FEW):
                function.sleepers.pop(worker, None)
                absent[function] = None

    def holds_back(self, function: Function) -> bool:
        """Whether no job of this function is given out just now."""
        return self.closed

    def wake(self, function: Function, now: float) -> None:
        """Wake the workers that have slept longest for this function."""
        if not function.sleepers or (self.choosy and self.holds_back(function)):
            return
        sleepers, most = function.sleepers, self._wakeup or len(function.sleepers)
        looked_at = woken = 0
        for worker in sleepers:
            looked_at += 1
            if worker.sleeping and (not self._leaving or function in worker.abilities):
                woken += 1
                if woken == most:
                    break
        for worker in list(islice(sleepers, looked_at)):
            sleepers.pop(worker, None)
            if self._leaving and function not in worker.abilities:
                continue
            if worker.sleeping:
                self._wake_worker(worker)
            worker.absent[function] = None
        if not woken:
            return
        if function not in self._unserved:
            self._unserved[function] = now
            if self.next_event > now + WAKE_AGAIN:
                self.next_event = now + WAKE_AGAIN

    def _wake_worker(self, worker: Peer) -> None:
        self.awake(worker)
        worker.woken = True
        self.counts.wakeups += 1
        worker.send(NOOP)

    def register(self, worker: Peer, function: Function, limit: float | None, now: float) -> None:
        """Register the function for the worker, with a time limit of ``limit`` seconds."""
        if function not in worker.abilities:
            self.turn += 1
            # The one registered last is served first, unless it was served before.
            worker.turns[function] = worker.former_turns.pop(function, -self.turn)
            function.workers[worker] = None
            if worker.sleeping:
                function.sleepers[worker] = None
                if function.queued:
                    self.wake(function, now)
            else:
                worker.absent[function] = None
        worker.abilities[function] = limit

    def unregister(self, worker: Peer, function: Function) -> None:
        """Unregister the function for the worker."""
        if function in worker.abilities:
            del worker.abilities[function]
            worker.remember_turns({function: worker.turns.pop(function)})
            del function.workers[worker]
            function.sleepers.pop(worker, None)
            worker.absent.pop(function, None)
            if not function.workers:
                self._disuse_unserved(function)

    def remove_worker(self, worker: Peer, now: float) -> None:
        """The connection is gone; if it had been woken for a job, another worker is woken."""
        woken = worker.woken
        self.awake(worker)
        self._forget_abilities(worker, woken=woken)
        self.unregister_gone(now)

    def reset_abilities(self, worker: Peer, now: float) -> None:
        """The worker can do nothing any longer, until it registers functions again."""
        self._forget_abilities(worker, woken=False)
        self.unregister_gone(now)

    def _forget_abilities(self, worker: Peer, *, woken: bool) -> None:
        worker.remember_turns(worker.turns)
        self._leaving.append((worker, woken, list(worker.turns)))
        worker.abilities, worker.turns, worker.absent = {}, {}, {}

    def unregister_gone(self, now: float) -> None:
        """Unregister workers at functions that they no longer can: a slice of these."""
        for _ in range(SLICE):
            while self._leaving and not self._leaving[0][2]:
                self._leaving.popleft()
            if not self._leaving:
                return
            worker, woken, functions = self._leaving[0]
            function = functions.pop()
            if function not in worker.abilities:  # it may have registered it again
                function.workers.pop(worker, None)
                function.sleepers.pop(worker, None)
                if not function.workers:
                    self._disuse_unserved(function)
            if woken and function.queued:
                self.wake(function, now)
        self.next_event = -inf

    def next_wakeups(self, now: float) -> list[float]:
        """When `wake_again` and `unregister_gone` are to be called next."""
        unserved = [since + WAKE_AGAIN for since in islice(self._unserved.values(), 1)]
        return [now, *unserved] if self._leaving else unserved

    def wake_again(self, now: float) -> None:
        """Wake the next worker where one did not come."""
        for function, since in list(islice(self._unserved.items(), SLICE)):
            if now - since < WAKE_AGAIN:
                break  # the oldest comes first
            del self._unserved[function]
            if function.queued:
                self.wake(function, now)
