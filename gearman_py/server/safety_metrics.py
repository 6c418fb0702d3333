"""Metrics of what may go wrong soon: hosts of workers, the durable queue, the certificate."""

from collections import Counter

from gearman_py.exposition import Sample
from gearman_py.net.certificate_end import certificate_end
from gearman_py.server.listener import Listener
from gearman_py.server.metric import Metric, per_server

MAX_HOSTS = 1000  # that are told apart
OTHER = "other"


def _workers_by_host(listener: Listener) -> list[Sample]:
    found = Counter(peer.address for peer in listener.connections if peer.abilities)
    counted = found.most_common()
    samples: list[Sample] = [((address,), number) for address, number in counted[:MAX_HOSTS]]
    if rest := sum(number for _, number in counted[MAX_HOSTS:]):
        samples.append(((OTHER,), rest))
    return samples


SAFETY_METRICS = (
    Metric(
        "gearman_worker_connections",
        "gauge",
        "Connections of workers, by their host's address.",
        ("address",),
        _workers_by_host,
    ),
    per_server(
        "gearman_queue_durable",
        "gauge",
        "1: background jobs are stored too; 0: they are in memory alone.",
        lambda listener: int(listener.store_writer is not None),
    ),
    per_server(
        "gearman_certificate_end_seconds",
        "gauge",
        "When the certificate of the job server ends, in seconds since 1970; with TLS.",
        lambda listener: certificate_end(listener.certificate) if listener.certificate else None,
    ),
)
