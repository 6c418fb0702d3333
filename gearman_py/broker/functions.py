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

# A worker that was woken but never grabs (hung, or its network gone) must not keep a job
# from the others that sleep: after this many seconds the next one is woken.
WAKE_AGAIN = 1.0
# A worker of at most this many functions leaves their sleepers when it wakes. One of more stays,
# awake: its work is not to grow with its functions.
FEW = 16
WORTH_COPYING = 4096


class Functions:
    """All functions by name. ``loaded``: those that have queued jobs.

    What a packet costs does not grow with the functions that there are, or that its worker can do.
    """

    def __init__(self, wakeup: int) -> None:
        self._wakeup = wakeup
        self.closed = False  # no worker is woken
        self.full = False  # no new jobs are taken
        self.functions: dict[bytes, Function] = {}
        self.loaded: set[Function] = set()
        self.counts = BrokerCounts()
        self.next_event = inf
        self.turn = 0  # grows: of the function that was served last
        self._unused: OrderedDict[Function, None] = OrderedDict()  # and some used again since
        self._unserved: dict[Function, float] = {}  # jobs queued while workers slept: when
        # Workers that are gone: whether it was woken, and functions it is still listed at.
        self._leaving: deque[tuple[Peer, bool, list[Function]]] = deque()
        self._most_functions = 0  # since the dict was copied last

    def function(self, name: bytes) -> Function:
        """The function of this name, made on first mention."""
        function = self.functions.get(name)
        if function is None:
            function = Function(name, self.loaded, self.counts.find(name))
            self.functions[name] = function
            self.disuse(function)
        return function

    def forget_function(self, function: Function) -> None:
        """An unused function is listed no longer; what was counted of it stays."""
        del self.functions[function.name]
        self.counts.forget(function.counts)

    @property
    def crowded(self) -> bool:
        """Whether no function is taken that is not known already."""
        return self.full or len(self.functions) >= MAX_FUNCTIONS

    def refuses(self, name: bytes) -> bool:
        """Whether a function of this name would be one too many."""
        return self.crowded and name not in self.functions

    def disuse(self, function: Function) -> None:
        """Perhaps nothing uses a function any longer; of such only the latest are kept."""
        self._unused[function] = None
        self._unused.move_to_end(function)
        while len(self._unused) > MAX_UNUSED_FUNCTIONS:
            oldest, _ = self._unused.popitem(last=False)
            if oldest.unused and self.functions.get(oldest.name) is oldest:
                self._most_functions = max(self._most_functions, len(self.functions))
                self.forget_function(oldest)
                if self._most_functions > WORTH_COPYING and (
                    len(self.functions) * 4 < self._most_functions
                ):  # a dict never shrinks by itself
                    self.functions = dict(self.functions)
                    self._most_functions = len(self.functions)

    def candidates(self, worker: Peer) -> Iterable[Function]:
        """The functions that may have a job for the worker: the fewer of what there is."""
        turns = worker.turns
        if len(turns) <= len(self.loaded):
            return turns
        return [function for function in self.loaded if function in turns]

    def sleep(self, worker: Peer) -> None:
        """The worker asks to be woken; at once when there is a job for it already."""
        worker.woken = False
        if (
            self.loaded
            and not self.closed
            and any(each in self.loaded for each in self.candidates(worker))
        ):
            self._wake_worker(worker)
            return
        worker.sleeping = True
        for function in worker.absent:
            function.sleepers[worker] = None
        worker.absent.clear()

    def awake(self, worker: Peer) -> None:
        """The worker speaks for itself again: it is grabbing, or gone."""
        worker.woken = False
        if worker.sleeping:
            worker.sleeping = False
            absent = worker.absent
            for function in islice(worker.turns, FEW):
                function.sleepers.pop(worker, None)
                absent[function] = None

    def wake(self, function: Function, now: float) -> None:
        """Wake the workers that have slept longest for this function."""
        if not function.sleepers or self.closed:
            return
        sleepers, most = function.sleepers, self._wakeup or len(function.sleepers)
        looked_at = woken = 0
        for worker in sleepers:
            looked_at += 1
            if worker.sleeping:
                woken += 1
                if woken == most:
                    break
        for worker in list(islice(sleepers, looked_at)):
            if worker.sleeping:
                self._wake_worker(worker)
            sleepers.pop(worker, None)
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
        """The worker can do this function, each job within ``limit`` seconds."""
        if function not in worker.abilities:
            self.turn += 1
            worker.turns[function] = -self.turn  # the last registered is served first
            function.workers[worker] = None
            if worker.sleeping:
                function.sleepers[worker] = None
                if function.queued:
                    self.wake(function, now)
            else:
                worker.absent[function] = None
        worker.abilities[function] = limit

    def unregister(self, worker: Peer, function: Function) -> None:
        """The worker no longer can."""
        if function in worker.abilities:
            del worker.abilities[function]
            del worker.turns[function]
            del function.workers[worker]
            function.sleepers.pop(worker, None)
            worker.absent.pop(function, None)
            if not function.workers:
                self.disuse(function)

    def remove_worker(self, worker: Peer, now: float) -> None:
        """The connection is gone; if it had been woken for a job, another worker is woken."""
        self._leaving.append((worker, worker.woken, list(worker.turns)))
        self.awake(worker)
        self.unregister_gone(now)

    def unregister_gone(self, now: float) -> None:
        """Unregister a slice of the functions of workers that are gone."""
        for _ in range(SLICE):
            while self._leaving and not self._leaving[0][2]:
                self._leaving.popleft()
            if not self._leaving:
                return
            worker, woken, functions = self._leaving[0]
            function = functions.pop()
            self.unregister(worker, function)
            if woken and function.queued:
                self.wake(function, now)
        self.next_event = -inf

    def wake_again(self, now: float) -> None:
        """Wake the next worker where one did not come."""
        for function, since in list(islice(self._unserved.items(), SLICE)):
            if now - since < WAKE_AGAIN:
                break  # the oldest is the first
            del self._unserved[function]
            if function.queued:
                self.wake(function, now)
