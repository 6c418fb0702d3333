"""Priorities and job states, with their names in python-gearman."""

DEFAULT_GEARMAN_PORT = 4730

PRIORITY_NONE = None
PRIORITY_LOW = "LOW"
PRIORITY_HIGH = "HIGH"

JOB_UNKNOWN = "UNKNOWN"  # not submitted, or its server was lost
JOB_PENDING = "PENDING"  # submitted, and not yet accepted
JOB_CREATED = "CREATED"  # accepted
JOB_FAILED = "FAILED"
JOB_COMPLETE = "COMPLETE"
