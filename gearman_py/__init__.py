"""Gearman end to end in Python: job server, client, worker and command line.

from gearman_py import Client, Worker

Client("jobs.example.org").do("reverse", "Hello World!")  # b"!dlroW olleH"
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gearman_py.admin.aio import AsyncAdminClient
    from gearman_py.admin.client import AdminClient
    from gearman_py.client.aio import AsyncClient
    from gearman_py.client.aio_job import AsyncJob
    from gearman_py.client.arguments import Submit
    from gearman_py.client.config import Retry
    from gearman_py.client.job import JobSnapshot, JobState
    from gearman_py.client.job_status import JobStatus
    from gearman_py.client.sync import Client
    from gearman_py.client.sync_job import Job
    from gearman_py.errors import (
        AdminError,
        ArgumentTooLarge,
        ConnectionLost,
        DataTooLarge,
        GearmanError,
        JobException,
        JobFailed,
        JobTimeout,
        ProtocolError,
        QueueFull,
        ResultsUnsupported,
        ResultTooLarge,
        ServerUnavailable,
        SubmitError,
        UnknownJob,
    )
    from gearman_py.net.tls import TLS, TLSError
    from gearman_py.serializer import JSON, Serializer
    from gearman_py.worker.job import Outcome, Requeue, TimeLimit, WorkerJob
    from gearman_py.worker.worker import Worker

__version__ = "0.1.0"

# Imported on first use: the job server needs no client, and asyncio takes half of the start time
# of a command.
LAZY_IMPORTS = {
    "AdminClient": "gearman_py.admin.client",
    "AdminError": "gearman_py.errors",
    "ArgumentTooLarge": "gearman_py.errors",
    "AsyncAdminClient": "gearman_py.admin.aio",
    "AsyncClient": "gearman_py.client.aio",
    "AsyncJob": "gearman_py.client.aio_job",
    "Client": "gearman_py.client.sync",
    "ConnectionLost": "gearman_py.errors",
    "DataTooLarge": "gearman_py.errors",
    "GearmanError": "gearman_py.errors",
    "JSON": "gearman_py.serializer",
    "Job": "gearman_py.client.sync_job",
    "JobException": "gearman_py.errors",
    "JobFailed": "gearman_py.errors",
    "JobSnapshot": "gearman_py.client.job",
    "JobState": "gearman_py.client.job",
    "JobStatus": "gearman_py.client.job_status",
    "JobTimeout": "gearman_py.errors",
    "Outcome": "gearman_py.worker.job",
    "ProtocolError": "gearman_py.errors",
    "QueueFull": "gearman_py.errors",
    "Requeue": "gearman_py.worker.job",
    "ResultTooLarge": "gearman_py.errors",
    "ResultsUnsupported": "gearman_py.errors",
    "Retry": "gearman_py.client.config",
    "Serializer": "gearman_py.serializer",
    "ServerUnavailable": "gearman_py.errors",
    "Submit": "gearman_py.client.arguments",
    "SubmitError": "gearman_py.errors",
    "TLS": "gearman_py.net.tls",
    "TLSError": "gearman_py.net.tls",
    "TimeLimit": "gearman_py.worker.job",
    "UnknownJob": "gearman_py.errors",
    "Worker": "gearman_py.worker.worker",
    "WorkerJob": "gearman_py.worker.job",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(LAZY_IMPORTS[name]), name)
    return found


__all__ = [
    "JSON",
    "TLS",
    "AdminClient",
    "AdminError",
    "ArgumentTooLarge",
    "AsyncAdminClient",
    "AsyncClient",
    "AsyncJob",
    "Client",
    "ConnectionLost",
    "DataTooLarge",
    "GearmanError",
    "Job",
    "JobException",
    "JobFailed",
    "JobSnapshot",
    "JobState",
    "JobStatus",
    "JobTimeout",
    "Outcome",
    "ProtocolError",
    "QueueFull",
    "Requeue",
    "ResultTooLarge",
    "ResultsUnsupported",
    "Retry",
    "Serializer",
    "ServerUnavailable",
    "Submit",
    "SubmitError",
    "TLSError",
    "TimeLimit",
    "UnknownJob",
    "Worker",
    "WorkerJob",
]
