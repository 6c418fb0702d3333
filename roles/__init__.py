"""Which inventory group gets which roles, in the order in which a deploy goes through them.

A role is a generator of resources: it says what a host of its kind should be. `tasks.py` hands
this table to the engine, which knows no role and no group by name.
"""

from roles.base import base
from roles.client import client
from roles.dashboard import dashboard
from roles.former import former, retired
from roles.job_server import job_server
from roles.runtime import runtime
from roles.worker import worker

ROLES = {
    "job_server": (base, runtime, job_server, former),
    "worker": (base, runtime, worker, former),
    "client": (base, runtime, client, former),
    "dashboard": (base, runtime, dashboard, former),
}
RETIRED = ROLES | {"retired": (retired,), "retired_server": (retired,)}
"""The same with hosts that leave the fleet, job servers last."""
