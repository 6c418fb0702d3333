"""The table of what a job server tells Prometheus: docs/metrics.md is kept from it.

The first six names are those of bakins/gearman-exporter, so that dashboards made for it go on
working.
"""

from collections.abc import Callable

from gearman_py import __version__
from gearman_py.broker import counts
from gearman_py.broker.state import Function
from gearman_py.exposition import Sample, Value
from gearman_py.server import counts as server_counts
from gearman_py.server.health import find_problem
from gearman_py.server.kept_metrics import KEPT_METRICS
from gearman_py.server.listener import Listener
from gearman_py.server.metric import (
    Metric,
    by_reason,
    distribution_of,
    in_queue,
    per_function,
    per_server,
)
from gearman_py.server.process_metrics import PROCESS_METRICS
from gearman_py.server.relayed_connection import relayed_connections
from gearman_py.server.safety_metrics import SAFETY_METRICS
from gearman_py.server.store_writer import StoreWriter


def _waiting_by_priority(function: Function, listener: Listener) -> list[Sample]:
    high, normal, low = function.waiting
    return [(("high",), high), (("normal",), normal), (("low",), low)]


def _oldest_waiting(function: Function, listener: Listener) -> list[Sample]:
    since = function.waiting_since()
    return [] if since is None else [((), max(0.0, listener.now() - since))]


def _workers_wanted(function: Function, listener: Listener) -> list[Sample]:
    return [((), listener.broker.queues.demand.workers_wanted(function, listener.now()))]


def _tally(events: counts.Tally, *reasons: str) -> list[Sample]:
    return [((reason,), events[reason]) for reason in reasons]


def _refusals(listener: Listener) -> list[Sample]:
    return _tally(
        listener.broker.queues.counts.refusals,
        counts.QUEUE_FULL,
        counts.MEMORY,
        counts.FUNCTIONS_FULL,
        counts.NOT_STORED,
        counts.STOPPING,
        counts.TOO_LARGE,
        counts.INVALID,
    )


def _closed(listener: Listener) -> list[Sample]:
    reasons = server_counts.CLOSE_REASONS
    return _tally(listener.counts.closed, *reasons)


def _of_store(read: Callable[[StoreWriter], Value]) -> Callable[[Listener], Value | None]:
    """The metrics of the durable queue, if there is one."""
    return lambda listener: read(writer) if (writer := listener.store_writer) else None


def _received_packets(listener: Listener) -> list[Sample]:
    received = listener.broker.queues.counts.received_packets()
    return [((name,), count) for name, count in received.items()]


def _received_bytes(listener: Listener) -> int:
    connections = listener.connections.values()
    return listener.counts.received_before + sum(each.received for each in connections)


def _sent_bytes(listener: Listener) -> int:
    connections = listener.connections.values()
    return listener.counts.sent_before + sum(each.peer.sent for each in connections)


