"""Brokers that go on from a snapshot of another."""

import json
from collections.abc import Sequence
from typing import Any

from gearman_py.broker.broker import Broker
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.queues import Queues
from gearman_py.broker.restore import Restorer
from gearman_py.broker.snapshot import take_snapshot
from gearman_py.broker.state import Peer


def snapshot(broker: Broker, peers: Sequence[Peer]) -> list[Any]:
    """All sections, as they arrive in another process."""
    sections = take_snapshot(broker, peers, broker.now)
    return [json.loads(json.dumps(section)) for section in sections]


def hand_over(broker: Broker, peers: Sequence[Peer]) -> tuple[Broker, list[Peer]]:
    """The broker that takes the place of this one, and its peers in the same order."""
    old = broker.queues
    queues = Queues(
        old._prefix[:-1],
        function_first=old._function_first,
        rotate=old._rotate,
        wakeup=old._wakeup,
        durable=old.durable,
        failed=FailedJobs(old.failed.most, old.failed._seconds, old.failed._max_bytes),
    )
    following = Broker(
        queues,
        job_retries=broker._job_retries,
        exceptions=broker._exceptions,
        time_of_day=broker.time_of_day,
    )
    following.now = broker.now
    restorer = Restorer(following)
    sections = snapshot(broker, peers)
    for section in sections:
        restorer.read(section, broker.now)
    assert restorer.complete
    if len(peers) == len(broker.peers):
        for again, section in zip(snapshot(following, restorer.peers), sections, strict=True):
            assert again == section, "nothing is lost"
    return following, restorer.peers
