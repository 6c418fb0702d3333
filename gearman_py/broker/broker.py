"""The broker: what each message from each peer does.

It has no socket, clock or event loop: callers pass messages and the time in, and send what is in
the outboxes of the peers. Each request that has an answer gets exactly one, in the order of the
requests (libgearman matches JOB_CREATED and ERROR to submissions by order alone).
"""

from collections.abc import Callable, Sequence

from gearman_py.broker import clients, commands, workers
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import Peer
from gearman_py.protocol import text
from gearman_py.protocol.codec import Message
from gearman_py.protocol.packets import FAULT, HIGHEST, OVERSIZED, TEXT, TEXT_FAULT

Handler = Callable[[Rules, Peer, Sequence[bytes]], None]


class Broker(Rules):
    """The rules, and the handlers of the messages that peers send."""

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
        handlers = HANDLERS
        done = 0
        for number, arguments in messages:
            handlers[number](self, peer, arguments)
            done += 1
            if peer.owed > peer.max_owed:
                break
        return messages[done:] if done < len(messages) else ()


def _refuse_packet(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.refuse(b"INVALID_COMMAND", b"Command not expected")


def _answer_fault(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.refuse(*arguments)


def _text_fault(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.send(text.error(*arguments))


# By message number; numbers below 0 count from the end.
HANDLERS: list[Handler] = [_refuse_packet] * (HIGHEST + 4)
for _number, _handler in (
    *clients.HANDLERS.items(),
    *workers.HANDLERS.items(),
    (TEXT, commands.answer),
    (FAULT, _answer_fault),
    (TEXT_FAULT, _text_fault),
    (OVERSIZED, workers.oversized),
):
    HANDLERS[_number] = _handler
