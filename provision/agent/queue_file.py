"""How many jobs a job server of this host holds, whether it runs or not. It only reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from provision.agent.system import QueryFailed, run_query
from provision.agent.text_answer import connect_admin, read_answer

QUEUE = "queue.db"
WAITING_JOBS = """
    SELECT function, count(*) FROM job WHERE substr(function, 1, 1) != x'00' GROUP BY function
"""
# The file is its owner's, who may have put anything in its place: a pipe, a link, a view without
# end. So it is read with the owner's rights, for a limited time and in limited memory.
READ_JOBS = """
import json, os, resource, sqlite3, sys
source, question, owner = sys.argv[1:]
sys.tracebacklimit = 0
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
if os.geteuid() != int(owner):
    os.setgroups([])
    os.setgid(65534)
    os.setuid(int(owner))
rows = sqlite3.connect(source, uri=True).execute(question).fetchmany(100_000)
print(json.dumps([(bytes(name).decode(errors="backslashreplace"), count) for name, count in rows]))
"""
ADMIN_TIMEOUT = 3.0  # seconds for each part of an answer


def count_jobs(folder: str, admin: str) -> dict[str, Any] | None:
    """The jobs of each function: what the server says at its socket ``admin``, or else its file.

    None: it does not run, and has no ``folder``. ``kept``: that is empty, or a queue is in it.
    """
    jobs = ask_server(admin)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return None if jobs is None else {"jobs": jobs, "kept": False}
    kept = not names or any(name.startswith(QUEUE) for name in names)
    if jobs is None:
        jobs = _read_file(folder) if QUEUE in names else {}
    return {"jobs": jobs, "kept": kept}


def ask_server(admin: str) -> dict[str, int] | None:
    """How many jobs of each function a server says that it has; None when no server is there."""
    if not admin:
        return None
    try:
        with connect_admin(admin, ADMIN_TIMEOUT) as connection:
            connection.sendall(b"status\n")
            said = read_answer(connection)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    rows = [row.rsplit("\t", 3) for row in said.decode(errors="backslashreplace").splitlines()]
    counts = {row[0]: int(row[1]) for row in rows if len(row) == 4}
    return {name: count for name, count in counts.items() if count}


def _read_file(folder: str) -> dict[str, int]:
    """What a queue file holds that no server has open. Raises ValueError when it is not whole.

    Failed jobs that were kept, and restrictions, are no jobs that wait: their names begin with NUL.
    """
    wal = f"{folder}/{QUEUE}-wal"
    if os.path.exists(wal) and os.path.getsize(wal):
        raise ValueError(f"{folder}/{QUEUE} was not closed: start gearmand.service, and try again")
    # Unlike mode=ro, this makes no file beside it.
    source = f"file:{folder}/{QUEUE}?immutable=1"
    program = [sys.executable, "-I", "-S", "-c", READ_JOBS, source, WAITING_JOBS]
    try:
        said = run_query([*program, str(os.stat(folder).st_uid)])
    except (QueryFailed, subprocess.TimeoutExpired) as error:
        why = getattr(error, "said", "it takes too long").rpartition("\n")[2]
        raise ValueError(f"{folder}/{QUEUE} cannot be read: {why}") from None
    return dict(json.loads(said))
