"""gearmand --import: the queue of a C gearmand that was killed, in each store that it has here."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gearman_py import Client, Submit, Worker, WorkerJob
from gearman_py.client.arguments import Priority
from tests.interop.c_stores import STORES, CStore
from tests.job_servers import C_GEARMAND, OUR_GEARMAND, running_server
from tests.waiting import LIMIT

UUID = "5f3c2e5e-ec2d-11f1-aba2-02fc00000001"
IN_AN_HOUR = int(time.time()) + 3600
TABLE = """CREATE TABLE gearman_queue (unique_key TEXT, function_name TEXT, priority INTEGER,
    data BLOB, when_to_run INTEGER, PRIMARY KEY (unique_key, function_name))"""


def run_import(folder: Path, source: object, *options: str) -> subprocess.CompletedProcess[str]:
    """Import into the SQLite queue of the folder."""
    queue = ["-q", "sqlite", "--queue-file", str(folder / "queue.db")]
    command = [*OUR_GEARMAND, *queue, "--import", str(source), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


def drain(folder: Path, *functions: str) -> list[tuple[str, str, bytes]]:
    """What our server gives out of that queue: function, unique and workload."""
    (folder / "ours").mkdir(exist_ok=True)
    queue = ["-q", "sqlite", "--queue-file", str(folder / "queue.db")]
    with running_server([*OUR_GEARMAND, *queue], folder / "ours") as (host, port):
        done: list[tuple[str, str, bytes]] = []
        worker = Worker(f"{host}:{port}")

        def note(job: WorkerJob) -> None:
            done.append((job.function, job.unique, job.workload))

        for function in functions:
            worker.add_function(function, note)
        worker.work()
        return done


def submission(
    function: str, unique: str, workload: bytes = b"", priority: Priority = "normal", at: int = 0
) -> Submit:
    return Submit(
        function=function,
        unique=unique,
        workload=workload,
        priority=priority,
        at=at or None,
        background=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
def test_a_stored_queue_is_imported_whole(
    store: Callable[[Path], AbstractContextManager[CStore]], tmp_path: Path
) -> None:
    high = submission("count", "first", b"high", "high")
    jobs = [submission("count", f"number{n}", b"%d\0\xff" % n) for n in range(100)]
    jobs += [submission("re-size", UUID, b"x" * 100_000), submission("empty", "e")]
    low = submission("count", "last", b"low", "low")
    (tmp_path / "store").mkdir()
    with store(tmp_path / "store") as there:
        due = [submission("later", "then", at=IN_AN_HOUR)] if there.ordered else []
        with (
            running_server([*C_GEARMAND, *there.options], tmp_path) as (host, port),
            Client(f"{host}:{port}") as client,
        ):
            submitted = [low, *jobs, high, *due]
            assert not any(one.error for one in client.submit_many(submitted))
        done = run_import(tmp_path, there.source)
        total = len(submitted)
        assert done.stdout.startswith(f"imported {total} jobs (count 102, empty 1, "), done
        assert done.returncode == 0, done.stderr
        again = run_import(tmp_path, there.source)
        assert again.stdout == f"imported 0 jobs from {there.source}; {total} were there already\n"
    given = drain(tmp_path, "count", "re-size", "empty", "later")
    expected = [(each.function, each.unique, each.workload) for each in [high, *jobs, low]]
    assert sorted(given) == sorted(expected)  # and what is not due has not been given out
    if there.ordered:
        assert [each for each in given if each[0] == "count"] == [
            each for each in expected if each[0] == "count"
        ]


def test_what_is_not_a_job_is_listed_and_the_rest_is_imported(tmp_path: Path) -> None:
    source = tmp_path / "c.db"
    rows: list[tuple[object, ...]] = [
        ("a", "f", 1, b"1", 0),
        ("b", None, 1, b"2", 0),
        ("c", "f", 7, b"3", 0),
        ("d", "f", 1, 4, 0),
        ("e", "f", 1, None, None),
        ("g", "f", 1, b"", -5),
        ("h", "", "high", b"", 0),
        ("i\n", "f\x1b[2J", 1.5, b"", 0),
    ]
    with sqlite3.connect(source) as connection:
        connection.execute(TABLE)
        connection.executemany("INSERT INTO gearman_queue VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()
    done = run_import(tmp_path, f"libsqlite3:{source}")
    assert done.stdout == f"imported 2 jobs (f 2) from libsqlite3:{source}; 6 could not be read\n"
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"gearmand: not imported: {line}"
        for line in (
            "function NULL, unique 'b': its function is NULL",
            "function 'f', unique 'c': its priority is 7, not 0, 1 or 2",
            "function 'f', unique 'd': its workload is 4",
            "function 'f', unique 'g': its time is -5",
            "function '', unique 'h': its function is ''",
            "function 'f\\x1b[2J', unique 'i\\n': its priority is 1.5, not 0, 1 or 2",
        )
    ]
    assert drain(tmp_path, "f") == [("f", "a", b"1"), ("f", "e", b"")]


def test_a_crash_amid_a_transaction_is_undone_in_a_copy(tmp_path: Path) -> None:
    source = tmp_path / "c" / "c.db"
    source.parent.mkdir()
    program = f"""
