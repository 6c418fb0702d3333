"""Gearman end to end in Python: job server, client, worker and command line.

from gearman_py import Client, Worker

Client("jobs.example.org").do("reverse", "Hello World!")  # b"!dlroW olleH"
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gearman_py.admin.client import AdminClient
from gearman_py.client.arguments import Submit
from gearman_py.client.config import Retry
from gearman_py.client.job import JobSnapshot, JobState, JobStatus
from gearman_py.client.sync import Client
from gearman_py.client.sync_job import Job
from gearman_py.errors import (
    AdminError,
    ArgumentTooLarge,
    ConnectionLost,
    GearmanError,
    JobException,
    JobFailed,
    JobTimeout,
    ProtocolError,
    QueueFull,
    ResultTooLarge,
    ServerUnavailable,
    SubmitError,
)
from gearman_py.net.tls import TLS, TLSError
from gearman_py.serializer import JSON, Serializer

if TYPE_CHECKING:
    from gearman_py.admin.aio import AsyncAdminClient
    from gearman_py.client.aio import AsyncClient
    from gearman_py.client.aio_job import AsyncJob
    from gearman_py.worker.job import Outcome, Requeue, TimeLimit, WorkerJob
    from gearman_py.worker.worker import Worker

__version__ = "0.1.0"

# Imported on first use: asyncio takes half of the start time of a command.
LAZY_IMPORTS = {
    "AsyncAdminClient": "gearman_py.admin.aio",
    "AsyncClient": "gearman_py.client.aio",
    "AsyncJob": "gearman_py.client.aio_job",
    "Outcome": "gearman_py.worker.job",
    "Requeue": "gearman_py.worker.job",
    "TimeLimit": "gearman_py.worker.job",
    "Worker": "gearman_py.worker.worker",
    "WorkerJob": "gearman_py.worker.job",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY_IMPORTS[name]), name)


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
    "Retry",
    "Serializer",
    "ServerUnavailable",
    "Submit",
    "SubmitError",
    "TLSError",
    "TimeLimit",
    "Worker",
    "WorkerJob",
]
