"""Clients and workers that remember what they were told, to be compared when all is over.

Every job has an id in its workload. An id is ``acknowledged``, ``refused``, or neither: then
nobody can know. What was acknowledged must run, what was refused must not; and twice may run
only what was running, or had ended a moment before, when the server died.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.job_servers import Address, is_listening
from tests.peer import Peer

WINDOW = 16
AHEAD = 5000  # clients may be of workers, or each start of the server would take longer
LATELY = 3.0  # seconds; 10 ms and a commit, but a busy machine may take long for one
GONE = (OSError, AssertionError)  # what a Peer says when its server dies


def submission(number: int) -> bytes:
    """Jobs of many kinds, in turn; each coalesces with no other."""
    name = b"job %d" % number
    match number % 8:
        case 0:
            return request(Packet.SUBMIT_JOB_HIGH_BG, b"f", name, name)
        case 1:
            return request(Packet.SUBMIT_JOB_LOW_BG, b"f", b"-", name)
        case 2:
            return request(Packet.SUBMIT_JOB_EPOCH, b"f", b"", b"%d" % time.time(), name)
        case 3:
            return request(Packet.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", name, b"r", b"", name)
        case 4:
            return request(Packet.SUBMIT_JOB_BG, b"f", name.ljust(64, b"."), name)
        case _:
            return request(Packet.SUBMIT_JOB_BG, b"f", b"", name)


class Book:
    """What happened to each job."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.runs: Counter[int] = Counter()
        self.excused: set[int] = set()  # may run twice
        self._failed = False  # a test has: its server may live on
        self._next = 0
        self._lock = threading.Lock()

    def numbers(self) -> range:
        with self._lock:
            self._next += WINDOW
            return range(self._next - WINDOW, self._next)

    def submit(self, address: Address) -> None:
        """Submit until the server is gone."""
        try:
            peer = Peer(address)
            with peer.socket:
                while not self._failed:
                    while not self._failed and len(self.acknowledged) > len(self.runs) + AHEAD:
                        peer.ask(Packet.ECHO_REQ, b"")
                    numbers = self.numbers()
                    peer.socket.sendall(b"".join(map(submission, numbers)))
                    for number in numbers:
                        created = peer.hear()[0] == "JOB_CREATED"
                        (self.acknowledged if created else self.refused).add(number)
        except GONE:
            pass

    def work(self, address: Address, *, until_empty: bool = False) -> None:
        """Do jobs until the server is gone, or has no more.

        When it is gone, what this worker ended lately is excused: the server need not have heard.
        """
        ended: dict[int, float] = {}
        try:
            peer = Peer(address)
            with peer.socket:
                peer.say(Packet.CAN_DO, b"f")
                while not self._failed:
                    said, *facts = peer.ask(Packet.GRAB_JOB)
                    if said == "NO_JOB":
                        if until_empty:
                            return
                        peer.ask(Packet.PRE_SLEEP)
                        continue
                    number = int(facts[2].split()[1])
                    self.runs[number] += 1
                    ended[number] = time.monotonic()
                    peer.say(Packet.WORK_COMPLETE, facts[0], b"")
        except GONE:
            lately = time.monotonic() - LATELY
            self.excused |= {number for number, when in ended.items() if when >= lately}

    @contextmanager
    def load(
        self, address: Address, *, clients: int = 4, workers: int = 2, rejoin: bool = False
    ) -> Iterator[None]:
        """Peers that are there until the server is gone; it must be, at the end.

        ``rejoin``: it may hang up before, as it does on who must not be told what it does not know.
        """

        def play(part: Callable[[Address], None]) -> None:
            part(address)
            while rejoin and not self._failed and is_listening(address):
                part(address)

        parts = [self.submit] * clients + [self.work] * workers
        threads = [threading.Thread(target=play, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        try:
            yield
        except BaseException:
            self._failed = True
            raise
        finally:
            for thread in threads:
                thread.join()

    def check(self) -> dict[str, int]:
        """Compare; what was counted."""
        ran = set(self.runs)
        twice = {number for number, count in self.runs.items() if count > 1}
        lost = self.acknowledged - ran
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} lost: {sorted(lost)[:10]}"
        assert not self.refused & ran, "what was refused has run"
        assert twice <= self.excused, (
            f"for no reason ran twice: {sorted(twice - self.excused)[:10]}"
        )
        return {
            "acknowledged": len(self.acknowledged),
            "refused": len(self.refused),
            "lost": len(lost),
            "ran_twice": len(twice),
        }
