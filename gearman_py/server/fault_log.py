"""Logs what of a peer's input was not understood."""

import logging
from collections.abc import Sequence

from gearman_py.protocol.packets import OVERSIZED

log = logging.getLogger("gearmand")


def log_fault(peer: object, number: int, arguments: Sequence[bytes], *, dead: bool) -> None:
    """Log a message that is not a packet. ``dead``: nothing more of this peer can be understood."""
    if number == OVERSIZED:
        handle, *_, sentence = (each.decode(errors="replace") for each in arguments)
        log.warning(
            "%s: the result of job %s is too large; the job fails: %s", peer, handle, sentence
        )
    elif dead:
        log.warning("invalid packet from %s: %s", peer, arguments[-1].decode())
