"""A job's proof of which process did it, for whoever may read its memory: root of its host.

Any worker of a network may register any function, and answer for another. So a worker makes a key
when it starts, and keeps it where its own user and root alone can read it: in a file in memory
that only its descriptor names. A foreground job whose unique ID begins with UNIQUE_PREFIX is sent a
warning with its result: how many bytes that has, and an HMAC by this key of what the job was and
of the result. What the function sent before its result is not part of it.
"""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from typing import Self

from gearman_py.errors import DataTooLarge
from gearman_py.worker.job import WorkerJob

UNIQUE_PREFIX = "gearman-proof-"
KEY_FILE = "gearman-proof-key"  # as /proc/PID/fd shows it, after "/memfd:"
KEY_SIZE = 32
WARNING_PREFIX = "proof"


class JobProof:
    """Proves jobs of this process until it is closed."""

    def __init__(self, descriptor: int) -> None:
        self._key = secrets.token_bytes(KEY_SIZE)
        self._descriptor = descriptor
        os.write(descriptor, self._key)

    @classmethod
    def create(cls) -> Self | None:
        """None where the system has no files in memory, or does not allow one."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            return cls(os.memfd_create(KEY_FILE))
        except OSError:
            return None

    def close(self) -> None:
        """Forget the key."""
        os.close(self._descriptor)

    def send_proof(self, job: WorkerJob, result: bytes) -> None:
        """Send it, if the job asks for one."""
        if job.unique.startswith(UNIQUE_PREFIX):
            names = (os.fsencode(job.unique), os.fsencode(job.wire_function))
            proof = compute_proof(self._key, *names, job.workload, result)
            with suppress(DataTooLarge):
                job.send_warning(f"{WARNING_PREFIX} {len(result)} {proof}\n")


def compute_proof(key: bytes, *parts: bytes) -> str:
    """The HMAC-SHA256 of the parts' digests, in hexadecimal."""
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hmac.new(key, digests, hashlib.sha256).hexdigest()
