"""What becomes of schedules as time passes: their runs are submitted."""

from collections.abc import Sequence
from math import inf

from gearman_py.broker.clients import accept
from gearman_py.broker.limits import SLICE
from gearman_py.broker.queues import LOOK_AGAIN
from gearman_py.broker.rules import Rules
from gearman_py.broker.schedules import (
    ALL,
    LATE,
    NONE,
    Schedule,
    make_schedule_record,
)
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import Packet
from gearman_py.store.base import lease_clock

RETRY_TIME = 5.0  # seconds until a run is submitted again that was refused


def run_due(broker: Rules, wall: float) -> None:
    """Submit the runs that are due (if they are many, a part of them), and plan the next look."""
    queues = broker.queues
    schedules = queues.schedules
    withheld = queues.closed or queues.lease_over or lease_clock() >= queues.lease
    for _ in range(0 if withheld else SLICE):
        schedule = schedules.take_due(wall)
        if schedule is None:
            break
        if queues.job(schedule.handle) in queues.changes.replies:
            continue  # the last run is being stored: it goes on when that is settled
        due = schedule.next
        if schedule.missed == NONE and due < wall - LATE:
            due = broker.next_run(schedule.cron, schedule.zone, wall - LATE)
        if due <= wall:
            _run(broker, schedule, due, wall)
        else:
            _plan(broker, schedule, due)
    wait = schedules.next_due() - wall
    wait = LOOK_AGAIN if withheld else min(max(wait, 0.0), LOOK_AGAIN)
    queues.next_event = min(queues.next_event, broker.now + wait)


def _plan(broker: Rules, schedule: Schedule, due: float) -> None:
    schedule.next = due
    broker.queues.schedules.put(schedule)
    if broker.queues.durable:
        broker.queues.changes.rewrite(make_schedule_record(schedule))


def _run(broker: Rules, schedule: Schedule, due: float, wall: float) -> None:
    """Submit the run that is due, unless the last one is to be waited for."""
    after = due if schedule.missed == ALL else max(due, wall)
    following = broker.next_run(schedule.cron, schedule.zone, after)
    if schedule.skip and schedule.handle and broker.queues.job(schedule.handle):
        return _plan(broker, schedule, following)
    with broker.queues.changes.guard:  # its job and its next time are stored together
        handle = submit_run(broker, schedule, due)
        if handle:
            schedule.handle, schedule.last = handle, due
            return _plan(broker, schedule, following)
    return broker.queues.schedules.wake_at(schedule, wall + RETRY_TIME)


def submit_run(broker: Rules, schedule: Schedule, due: float = 0) -> bytes:
    """Submit the job of a schedule; return its handle, which is empty if it was refused.

    If it turns out that it could not be stored, the run is ``due`` again.
    """

    def hear(peer: Peer) -> None:
        """If an answer waited for a commit: that is settled."""
        current = schedules.get(schedule.name)
        if not peer.deferred or current is None:
            return
        broker.queues.next_event = -inf
        if due and current is schedule and not _read_handle(peer.deferred[0].pieces):
            schedule.next = due
            if schedule.last == due:
                schedule.handle, schedule.last = before
            broker.queues.changes.rewrite(make_schedule_record(schedule))
            schedules.wake_at(schedule, broker.time_of_day() + RETRY_TIME)
        else:
            schedules.put(current)

    schedules = broker.queues.schedules
    before = schedule.handle, schedule.last
    client = Peer(-1, "", hear)
    facts = schedule.function, schedule.unique, schedule.workload, schedule.priority
    accept(broker, client, *facts, background=True)
    return _read_handle(client.deferred[0].pieces if client.deferred else client.take())


def _read_handle(answer: Sequence[bytes]) -> bytes:
    """The handle of a job that was submitted; empty: it was refused."""
    ((kind, arguments),) = Decoder(RESPONSE).feed(b"".join(answer))
    return arguments[0] if kind == Packet.JOB_CREATED else b""
