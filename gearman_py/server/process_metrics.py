"""Metrics of the job server's process, by the names that Prometheus' own clients use."""

import resource

from gearman_py.server import memory, process_usage
from gearman_py.server.metric import per_server

PROCESS_METRICS = (
    per_server(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        lambda _: memory.resident_bytes(),
    ),
    per_server(
        "process_cpu_seconds_total",
        "counter",
        "CPU time, user and system.",
        lambda _: process_usage.cpu_seconds(),
    ),
    per_server(
        "process_start_time_seconds",
        "gauge",
        "When the process started, in seconds since 1970.",
        lambda _: process_usage.start_time(),
    ),
    per_server(
        "process_open_fds",
        "gauge",
        "Open files and sockets.",
        lambda _: process_usage.open_files(),
    ),
    per_server(
        "process_max_fds",
        "gauge",
        "The limit of open files and sockets.",
        lambda _: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    ),
)
