"""What a deployed worker is, as a part of its client id: host:pid,pool=resize,release=1a2b3c.

Whoever starts a worker may say so in GEARMAN_WORKER_LABELS, as pairs of names and values between
commas. The page of a dashboard groups workers by pool, app and release.
"""

import os
from pathlib import Path

VARIABLE = "GEARMAN_WORKER_LABELS"


def add_labels(client_id: str) -> str:
    """The client id with the labels of this process's environment."""
    pairs = [pair.partition("=") for pair in os.environ.get(VARIABLE, "").split(",")]
    labels = [f",{name.strip()}={_resolve(value)}" for name, _, value in pairs if value.strip()]
    return client_id + "".join(labels)


def _resolve(value: str) -> str:
    """As one word; an absolute path is the name of what it leads to, as a link to a release."""
    value = value.strip()
    if value.startswith("/"):
        value = Path(value).resolve().name
    return "_".join(value.split())
