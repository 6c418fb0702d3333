"""Why a job server does not take jobs from whoever comes: /healthz and the metrics say the same."""

from gearman_py.server.listener import Listener


def find_problem(listener: Listener) -> str:
    """Why new jobs, or new connections, are refused; empty when they are not."""
    broker, writer = listener.broker, listener.store_writer
    if writer is not None and (writer.broken or writer.seems_refusing):
        return f"background jobs cannot be stored: {writer.why}"
    if broker.stopping:
        if broker.queues.durable:
            return "the job server is stopping: it takes only background jobs, for its next start"
        return "the job server is stopping: it takes no jobs"
    if broker.draining is True:
        return "the job server is being drained: it takes no connections"
    if broker.queues.full:
        return "the limit of memory is reached (--max-memory)"
    return ""
