"""Metrics of what is kept of background jobs that have ended."""

from gearman_py.server.listener import Listener
from gearman_py.server.metric import per_server


def _count_results(listener: Listener) -> int | None:
    results = listener.broker.queues.results
    return results.total if results else None


def _size_results(listener: Listener) -> int | None:
    results = listener.broker.queues.results
    return results.bytes if results else None


KEPT_METRICS = (
    per_server(
        "gearman_failed_jobs_kept",
        "gauge",
        "Failed background jobs that can be retried.",
        lambda listener: len(listener.broker.queues.failed),
    ),
    per_server(
        "gearman_results_kept",
        "gauge",
        "Results of background jobs that can be fetched; with --keep-results.",
        _count_results,
    ),
    per_server(
        "gearman_result_bytes_kept",
        "gauge",
        "The memory that they take, roughly; with --keep-results.",
        _size_results,
    ),
)
