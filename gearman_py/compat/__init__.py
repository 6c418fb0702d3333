"""The classes and hooks of python-gearman (gearman 2, gearman3, pygearman) over our library.

from gearman_py import compat as gearman

is the whole migration; ``gearman.errors``, ``gearman.job``, ``gearman.constants`` and the others
that programs import are here under the same names. Code that cannot be edited is served by
``install()``. What is different from pygearman 0.2.6 is listed in docs/coming-from.md.
"""

import sys

from gearman_py.compat import (
    admin_client,
    client,
    connection_manager,
    constants,
    errors,
    job,
    worker,
)
from gearman_py.compat.admin_client import GearmanAdminClient
from gearman_py.compat.client import GearmanClient
from gearman_py.compat.connection_manager import DataEncoder
from gearman_py.compat.constants import (
    JOB_COMPLETE,
    JOB_CREATED,
    JOB_FAILED,
    JOB_PENDING,
    JOB_UNKNOWN,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NONE,
)
from gearman_py.compat.job import GearmanJob, GearmanJobRequest
from gearman_py.compat.worker import GearmanWorker

__version__ = "0.2.6"
"""The pygearman whose ways these are."""

__all__ = [
    "JOB_COMPLETE",
    "JOB_CREATED",
    "JOB_FAILED",
    "JOB_PENDING",
    "JOB_UNKNOWN",
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "PRIORITY_NONE",
    "DataEncoder",
    "GearmanAdminClient",
    "GearmanClient",
    "GearmanJob",
    "GearmanJobRequest",
    "GearmanWorker",
    "install",
]


def install() -> None:
    """Be what ``import gearman`` finds in this process, for code that cannot be edited.

    Call it before that code is imported.
    """
    sys.modules["gearman"] = sys.modules[__name__]
    for module in (admin_client, client, connection_manager, constants, errors, job, worker):
        sys.modules["gearman." + module.__name__.rpartition(".")[2]] = module
