"""What a job server says about itself in answer to the text command server."""

from gearman_py.server.health import find_problem
from gearman_py.server.listener import Listener
from gearman_py.server.memory import resident_bytes
from gearman_py.server.process_usage import cpu_seconds, start_time
from gearman_py.server.settings import Settings


def describe_server(listener: Listener, settings: Settings) -> dict[str, str]:
    """Its start in seconds since 1970, sizes in bytes; ``refuses``: why it takes no jobs.

    ``moving``: 1 while an operator moves its jobs to other job servers.
    """
    writer = listener.store_writer
    facts = {
        "started": f"{start_time():.0f}",
        "memory": str(resident_bytes()),
        "memory_limit": str(listener.memory_limit),
        "cpu_seconds": f"{cpu_seconds():.2f}",
        "connections": str(len(listener.connections)),
        "store": settings.queue_type.lower() if writer else "memory",
        "tls": "1" if settings.ssl else "0",
        "refuses": find_problem(listener),
        "moving": f"{listener.broker.mover is not None:d}",
    }
    if writer is not None:
        durations = writer.commits
        durations.settle()
        facts["commits"] = str(durations.total)
        facts["commit_seconds"] = f"{durations.seconds:.3f}"
    return facts
