"""What the queue file of a job server that does not run says of its jobs."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gearman_py.broker.failed_jobs import FAILED_NAME
from gearman_py.broker.restriction_records import RECORD_NAME
from gearman_py.store.sqlite_file import MIGRATIONS
from provision.agent.queue_file import count_jobs


def test_failed_jobs_that_were_kept_and_restrictions_do_not_wait(tmp_path: Path) -> None:
    """Otherwise a job server that keeps a failed job could never be taken down."""
    with closing(sqlite3.connect(tmp_path / "queue.db")) as file, file:
        file.executescript(MIGRATIONS[0])
        for number, function in enumerate([FAILED_NAME, RECORD_NAME, b"wc", b"wc"]):
            row = (number, function, b"", 1, 0, b"", b"", 0, 0)
            file.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    assert count_jobs(str(tmp_path), "") == {"jobs": {"wc": 2}, "kept": True}
