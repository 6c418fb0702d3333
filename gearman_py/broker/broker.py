"""The broker: what each message from each peer does.

It has no socket, clock or event loop: callers pass messages and the time in, and send what is in
the outboxes of the peers. Each request that has an answer gets exactly one, in the order of the
requests (libgearman matches JOB_CREATED and ERROR to submissions by order alone).
"""

from collections.abc import Callable, Sequence

from gearman_py.broker import admin_commands, clients, workers
from gearman_py.broker.counts import BrokerCounts, Counts
from gearman_py.broker.functions import FEW, NOOP, WAKE_AGAIN
from gearman_py.broker.job_table import BITS, JobTable
from gearman_py.broker.limits import MAX_ARGUMENT, MAX_SUBMITTED, MAX_UNIQUE
from gearman_py.broker.queues import Queues
from gearman_py.broker.rules import Rules
from gearman_py.broker.schedule_runs import run_due
from gearman_py.broker.state import EMPTY, BrokerJob, Function, Peer
from gearman_py.broker.submitters import keep_submissions
from gearman_py.protocol import accelerator, text
from gearman_py.protocol.codec import LARGE, Message
from gearman_py.protocol.packets import FAULT, MESSAGE_NUMBERS, OVERSIZED, TEXT, TEXT_FAULT

Handler = Callable[[Rules, Peer, Sequence[bytes]], None]


class Broker(Rules):
    """The rules, and the handlers of the messages that peers send."""

    def tick(self, now: float, wall: float) -> float:
        super().tick(now, wall)
        if self.queues.schedules:
            run_due(self, wall)
        return self.queues.next_event

    def gone(self, peer: Peer, now: float) -> None:
        super().gone(peer, now)
        if peer.submissions:
            keep_submissions(peer, now)

    def receive(self, peer: Peer, messages: Sequence[Message], now: float) -> Sequence[Message]:
        """Handle messages from a peer. ``now`` is a monotonic clock, in seconds.

        Returns the messages that were left because the peer is owed too much: pass them again
        when it has read some.
        """
        if now != self.now:  # equal times are one object: queues may hold millions of jobs
            self.now = now
        if peer.max_owed < 0:
            peer.continue_listing()
            if peer.max_owed < 0:
                return messages
        done = _handle(self, peer, messages)
        return messages[done:] if done < len(messages) else ()


def handle_messages(broker: Rules, peer: Peer, messages: Sequence[Message]) -> int:
    """Handle messages until the peer is owed too much; return how many were handled."""
    handlers, packets = HANDLERS, broker.queues.counts.packets
    done = 0
    for number, arguments in messages:
        packets[number] += 1
        handlers[number](broker, peer, arguments)
        done += 1
        if peer.owed > peer.max_owed:
            break
    return done


def _refuse_packet(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.refuse(b"INVALID_COMMAND", b"Command not expected")


def _answer_fault(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.refuse(*arguments)


def _text_fault(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.send(text.error(*arguments))


# By message number; numbers below 0 count from the end.
HANDLERS: list[Handler] = [_refuse_packet] * MESSAGE_NUMBERS
for _number, _handler in (
    *clients.HANDLERS.items(),
    *workers.HANDLERS.items(),
    (TEXT, admin_commands.answer),
    (FAULT, _answer_fault),
    (TEXT_FAULT, _text_fault),
    (OVERSIZED, workers.oversized),
):
    HANDLERS[_number] = _handler

# What the accelerator has to know to handle ordinary jobs in place of the handlers.
FACTS: dict[str, object] = {
    "job": BrokerJob,
    "function": Function,
    "peer": Peer,
    "queues": Queues,
    "table": JobTable,
    "counts": Counts,
    "totals": BrokerCounts,
    "BITS": BITS,
    "EMPTY": EMPTY,
    "FEW": FEW,
    "HANDLERS": HANDLERS,
    "LARGE": LARGE,
    "MAX_ARGUMENT": MAX_ARGUMENT,
    "MAX_SUBMITTED": MAX_SUBMITTED,
    "MAX_UNIQUE": MAX_UNIQUE,
    "NOOP": NOOP,
    "NO_JOB": workers.NO_JOB,
    "PURE": handle_messages,
    "WAKE_AGAIN": WAKE_AGAIN,
}
_handle = accelerator.accelerate_broker(FACTS) or handle_messages
