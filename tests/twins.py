"""Writes the blocking twins of asyncio modules: the same code without ``await``.

    .venv/bin/python -m tests.twins

The asyncio module is the one to change. What is not the same on both sides (sockets, event loops,
threads) is in modules that both have, written by hand, with the same names.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TWINS = {
    "gearman_py/admin/aio.py": "gearman_py/admin/client.py",
    "gearman_py/admin/aio_link.py": "gearman_py/admin/sync_link.py",
    "gearman_py/admin/aio_schedules.py": "gearman_py/admin/sync_schedules.py",
    "gearman_py/admin/aio_several.py": "gearman_py/admin/sync_several.py",
    "gearman_py/admin/aio_steering.py": "gearman_py/admin/sync_steering.py",
    "gearman_py/client/aio.py": "gearman_py/client/sync.py",
    "gearman_py/client/aio_dispatch.py": "gearman_py/client/sync_dispatch.py",
    "gearman_py/client/aio_job.py": "gearman_py/client/sync_job.py",
    "gearman_py/client/aio_map.py": "gearman_py/client/sync_map.py",
}
RULES = [
    (r"\bawait ", ""),
    (r"\basync (?=def|for|with)", ""),
    (r"\bAsync(?=[A-Z])", ""),  # AsyncIterator too
    (r"\b__a(?=(enter|exit|iter|next)__)", "__"),
    (r"\b(?<=\.)aio(?=[_ ])", "sync"),
    (r"\bCoroutine\[Any, Any, ((?:[^][]|\[[^][]*\])*)\]", r"\1"),
    (r"\bPerLoop\b", "PerProcess"),
    (r"\bper_loop\b", "per_process"),
    (r"\bfrom asyncio import sleep\b", "from time import sleep"),
]
TEXTS = {
    "administers a job server, for asyncio": "administers a job server",
    "Tasks may share": "Threads may share",
    "before tasks share": "before threads share",
    "the client for asyncio": "the blocking client",
    "an AsyncClient": "a Client",
    "``await job`` or ``await job.result()`` waits": "``result()`` waits",
    "task that waits": "thread that waits",
    """\
Safe to use in several event loops, one after the other or in threads: each
    has its own connections. If a task is cancelled while it waits, the server still runs the job.
""": """\
Safe to use from several threads; a forked child opens its own connections.
""",
}


def blocking_source(path: str) -> str:
    """The blocking twin of an asyncio module."""
    text = (ROOT / path).read_text()
    text = re.sub(r"^( *).*  # async only\n(\1 +.*\n|\n(?=\1 ))*\n*", "", text, flags=re.MULTILINE)
    for theirs, ours in TEXTS.items():
        text = text.replace(theirs, ours)
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    text = f"# Written by tests/twins.py from {Path(path).name}; change that one.\n{text}"
    for command in (["check", "--select", "I,F401,UP028", "--fix", "--unsafe-fixes"], ["format"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "-q", "--stdin-filename", TWINS[path], "-"],
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


if __name__ == "__main__":
    for path, twin in TWINS.items():
        (ROOT / twin).write_text(blocking_source(path))