METRICS = (
    per_server("gearman_up", "gauge", "1: the job server answers.", lambda _: 1),
    Metric(
        "gearman_version_info",
        "gauge",
        "The job server's version.",
        ("version",),
        lambda _: [((__version__,), 1)],
    ),
    in_queue("gearman_jobs", "Jobs that are queued or running.", lambda function: function.total),
    in_queue("gearman_jobs_running", "Jobs that workers have.", lambda function: function.running),
    in_queue(
        "gearman_jobs_waiting",
        "Jobs that wait for a worker, or to become due.",
        lambda function: function.total - function.running,
    ),
    in_queue(
        "gearman_workers",
        "Workers that can do the function.",
        lambda function: len(function.workers),
    ),
    Metric(
        "gearman_workers_wanted",
        "gauge",
        "Workers that would keep the oldest waiting job younger than gearmand --target-wait.",
        ("function",),
        of_function=_workers_wanted,
    ),
    Metric(
        "gearman_jobs_waiting_by_priority",
        "gauge",
        "Jobs that wait for a worker.",
        ("function", "priority"),
        of_function=_waiting_by_priority,
    ),
    in_queue(
        "gearman_jobs_scheduled",
        "Jobs that are not due yet, or not stored yet.",
        lambda function: function.scheduled,
    ),
    *KEPT_METRICS,
    per_server(
        "gearman_functions",
        "gauge",
        "Functions that the job server knows.",
        lambda listener: len(listener.broker.queues.functions),
    ),
    per_server(
        "gearman_connections",
        "gauge",
        "Connections of clients, workers and operators.",
        lambda listener: len(listener.connections),
    ),
    per_server(
        "gearman_relayed_connections",
        "gauge",
        "Those of them whose TLS a process does that was replaced by a reload.",
        lambda listener: len(relayed_connections(listener)),
    ),
    per_server(
        "gearman_accepting_jobs",
        "gauge",
        "1: new jobs are taken; 0: they, or new connections, are refused, see /healthz.",
        lambda listener: not find_problem(listener),
    ),
    Metric(
        "gearman_job_oldest_waiting_seconds",
        "gauge",
        "How long the job that waits longest has waited for a worker.",
        ("function",),
        of_function=_oldest_waiting,
        largest=True,
    ),
    per_server(
        "gearman_server_paused",
        "gauge",
        "1 while the whole server is paused.",
        lambda listener: listener.broker.queues.restrictions.paused,
    ),
    in_queue(
        "gearman_function_paused",
        "1 for each paused function.",
        lambda function: function.paused,
        zero=False,
    ),
    in_queue(
        "gearman_function_max_running",
        "The number of jobs that may run at a time, of functions with a limit.",
        lambda function: function.max_running,
        zero=False,
    ),
    in_queue(
        "gearman_function_max_per_key",
        "The number of jobs with the same key that may run at a time, of functions with a limit.",
        lambda function: function.key_limit.most if function.key_limit else 0,
        zero=False,
    ),
    per_function(
        "gearman_jobs_accepted_total",
        "New jobs that were taken from clients and schedules, also those that could then not be "
        "stored.",
        lambda all_: all_.accepted,
    ),
    per_function(
        "gearman_jobs_coalesced_total",
        "Submissions that joined a job of the same unique.",
        counts.COALESCED,
    ),
    per_function(
        "gearman_jobs_restored_total", "Jobs queued again from the previous run.", counts.RESTORED
    ),
    per_function(
        "gearman_jobs_adopted_total",
        "Jobs taken over from job servers that are gone.",
        counts.ADOPTED,
    ),
    per_function(
        "gearman_jobs_retried_total",
        "Failed jobs that operators queued again.",
        counts.RETRIED,
    ),
    per_function(
        "gearman_jobs_started_total",
        "Times that a job was given to a worker.",
        lambda all_: all_.waits.total + len(all_.waits),
    ),
    per_function(
        "gearman_jobs_completed_total",
        "Jobs that their workers completed.",
        lambda all_: all_.completed,
    ),
    by_reason(
        "gearman_jobs_failed_total",
        "Jobs that failed: as their workers said, by an exception, or after too many attempts.",
        *(counts.FAILED, counts.EXCEPTION, counts.ATTEMPTS),
    ),
    by_reason(
        "gearman_jobs_requeued_total",
        "Times that a job was queued again: its worker disconnected, ran out of time, "
        "gave the function up, or gave the job back for a later attempt.",
        *(counts.DISCONNECTED, counts.TIMEOUT, counts.UNREGISTERED, counts.POSTPONED),
    ),
    per_function(
        "gearman_jobs_timed_out_total", "Runs that were over their time limit.", counts.TIMED_OUT
    ),
    per_function(
        "gearman_jobs_cancelled_total", "Jobs that operators cancelled.", counts.CANCELLED
    ),
    per_function(
        "gearman_jobs_moved_total", "Jobs that were moved to another job server.", counts.MOVED
    ),
    per_function(
        "gearman_jobs_dropped_total",
        "Foreground jobs given up because their clients left.",
        counts.DROPPED,
    ),
    per_function(
        "gearman_jobs_not_stored_total",
        "Jobs given up as they could not be stored, which was told to who submitted or retried "
        "them.",
        counts.NOT_STORED,
    ),
    per_function(
        "gearman_job_wait_seconds",
        "How long jobs waited for a worker, each time that they were started.",
        lambda all_: distribution_of(all_.waits),
        "histogram",
    ),
    per_function(
        "gearman_job_run_seconds",
        "How long workers had jobs, however that ended.",
        lambda all_: distribution_of(all_.runs),
        "histogram",
    ),
    Metric(
        "gearman_jobs_refused_total",
        "counter",
        "Submissions that were refused: queue_full (maxqueue), memory (--max-memory), functions "
        "(too many), store (nothing can be stored), stopping (the job server is), too_large, "
        "invalid.",
        ("reason",),
        _refusals,
    ),
    per_server(
        "gearman_worker_wakeups_total",
        "counter",
        "Times that a sleeping worker was woken.",
        lambda listener: listener.broker.queues.counts.wakeups,
    ),
    per_server(
        "gearman_empty_grabs_total",
        "counter",
        "Times that a worker asked for a job and there was none.",
        lambda listener: listener.broker.queues.counts.empty_grabs,
    ),
    Metric(
        "gearman_received_packets_total",
        "counter",
        "Packets that came from peers, by type; text: lines of the text protocol; invalid: what no "
        "peer may send, or is too large.",
        ("type",),
        _received_packets,
    ),
    per_server(
        "gearman_received_bytes_total", "counter", "Bytes that came from peers.", _received_bytes
    ),
    per_server(
        "gearman_sent_bytes_total",
        "counter",
        "Bytes of packets and lines for peers.",
        _sent_bytes,
    ),
    per_server(
        "gearman_connections_opened_total",
        "counter",
        "Connections that were opened.",
        lambda listener: listener.counts.opened,
    ),
    Metric(
        "gearman_connections_closed_total",
        "counter",
        "Connections that were closed: left (by the peer), reset, invalid (what it sent), limit, "
        "unread, slow, gone (no answer), memory, store (an answer would be a guess).",
        ("reason",),
        _closed,
    ),
    per_server(
        "gearman_store_commit_seconds",
        "histogram",
        "How long it took to store a group of changes of the durable queue.",
        _of_store(lambda writer: distribution_of(writer.commits)),
    ),
    per_server(
        "gearman_store_jobs_total",
        "counter",
        "Jobs that were stored.",
        _of_store(lambda writer: writer.stored),
    ),
    per_server(
        "gearman_store_failures_total",
        "counter",
        "Groups of changes that could not be stored.",
        _of_store(lambda writer: writer.failures),
    ),
    per_server(
        "gearman_loop_lag_seconds",
        "histogram",
        "How late the event loop was, looked at 5 times a second.",
        lambda listener: distribution_of(listener.counts.loop_lag),
    ),
    per_server(
        "gearman_memory_limit_bytes",
        "gauge",
        "Resident memory above which new jobs are refused.",
        lambda listener: listener.memory_limit,
    ),
    *PROCESS_METRICS,
    *SAFETY_METRICS,
)
