"""Brokers that go on from a snapshot of another."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from gearman_py.broker.broker import Broker
from gearman_py.broker.copy_ahead import AheadCopy
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.job_columns import Section
from gearman_py.broker.kept_results import KeptResults
from gearman_py.broker.queues import Queues
from gearman_py.broker.restore import Restorer
from gearman_py.broker.snapshot import take_snapshot
from gearman_py.broker.state import Peer


def snapshot(broker: Broker, peers: Sequence[Peer]) -> list[Any]:
    """All sections, as they arrive in another process."""
    sections = take_snapshot(broker, peers, broker.now)
    return [json.loads(json.dumps(section)) for section in sections]


def successor(broker: Broker) -> Broker:
    """A new broker with the same settings."""
    old = broker.queues
    queues = Queues(
        old._prefix[:-1],
        function_first=old._function_first,
        rotate=old._rotate,
        wakeup=old._wakeup,
        durable=old.durable,
        failed=FailedJobs(old.failed.most, old.failed._seconds, old.failed._max_bytes),
        results=old.results and KeptResults(old.results._seconds, old.results.max_bytes),
    )
    return Broker(
        queues,
        job_retries=broker._job_retries,
        exceptions=broker._exceptions,
        time_of_day=broker.time_of_day,
        next_run=broker.next_run,
    )


class Following:
    """A broker that is to take the place of another, and has queued jobs copied ahead."""

    def __init__(self, broker: Broker) -> None:
        self._old = broker
        self.broker = successor(broker)
        self._restorer = Restorer(self.broker)
        self._ahead = AheadCopy(broker, broker.now)
        self._sections = self._ahead.sections()

    def copy_slice(self) -> None:
        """Copy a slice, if one is left."""
        for section in itertools.islice(self._sections, 1):
            self._read(section)

    def take_over(self, peers: Sequence[Peer]) -> list[Peer]:
        """Copy the rest; return these peers in the same order."""
        for section in self._sections:
            self._read(section)
        self.broker.now = self._old.now
        for section in take_snapshot(self._old, peers, self._old.now, self._ahead):
            self._read(section)
        assert self._restorer.complete
        if len(peers) == len(self._old.peers):
            here, there = snapshot(self._old, peers), snapshot(self.broker, self._restorer.peers)
            for sections in (here, there):
                sections[-1]["due"].sort()  # a heap
            assert here == there, "nothing is lost"
        return self._restorer.peers

    def _read(self, section: Section) -> None:
        self._restorer.read(json.loads(json.dumps(section)), self._old.now)


def hand_over(broker: Broker, peers: Sequence[Peer]) -> tuple[Broker, list[Peer]]:
    """The broker that takes the place of this one, and its peers in the same order."""
    following = Following(broker)
    return following.broker, following.take_over(peers)