import os, sqlite3
connection = sqlite3.connect({str(source)!r}, isolation_level=None)
connection.execute("PRAGMA cache_size = 2")
connection.execute({TABLE!r})
insert = "INSERT INTO gearman_queue VALUES (?, 'f', 1, ?, 0)"
connection.execute(insert, ("stored", b""))
connection.execute("BEGIN")
connection.executemany(insert, ((str(n), b"x" * 9000) for n in range(100)))
os._exit(0)
"""  # noqa: S608 - the table is the C gearmand's
    subprocess.run([sys.executable, "-c", program], check=True)
    before = {each.name: each.read_bytes() for each in source.parent.iterdir()}
    assert before.keys() == {"c.db", "c.db-journal"}
    done = run_import(tmp_path, f"libsqlite3:{source}")
    assert done.stdout == f"imported 1 job (f 1) from libsqlite3:{source}\n"
    assert {each.name: each.read_bytes() for each in source.parent.iterdir()} == before


def test_a_file_that_is_damaged_gives_what_can_be_read(tmp_path: Path) -> None:
    source = tmp_path / "c.db"
    with sqlite3.connect(source) as connection:
        connection.execute(TABLE)
        insert = "INSERT INTO gearman_queue VALUES (?, 'f', 1, ?, 0)"
        connection.executemany(insert, ((str(n), b"x" * 3000) for n in range(100)))
    connection.close()
    content = source.read_bytes()
    source.write_bytes(content[:200_000] + b"\xaa" * 40_000 + content[240_000:])
    done = run_import(tmp_path, f"libsqlite3:{source}")
    assert done.returncode == 1
    assert f"gearmand: not imported: what follows in {source}: " in done.stderr
    assert f"from libsqlite3:{source}; 1 could not be read" in done.stdout
    imported = int(done.stdout.split()[1])
    assert imported == len(drain(tmp_path, "f")) > 20


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("libsqlite3:{folder}/none.db", "{folder}/none.db: no such file"),
        ("libsqlite3:{folder}", "{folder}: not a file"),
        ("libsqlite3:", "the file is missing: libsqlite3:FILE"),
        ("libsqlite3:/etc/passwd", "/etc/passwd: file is not a database"),
        ("file.db", "unknown type 'file.db'; expected libsqlite3, libpq, mysql, redis or"),
        ("redis:hots=x", "'hots=x' is not KEY=VALUE with the key host, port, prefix, passfile or"),
        ("redis:prefix='x", "a single quote is not closed"),
        ("redis:port=x", "port: 'x' is not a number"),
        ("redis:port=1", "Error 111 connecting to 127.0.0.1:1"),
        ("redis:passfile={folder}/none", "{folder}/none: No such file or directory"),
        ("libmemcached:port=1", "127.0.0.1:1: Connection refused"),
        ("mysql:host=127.0.0.1 port=1", "2003: Can't connect to MySQL server on '127.0.0.1'"),
        ("mysql:password=x", "every user of this machine could read the password: use passfile="),
        ("libpq:host=127.0.0.1 port=1", "connection failed: "),
        ("libpq:nothing=1", 'invalid connection option "nothing"'),
        ("libpq:password=x", "every user of this machine could read the password: set $PGPASSFILE"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(source: str, message: str, tmp_path: Path) -> None:
    done = run_import(tmp_path, source.format(folder=tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"gearmand: --import: {message.format(folder=tmp_path)}")


def test_jobs_are_not_imported_into_memory(tmp_path: Path) -> None:
    done = run_import(tmp_path, "libsqlite3:x", "-q", "builtin", "--queue-file", "")
    assert "--import: jobs in memory are lost at the exit; choose another -q" in done.stderr
