"""That a job was done by a process of the unit that it was for, and of the release that it runs.

Any worker that reaches a job server may register any function. A worker of gearman_py proves a job
with a key that root of its host can read; see gearman_py/worker/job_proof.py.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import hmac
import io
import os
import re
import secrets
import stat
from collections.abc import Callable

from provision.agent.change import OPERATIONS, run_job
from provision.agent.files import Content, Failure, copy_content
from provision.agent.link import FrameLink
from provision.agent.processes import is_run_from, pids_of_unit

MODULE = "venv/lib/python3*/site-packages/gearman_py/worker/job_proof.py"
# As gearman_py/worker/job_proof.py has them, which is not here to import; a test compares.
KEY_LINK = "/memfd:gearman-proof-key"
KEY_SIZE = 32
UNIQUE_PREFIX = "gearman-proof-"
PROOF = re.compile(r"^proof (\d{1,10}) ([0-9a-f]{64})$", re.MULTILINE)
ATTEMPTS = 5  # jobs, until one is done by whom it was for
ATTEMPT_PAUSE = 0.5  # seconds, in which a worker that leaves does so


def submit_proved(
    link: FrameLink,
    content: Content,
    command: list[str],
    seconds: float,
    function: str,
    unit: str,
    release: str,
    while_: Callable[[], bool] = lambda: True,
) -> str:
    """Run a command that submits a job for ``function``: what it answered, in base64.

    Raises :class:`Failure` unless a process of ``unit`` that runs from ``release``, a folder, has
    done it. One of a release that is from before proofs is believed.
    """
    workload = io.BytesIO()
    copy_content(content, workload)
    proves = bool(glob.glob(f"{glob.escape(release)}/{MODULE}"))
    for _ in range(ATTEMPTS if proves else 1):
        unique = UNIQUE_PREFIX + secrets.token_hex(16)
        workload.seek(0)
        answer, said = run_job(link, workload, [*command, "-u", unique], seconds, while_)
        parts = (unique.encode(), os.fsencode(function), workload.getvalue())
        if not proves or is_proved(unit, release, parts, answer, said):
            return base64.b64encode(answer).decode()
        link.wait(seconds=ATTEMPT_PAUSE)
    raise Failure(
        f"{function} was answered by another worker than that of this host: `gearadmin --workers` "
        f"shows who serves it; {unit} alone should"
    )


def is_proved(unit: str, release: str, parts: tuple[bytes, ...], answer: bytes, said: str) -> bool:
    """Whether a process of ``unit`` that runs from ``release`` has proved this answer."""
    if not (found := PROOF.search(said)):
        return False
    size = int(found[1])
    result = answer[len(answer) - size :] if size <= len(answer) else b""
    digests = b"".join(hashlib.sha256(part).digest() for part in (*parts, result))
    pids = [pid for pid in pids_of_unit(unit) if is_run_from(pid, release)]
    expected = (hmac.new(key, digests, hashlib.sha256).hexdigest() for key in map(find_key, pids))
    return any(hmac.compare_digest(each, found[2]) for each in expected)


def find_key(pid: int) -> bytes:
    """The key by which a process proves jobs; a random one if it has none."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            if os.readlink(f"{folder}/{name}").startswith(KEY_LINK):
                # Its owner may put a pipe in its place, or hold a lease on it.
                with open(f"{folder}/{name}", "rb", opener=open_without_wait) as file:
                    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        return file.read(KEY_SIZE)
    except OSError:  # it is gone
        pass
    return secrets.token_bytes(KEY_SIZE)


def open_without_wait(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


OPERATIONS["proved_job"] = submit_proved
