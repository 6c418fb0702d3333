"""Large messages that are incomplete, and memory: how much of them is held at a time.

Together they may hold a share of the limit of memory. Beyond it, those that lack the least go on,
and the peers of the others are not read from until there is room. So messages that were begun, and
are not gone on with, take no memory from the jobs of others. Once it is needed they are closed.

The results of workers, which also are large messages, have a budget of their own
(gearman_py.server.result_budget).
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

from gearman_py.protocol.codec import LARGE
from gearman_py.server.counts import MEMORY
from gearman_py.server.pressure import PeerConnection

log = logging.getLogger("gearmand")

HELD_SHARE = 1 / 3  # of the limit of memory, for what is held of incomplete messages ...
MISSING_SHARE = 1 / 6  # ... and for what those that then go on still lack; one always goes on
# A message of which less than LEAST_PROGRESS (bytes) came within IDLE_LIMIT (seconds) is closed if
# another one waits, or if jobs are refused.
LEAST_PROGRESS = 2**16
IDLE_LIMIT = 3.0
# A little is read each TRICKLE_INTERVAL (seconds) of one that waits: peers take a connection
# for dead that takes nothing for 30 s.
TRICKLE_INTERVAL = 5.0


@dataclass
class _Upload:
    held: int  # bytes, when last counted
    progress: int  # bytes that were held at ``since``
    since: float
    read_at: float = 0.0  # when a little was read, if it waits


class UploadBudget:
    """Which peers must wait with large messages that are not results."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.waiting: set[PeerConnection] = set()  # not read from
        self._uploads: dict[PeerConnection, _Upload] = {}
        self._going: set[PeerConnection] = set()  # those that lack the least
        self._room = sys.maxsize  # bytes that they may still take

    def weigh(self, peer: PeerConnection) -> None:
        """More of an incomplete message came: have the peer wait unless there is room for it."""
        held = peer.partial_bytes()
        if held < LARGE or peer.coming_result() is not None:
            return
        upload = self._uploads.get(peer)
        if upload is None:
            self._uploads[peer] = upload = _Upload(0, 0, self._now())
        self._room -= held - upload.held
        upload.held = held
        if self._room < 0 and peer not in self._going:
            upload.read_at = self._now()
            self.waiting.add(peer)
            peer.pause_peer()

    def forget_peer(self, peer: PeerConnection) -> None:
        """A connection is gone."""
        self._uploads.pop(peer, None)
        self.waiting.discard(peer)
        self._going.discard(peer)

    def share_memory(self, limit: int, excess: int) -> bool:
        """Let those go on that there is room for, given the limit of memory.

        ``excess``: bytes that are to become free before jobs are accepted again. Return whether
        connections were closed.
        """
        if not self._uploads:
            return False
        now = self._now()
        self._count(now)
        room = int(limit * HELD_SHARE) - sum(upload.held for upload in self._uploads.values())
        freed = self._close_idle(now, max(excess, -room if self.waiting else 0))
        self._room = room + freed
        if self._room >= 0:
            self._going.clear()
            self._resume(self.waiting)
        else:
            self._going = self._choose(int(limit * MISSING_SHARE))
            self._resume(self.waiting & self._going)
            for peer in self.waiting:
                if now - self._uploads[peer].read_at > TRICKLE_INTERVAL:
                    peer.transport.resume_reading()  # what it sends is weighed again
        return freed > 0

    def _count(self, now: float) -> None:
        """How much is held of each, and which are complete."""
        for peer, upload in list(self._uploads.items()):
            upload.held = peer.partial_bytes()
            if upload.held < LARGE or peer.coming_result() is not None:
                self._resume(self.waiting & {peer})
                self.forget_peer(peer)
            elif (
                not upload.progress <= upload.held < upload.progress + LEAST_PROGRESS
                or peer in self.waiting
            ):
                upload.progress, upload.since = upload.held, now

    def _choose(self, room: int) -> set[PeerConnection]:
        """Those that lack the least; ``room``: how many bytes they may lack together."""
        going: set[PeerConnection] = set()
        for peer in sorted(self._uploads, key=lambda peer: peer.missing_bytes()):
            room -= peer.missing_bytes()
            if going and room < 0:
                break
            going.add(peer)
        return going

    def _resume(self, peers: set[PeerConnection]) -> None:
        for peer in list(peers):
            self.waiting.discard(peer)
            peer.resume_peer()

    def _close_idle(self, now: float, wanted: int) -> int:
        """Close the largest of those that are not gone on with; return how many bytes they held."""
        if wanted <= 0:
            return 0
        idle = [one for one in self._uploads.items() if now - one[1].since >= IDLE_LIMIT]
        idle.sort(key=lambda one: one[1].held, reverse=True)
        freed = 0
        for peer, upload in idle:
            if freed >= wanted:
                break
            log.warning(
                "out of memory: closing %s, which has sent less than %d KiB in %g s of a message "
                "of which it has sent %d KiB",
                *(peer, LEAST_PROGRESS >> 10, IDLE_LIMIT, upload.held >> 10),
            )
            freed += upload.held
            self.forget_peer(peer)
            peer.abort(MEMORY)
        return freed
