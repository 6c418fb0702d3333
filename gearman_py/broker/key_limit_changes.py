"""A limit per key is set or lifted: the queues of the function are replaced, little by little."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from gearman_py.broker.backlog import Backlog
from gearman_py.broker.key_limits import KeyLimit
from gearman_py.broker.state import EMPTY, BrokerJob, Function


def set_key_limit(
    function: Function, limit: KeyLimit[BrokerJob] | None, running: Iterable[BrokerJob] = ()
) -> Iterator[None]:
    """Limit the jobs of each key, or no longer. ``running``: those of its jobs that run, which
    are asked for in these steps; one that starts meanwhile may be among them or not.

    The limit is in effect at once. Returns what remains to be done, in steps: each looks at a job
    or frees some memory.
    """
    old, function.key_limit = function.key_limit, limit
    backlogs = [
        Backlog([queue] if isinstance(queue, deque) else queue.parts) for queue in function.queues
    ]
    if limit:
        for queue, backlog in zip(limit.queues, backlogs, strict=True):
            queue.backlog = backlog
        function.queues[:] = limit.queues
        work = limit.look_at_all(running)
    else:
        function.queues[:] = [backlog or EMPTY for backlog in backlogs]
        work = _merge_backlogs(function)
    return chain(work, old.dismantle()) if old else work


def _merge_backlogs(function: Function) -> Iterator[None]:
    for priority, queue in enumerate(function.queues):
        if isinstance(queue, Backlog):
            merged = yield from queue.merge()
            if function.queues[priority] is queue:
                function.queues[priority] = merged
