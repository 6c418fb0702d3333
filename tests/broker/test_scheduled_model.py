"""The model of test_model.py, with schedules beside everything else that may happen to jobs.

A run is submitted once: never twice, over restarts, reloads, a disk that fails and a lease that
ends; and never not at all, once the disk works and the jobs are the server's.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gearman_py.broker.schedule_runs import RETRY_TIME
from gearman_py.broker.schedules import LATE
from gearman_py.broker.state import NORMAL
from tests.broker.test_model import FUNCTIONS, BrokerAgainstModel, ModelJob, number
from tests.broker.test_schedules import next_run
from tests.properties import UNSHRUNK, depth

NAMES = [b"one", b"two"]
PERIODS = [1, 2, 7, 90]  # seconds


@dataclass
class ModelSchedule:
    """What the model knows of a schedule; its name is the workload of its jobs.

    ``next`` is the next run that is due, ``done`` the last one that was submitted, ``joined`` the
    last one that coalesced with a job while nothing could be stored: a restart may repeat it.
    """

    function: bytes
    unique: bytes
    period: int
    missed: str
    skip: bool
    next: float
    done: float = -inf
    joined: float = -inf
    paused: bool = False
    handle: bytes = b""

    def following(self, time: float) -> float:
        return next_run(f"*/{self.period}", "UTC", time)

    def runs(self, until: float, now: float) -> list[float]:
        """Those due at ``next`` and before ``until``, without what is not made up."""
        if self.missed == "all":
            count = round((until - self.next) / self.period)
            return [self.next + self.period * n for n in range(count)]
        due = self.next
        if self.missed == "none" and due < now - LATE:
            due = self.following(now - LATE)
        return [due] if due <= now else []


class ScheduledBrokerAgainstModel(BrokerAgainstModel):
    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[bytes, ModelSchedule] = {}
        self.disk_failed_until = -inf
        self.fresh: list[bytes] = []  # the jobs of runs, since time last went by
        self.joined: set[bytes] = set()  # jobs that a run coalesced with

    def broker_began(self) -> None:
        """What was acknowledged is there again, and no run that was done is due."""
        theirs = {schedule.name: schedule for schedule in self.broker.queues.schedules}
        assert theirs.keys() == self.schedules.keys()
        for name, schedule in self.schedules.items():
            kept = theirs[name]
            assert (kept.function, kept.unique) == (schedule.function, schedule.unique)
            assert (kept.missed, kept.skip) == (schedule.missed, schedule.skip)
            assert kept.paused == schedule.paused
            assert schedule.done < kept.next <= schedule.next
            schedule.next, schedule.handle = kept.next, kept.handle
            schedule.joined = -inf

    def settle(self) -> None:
        if self.durable and self.disk_fails:
            self.disk_failed_until = self.now
        super().settle()
        if not self.disk_fails:
            for schedule in self.schedules.values():
                schedule.done = max(schedule.done, schedule.joined)
        before = len(self.fresh)
        for name, schedule in self.schedules.items():
            self.note_runs(name, schedule)
        for handle in sorted(self.fresh[before:], key=number):
            self.jobs[handle].turn = self.next_turn()

    def tell(self, *arguments: Any) -> None:
        super().tell(*arguments)
        self.settle()  # what became due

    def note_runs(self, name: bytes, schedule: ModelSchedule) -> None:
        """What the server submitted since the last look is what was due, once."""
        queues = self.broker.queues
        theirs = queues.schedules.get(name)
        assert theirs is not None
        last, schedule.handle = schedule.handle, theirs.handle
        if theirs.next == schedule.next:
            stored = {queues.handle(job) for job in queues.jobs}
            assert theirs.handle == last or theirs.handle in stored, (
                "it names a run that was stored"
            )
            return
        assert theirs.next > schedule.next, "no run is due twice"
        assert schedule.next <= self.now, "it was due"
        assert not schedule.paused
        if schedule.missed == "none" and theirs.next <= self.now:
            schedule.next = theirs.next  # it was late, and what it would run could not be stored
            return
        runs = schedule.runs(theirs.next, self.now)
        assert theirs.next <= schedule.following(self.now), "none is left out"
        jobs = {queues.handle(job): job for job in queues.jobs}
        new = [
            handle
            for handle, job in jobs.items()
            if handle not in self.jobs and job.workload == name
        ]
        same = [
            handle
            for handle, job in jobs.items()
            if schedule.unique and (job.function.name, job.unique) == schedule_key(schedule)
        ]
        left_out = schedule.skip and last in jobs
        if left_out:
            assert not new
        elif schedule.unique:
            assert len(new) <= bool(runs)
            assert len(same) <= 1, "it coalesces"
            assert same or not runs
        else:
            assert len(new) == (min(len(runs), 1) if schedule.skip else len(runs))
        for handle in new:
            self.jobs[handle] = ModelJob(
                *(schedule.function, schedule.unique, name, NORMAL, self.next_turn()),
                background=True,
            )
            self.fresh.append(handle)
        if runs and not left_out:
            done = runs[-1] if not schedule.skip else runs[0]
            if self.durable and self.disk_fails:
                assert not new
                schedule.joined = done
            else:
                schedule.done = done
            assert theirs.handle in (*new, *same)
            self.joined.update(same)
            self.note_joined()
        schedule.next = theirs.next

    def note_joined(self) -> None:
        """A job that a run joined must be done."""
        for handle in self.joined & self.jobs.keys():
            self.jobs[handle].background = True
            self.joined.discard(handle)

    def submit(self, *submission: Any) -> None:
        super().submit(*submission)
        self.note_joined()  # as soon as its client has heard of it

    @rule()
    def reload(self) -> None:
        """The new process does at once what could not be stored."""
        super().reload()
        self.broker.tick(self.now, self.now)
        self.settle()

    @rule(seconds=st.one_of(st.floats(0, 3), st.just(100.0)))
    def wait(self, seconds: float) -> None:
        self.fresh.clear()
        super().wait(seconds)
        after: object = None
        while after != (after := [schedule.next for schedule in self.schedules.values()]):
            self.broker.tick(self.now, self.now)
            self.settle()
        for handle in sorted(self.fresh, key=number):  # what had waited for its time came first
            if handle in self.jobs:
                self.jobs[handle].turn = self.next_turn()
        may_wait = self.now <= self.disk_failed_until + RETRY_TIME
        if self.withheld is None and not may_wait:
            for schedule in self.schedules.values():
                assert schedule.paused or schedule.next > self.now, "none is forgotten"

    works = precondition(lambda self: not (self.durable and self.disk_fails))
    some = precondition(lambda self: self.schedules and not (self.durable and self.disk_fails))
    name = st.sampled_from(NAMES)

    @works
    @rule(
        name=name,
        function=st.sampled_from(FUNCTIONS),
        unique=st.sampled_from([b"", b"u", b"v:1"]),
        period=st.sampled_from(PERIODS),
        missed=st.sampled_from(["once", "all", "none"]),
        skip=st.booleans(),
    )
    def set_schedule(
        self, name: bytes, function: bytes, unique: bytes, period: int, missed: str, skip: bool
    ) -> None:
        facts = f"cron=*/{period} missed={missed} overlap={'skip' if skip else 'allow'}".encode()
        command = b"schedule set %b function=%b unique=%b " % (name, function, unique)
        new = ModelSchedule(function, unique, period, missed, skip, next=0)
        new.next = new.following(self.now)
        if old := self.schedules.get(name):
            new.paused, new.handle = old.paused, old.handle
        self.schedules[name] = new
        assert self.answer(command + b"workload=%b " % name + facts) == b"OK\r\n"

    @some
    @rule(data=st.data(), what=st.sampled_from([b"pause", b"resume", b"delete"]))
    def change_schedule(self, data: st.DataObject, what: bytes) -> None:
        name = data.draw(st.sampled_from(sorted(self.schedules)))
        schedule = self.schedules[name]
        if what == b"delete":
            del self.schedules[name]
        schedule.paused = what == b"pause"
        if what == b"resume":
            schedule.next = schedule.following(self.now)
        assert self.answer(b"schedule %b %b" % (what, name)) == b"OK\r\n"

    @some
    @rule(data=st.data())
    def run_schedule_now(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.schedules)))
        schedule = self.schedules[name]
        answer = self.answer(b"schedule run " + name)
        assert answer.startswith(b"OK "), answer
        schedule.handle = handle = answer.split()[1]
        if handle not in self.jobs:
            self.jobs[handle] = ModelJob(
                *(schedule.function, schedule.unique, name, NORMAL, self.next_turn())
            )
        self.jobs[handle].background = True

    @works
    @rule(
        name=name,
        function=st.sampled_from(FUNCTIONS),
        missed=st.sampled_from(["once", "all", "none"]),
        skip=st.booleans(),
        then=st.sampled_from(["", "restart", "reload", "disk fails", "lease"]),
    )
    def schedules_run(
        self, name: bytes, function: bytes, missed: str, skip: bool, then: str
    ) -> None:
        """Amid what may happen to a server; few histories would have that otherwise."""
        self.set_schedule(name, function, b"", 1, missed, skip)
        if then == "disk fails" and self.durable:
            self.disk_fails_or_works_again()
        elif then == "lease" and self.durable:
            self.lease_ends_or_begins_again()
        self.wait(2.5)
        if then == "reload":
            self.reload()
        elif then == "restart" and self.durable:
            self.restart()
        elif then == "lease" and self.durable:
            self.lease_ends_or_begins_again()
        self.wait(6.0)


def schedule_key(schedule: ModelSchedule) -> tuple[bytes, bytes]:
    return schedule.function, schedule.unique


TestScheduledBrokerAgainstModel = ScheduledBrokerAgainstModel.TestCase
TestScheduledBrokerAgainstModel.settings = settings(
    max_examples=depth(340), stateful_step_count=60, deadline=None, phases=UNSHRUNK
)
