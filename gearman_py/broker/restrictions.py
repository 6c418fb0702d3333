"""Functions whose queued jobs are not all given out for the time being.

Operators pause a function or limit how many of its jobs run at a time; the server rations the jobs
of functions with large results while memory is short.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count, islice
from math import inf

from gearman_py.broker.functions import Functions
from gearman_py.broker.key_limit_changes import set_key_limit
from gearman_py.broker.key_limits import KeyLimit
from gearman_py.broker.limits import (
    MAX_FUNCTIONS_WITH_SETTINGS,
    MAX_NAME_WITH_SETTINGS,
    SLICE,
)
from gearman_py.broker.pauses import Pause
from gearman_py.broker.rates import RateLimit
from gearman_py.broker.restriction_records import SERVER, RestrictionRecords, parse_record
from gearman_py.broker.state import BrokerJob, Function, Peer
from gearman_py.store.base import Record

# Seconds that the worker whose job of a limited function has ended may take to ask for the next
# one, before another is woken for it.
HAND_ON_TIME = 0.002
UNKNOWN = Pause()
# Jobs of a function with a new key limit that are looked at in one turn of the loop: some 2 ms.
KEY_SLICE = 200


class Restrictions:
    """The restricted ``functions``; those of them with queued jobs are ``loaded``.

    ``rations``: how many jobs of a function may still be given out while memory is short.
    ``freed``: when a job of a function with ``max_running`` or a ``key_limit`` has ended.
    ``unfinished``: what remains to be done for key limits that were set.
    ``starts``: when starts of jobs no longer count for the rate of their function, as a heap.
    ``records``: what is stored.
    ``settings``: the functions that operators limited or paused. ``paused``: the whole server is.
    ``pauses``: who paused what, by the function's name, or SERVER.
    """

    __slots__ = (
        *("freed", "functions", "loaded", "order", "paused", "pauses"),
        *("rations", "records", "settings", "starts"),
        "unfinished",
    )

    def __init__(self) -> None:
        self.functions: set[Function] = set()
        self.loaded: set[Function] = set()
        self.rations: dict[Function, int] = {}
        self.freed: dict[Function, float] = {}
        self.order = count()  # makes starts of one moment comparable
        self.starts: list[tuple[float, int, Function, RateLimit]] = []
        self.records = RestrictionRecords()
        self.settings: set[Function] = set()
        self.paused = False
        self.pauses: dict[bytes, Pause] = {}
        self.unfinished: dict[Function, Iterator[None]] = {}


class RestrictedFunctions(Functions):
    """All functions, and which of their jobs may be given out.

    A restricted function is not among the ``loaded``, so that the others cost no more than before.
    """

    __slots__ = ("_function_first", "restrictions")

    def __init__(self, wakeup: int, *, function_first: bool) -> None:
        super().__init__(wakeup)
        self._function_first = function_first
        self.restrictions = Restrictions()

    @property
    def rations(self) -> dict[Function, int]:
        """How many jobs of the rationed functions may still be given out."""
        return self.restrictions.rations

    def refuses_settings(self, name: bytes) -> bytes:
        """Why a function with this name cannot be limited or paused; empty: it can."""
        if len(name) > MAX_NAME_WITH_SETTINGS:
            return b"The name of a function that is limited or paused has at most %d bytes" % (
                MAX_NAME_WITH_SETTINGS
            )
        settings = self.restrictions.settings
        full = len(settings) >= MAX_FUNCTIONS_WITH_SETTINGS
        if full and self.functions.get(name) not in settings:
            return b"%d functions are limited or paused, and no more can be" % len(settings)
        return self.refuses(name)

    def disuse(self, function: Function) -> None:
        settings = self.restrictions.settings
        if function.has_settings:
            settings.add(function)
        else:
            settings.discard(function)
        super().disuse(function)

    def pause(self, function: Function, now: float, pause: Pause = UNKNOWN) -> None:
        """Give out no job of a function until it is resumed."""
        function.paused = True
        self.restrictions.pauses.setdefault(function.name, pause)
        self.apply_restrictions(function, now)

    def resume(self, function: Function, now: float) -> None:
        """End a pause."""
        function.paused = False
        self.restrictions.pauses.pop(function.name, None)
        self.apply_restrictions(function, now)

    def pause_server(self, pause: Pause = UNKNOWN) -> None:
        """Give out no job of any function until the server is resumed."""
        self.restrictions.paused = self.choosy = True
        self.restrictions.pauses.setdefault(SERVER, pause)

    def resume_server(self, now: float) -> None:
        """End a pause of the server; functions that are paused stay so."""
        self.restrictions.paused = False
        self.restrictions.pauses.pop(SERVER, None)
        self._wake_all_allowed(now)

    def limit_running(self, function: Function, most: int, now: float) -> None:
        """Let at most this number of a function's jobs run at a time; 0: any number."""
        function.max_running = most
        self.apply_restrictions(function, now)

    def limit_rate(self, function: Function, rate: RateLimit | None, now: float) -> None:
        """Start no more of a function's jobs than the rate allows; None: any number."""
        function.rate = rate
        self.apply_restrictions(function, now)

    def limit_per_key(
        self, function: Function, limit: KeyLimit[BrokerJob] | None, now: float
    ) -> None:
        """Let no more of a function's jobs with the same key run; None: any number."""
        running = (  # workers come and go between the steps
            job
            for worker in list(function.workers)
            for job in list(worker.running.values())
            if job.function is function
        )
        self.restrictions.unfinished[function] = set_key_limit(function, limit, running)
        self._go_on_with_limits()
        self.apply_restrictions(function, now)

    def _go_on_with_limits(self) -> Function | None:
        """Look at jobs of a function whose key limit was set; return the function."""
        unfinished = self.restrictions.unfinished
        function = next(iter(unfinished), None)
        if function is not None:
            work = unfinished.pop(function)
            if sum(1 for _ in islice(work, KEY_SLICE)) == KEY_SLICE:
                unfinished[function] = work  # after those of other functions
                self.next_event = -inf
        return function

    def restore_restrictions(self, record: Record, now: float, *, own: bool = True) -> list[int]:
        """Restrict a function as it is stored; return the numbers of records no longer needed.

        ``own``: it is of this server, which is paused if it was. Raises ValueError for a record
        that cannot be read.
        """
        stored, records = parse_record(record), self.restrictions.records
        if records.is_outdated(stored.function, record.number):
            return [record.number]
        if stored.function == SERVER and not own:
            return [record.number]
        self.restrictions.pauses.pop(stored.function, None)
        if stored.paused:
            self.restrictions.pauses[stored.function] = stored.pause
        if stored.function == SERVER:
            self.restrictions.paused = stored.paused
            self._update_choosy()
            return records.replace(SERVER, record.number, restricted=stored.restricted)
        function = self.function(stored.function)
        function.paused, function.max_running = stored.paused, stored.max_running
        function.rate = stored.rate
        self.limit_per_key(function, stored.key_limit, now)
        return records.replace(function.name, record.number, restricted=stored.restricted)

    def ration(self, function: Function, jobs: int, now: float) -> None:
        """Give out no more than this number of the function's jobs, until this is called again."""
        self.restrictions.rations[function] = jobs
        self.apply_restrictions(function, now)

    def end_rations(self, now: float) -> None:
        """Give out the jobs of rationed functions as always."""
        functions = list(self.restrictions.rations)
        self.restrictions.rations.clear()
        for function in functions:
            self.apply_restrictions(function, now)

    def close(self) -> None:
        """Stop assigning jobs and waking workers, until `reopen`; all else goes on."""
        self.closed = self.choosy = True

    def reopen(self, now: float) -> None:
        """Assign jobs again."""
        self.closed = False
        self._wake_all_allowed(now)

    def forget_function(self, function: Function) -> None:
        super().forget_function(function)
        self.restrictions.functions.discard(function)
        self.restrictions.settings.discard(function)
        self._update_choosy()

    def _update_choosy(self) -> None:
        restrictions = self.restrictions
        self.choosy = self.closed or restrictions.paused or bool(restrictions.functions)

    def apply_restrictions(self, function: Function, now: float) -> None:
        """Note that a function's restrictions have changed, and wake workers for its jobs."""
        function.loaded.discard(function)
        rationed = function in self.restrictions.rations
        function.plain = not (function.has_restrictions or rationed)
        if function.plain:
            self.restrictions.functions.discard(function)
            function.loaded = self.loaded
        else:
            self.restrictions.functions.add(function)
            function.loaded = self.restrictions.loaded
        if function.queued:
            function.loaded.add(function)
        self._update_choosy()
        self._wake_allowed(function, now)
        self.disuse(function)

    def _allowance(self, function: Function) -> int:
        """How many of a function's queued jobs may be given out now."""
        if self.closed or self.restrictions.paused or function.paused:
            return 0
        allowed = min(function.queued, self.restrictions.rations.get(function, function.queued))
        if function.max_running:
            allowed = min(allowed, function.max_running - function.running)
        if function.rate:
            allowed = min(allowed, function.rate.most - function.rate.started)
        if function.key_limit:
            allowed = min(allowed, function.key_limit.available)
        return max(allowed, 0)

    def holds_back(self, function: Function) -> bool:
        return self._allowance(function) == 0

    def _wake_allowed(self, function: Function, now: float) -> None:
        for _ in range(min(self._allowance(function), len(function.sleepers))):
            self.wake(function, now)

    def _wake_all_allowed(self, now: float) -> None:
        self._update_choosy()
        for function in [*self.loaded, *self.restrictions.loaded]:
            self._wake_allowed(function, now)

    def note_ended(self, job: BrokerJob, now: float) -> None:
        """A job of a function that is not plain has ended: another one may run.

        It is best given to the worker that has just become free, which asks for it by itself.
        """
        function = job.function
        if function.key_limit:
            function.key_limit.note_ended(job)
        elif not function.max_running:
            return
        if function.queued and function not in self.restrictions.freed:
            self.restrictions.freed[function] = now
            self.next_event = min(self.next_event, now + HAND_ON_TIME)

    def next_wakeups(self, now: float) -> list[float]:
        freed = [since + HAND_ON_TIME for since in islice(self.restrictions.freed.values(), 1)]
        expiry = [start[0] for start in self.restrictions.starts[:1]]
        unfinished = [now] if self.restrictions.unfinished else []
        return [*super().next_wakeups(now), *freed, *expiry, *unfinished]

    def wake_again(self, now: float) -> None:
        super().wake_again(now)
        limited = self._go_on_with_limits()
        if limited is not None:
            self._wake_allowed(limited, now)
        for function, since in list(islice(self.restrictions.freed.items(), SLICE)):
            if now - since < HAND_ON_TIME:
                break  # the oldest comes first
            del self.restrictions.freed[function]
            self._wake_allowed(function, now)
        self._expire_starts(now)

    def _expire_starts(self, now: float) -> None:
        """Let other jobs be started in place of those that were started a period ago."""
        starts = self.restrictions.starts
        expired: dict[Function, None] = {}
        while starts and starts[0][0] <= now and len(expired) < SLICE:
            _, _, function, rate = heappop(starts)
            if function.rate is rate:
                rate.started -= 1
                expired[function] = None
        for function in expired:
            self._wake_allowed(function, now)

    def note_start(self, function: Function, rate: RateLimit, expiry: float) -> None:
        """Count a job that was started, until ``expiry``."""
        rate.started += 1
        restrictions = self.restrictions
        heappush(restrictions.starts, (expiry, next(restrictions.order), function, rate))
        self.next_event = min(self.next_event, expiry)

    def has_job(self, worker: Peer) -> bool:
        if self.restrictions.paused:
            return False
        return super().has_job(worker) or any(map(self._allowance, self._held_for(worker)))

    def _held_for(self, worker: Peer) -> list[Function]:
        """The restricted functions with queued jobs that the worker can do."""
        turns, held = worker.turns, self.restrictions.loaded
        few, others = (turns, held) if len(turns) < len(held) else (held, turns)
        return [function for function in few if function in others]

    def take_allowed(self, worker: Peer, now: float) -> BrokerJob | None:
        """Choose a job as always, of those that may be given out."""
        if self.closed or self.restrictions.paused:
            return None
        able = [function for function in self.candidates(worker) if function in self.loaded]
        able += [function for function in self._held_for(worker) if self._allowance(function)]
        if not able:
            return None
        turns = worker.turns
        if self._function_first:
            chosen = min(able, key=turns.__getitem__)
        else:
            chosen = min(able, key=lambda function: (_next_priority(function), turns[function]))
        if chosen in self.restrictions.rations:
            self.restrictions.rations[chosen] -= 1
        if chosen.rate:
            self.note_start(chosen, chosen.rate, now + chosen.rate.period)
        return chosen.pop(_next_priority(chosen))


def _next_priority(function: Function) -> int:
    """That of the job which a function with allowed jobs gives out next."""
    return function.key_limit.first_priority if function.key_limit else function.first_priority
