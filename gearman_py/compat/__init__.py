"""The classes and hooks of python-gearman (gearman 2, gearman3, pygearman) on top of gearman_py.

from gearman_py import compat as gearman

is all it takes to migrate; ``gearman.errors``, ``gearman.job``, ``gearman.constants`` and the other
modules have the same names. For code that cannot be edited there is ``install()``. The differences
from pygearman 0.2.6 are listed in docs/coming-from.md.
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
"""The version of pygearman that this follows."""

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
    """Make ``import gearman`` find this package, for code that cannot be edited.

    Call it before that code is imported.
    """
    sys.modules["gearman"] = sys.modules[__name__]
    for module in (admin_client, client, connection_manager, constants, errors, job, worker):
        sys.modules["gearman." + module.__name__.rpartition(".")[2]] = module
