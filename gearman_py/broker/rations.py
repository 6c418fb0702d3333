"""Functions of which only some jobs are given out for the time being, as their results are large
and memory is short."""

from gearman_py.broker.functions import Functions
from gearman_py.broker.state import BrokerJob, Function, Peer


class Rations(dict[Function, int]):
    """How many jobs of a function may still be given out. ``loaded``: those with queued jobs."""

    __slots__ = ("loaded",)

    def __init__(self) -> None:
        self.loaded: set[Function] = set()


class RationedFunctions(Functions):
    """All functions. ``rations``: those of which not any number of jobs is given out.

    A rationed function is not among the ``loaded``, so nothing is slower while there are none.
    """

    def __init__(self, wakeup: int, *, function_first: bool) -> None:
        super().__init__(wakeup)
        self._function_first = function_first
        self.rations = Rations()

    def ration(self, function: Function, jobs: int, now: float) -> None:
        """Give out no more than this number of the function's jobs, until this is called again."""
        if function not in self.rations:
            self._move(function, self.rations.loaded)
        self.rations[function] = jobs
        self.choosy = True
        self.wake_several(function, jobs, now)

    def end_rations(self, now: float) -> None:
        """Give out the jobs of all functions."""
        functions = list(self.rations)
        self.rations.clear()
        self.choosy = self.closed
        for function in functions:
            self._move(function, self.loaded)
            self.wake_several(function, function.queued, now)

    def close(self) -> None:
        """Stop assigning jobs and waking workers, until `reopen`; all else goes on."""
        self.closed = self.choosy = True

    def reopen(self, now: float) -> None:
        """Assign jobs again."""
        self.closed = False
        self.choosy = bool(self.rations)
        for function in [*self.loaded, *self.rations.loaded]:
            self.wake_several(function, function.queued, now)

    def _move(self, function: Function, loaded: set[Function]) -> None:
        function.loaded.discard(function)
        function.loaded = loaded
        if function.queued:
            loaded.add(function)

    def wake_several(self, function: Function, jobs: int, now: float) -> None:
        """Wake workers for this number of the function's jobs."""
        for _ in range(min(jobs, function.queued, len(function.sleepers))):
            self.wake(function, now)

    def holds_back(self, function: Function) -> bool:
        return self.closed or self.rations.get(function, 1) <= 0

    def take_rationed(self, worker: Peer) -> BrokerJob | None:
        """Choose a job as always, but leave what is held back."""
        if self.closed:
            return None
        able = [function for function in self.candidates(worker) if function in self.loaded]
        able += [
            function
            for function in self.rations.loaded
            if self.rations[function] > 0 and function in worker.turns
        ]
        if not able:
            return None
        turns = worker.turns
        if self._function_first:
            chosen = min(able, key=turns.__getitem__)
        else:
            chosen = min(able, key=lambda function: (function.first_priority, turns[function]))
        if chosen in self.rations:
            self.rations[chosen] -= 1
        return chosen.pop(chosen.first_priority)
