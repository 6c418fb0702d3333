"""gearmand --import: the queue of a C gearmand that was killed, in each store that it has here."""

import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psycopg
import pytest
import redis

from gearman_py import AdminClient, Client, Submit, Worker, WorkerJob
from gearman_py.c_queue.open_file import find_holder
from gearman_py.client.arguments import Priority
from gearman_py.server.import_queue import MOST_BYTES, MOST_JOBS
from tests.forked import run_text
from tests.interop import c_stores
from tests.interop.c_stores import STORES, CStore
from tests.job_servers import (
    C_GEARMAND,
    OUR_GEARMAND,
    GearmandProcess,
    running_process,
    running_server,
)
from tests.waiting import LIMIT, await_result, await_true

UUID = "5f3c2e5e-ec2d-11f1-aba2-02fc00000001"
NOBODY = 65534
IN_AN_HOUR = int(time.time()) + 3600
TABLE = """CREATE TABLE gearman_queue (unique_key TEXT, function_name TEXT, priority INTEGER,
    data BLOB, when_to_run INTEGER, PRIMARY KEY (unique_key, function_name))"""


def run_import(
    folder: Path, source: object, queue: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Import into the SQLite queue of the folder, or another."""
    queue = queue or ["-q", "sqlite", "--queue-file", str(folder / "queue.db")]
    return run_text("gearmand", *queue, "--import", str(source), timeout=LIMIT)


def import_closed(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Import once the database knows that the C server is gone."""
    return await_result(lambda: _import_unless_open(folder, source), OSError)


def _import_unless_open(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    done = run_import(folder, source)
    if "stop the C server first" in done.stderr:
        raise OSError(done.stderr)
    return done


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
    bare = [submission("bare", "", b"one"), submission("bare", "-")]
    cut = submission("cut", "v" * 64, b"cut")
    low = submission("count", "last", b"low", "low")
    (tmp_path / "store").mkdir()
    with store(tmp_path / "store") as there:
        source = there.source if there.ordered else f"{there.source} functions=re-size,bare"
        due = [submission("later", "then", at=IN_AN_HOUR)] if there.ordered else []
        with (
            running_server([*C_GEARMAND, *there.options], tmp_path) as (host, port),
            Client(f"{host}:{port}") as client,
        ):
            submitted = [low, *jobs, high, *due, *bare, cut]
            assert not any(one.error for one in client.submit_many(submitted))
            if there.tells_clients:
                refused = run_import(tmp_path, source)
                assert "stop the C server first, or add in_use=ignore if " in refused.stderr
                assert (refused.stdout, refused.returncode) == ("", 1)
        done = import_closed(tmp_path, source)
        total = len(submitted)
        assert done.stdout.startswith(f"imported {total} jobs (bare 2, count 102, cut 1, "), done
        assert done.returncode == 0, done.stderr
        again = run_import(tmp_path, source)
        assert again.stdout == f"imported 0 jobs from {source}; {total} were imported before\n"
    given = drain(tmp_path, "count", "re-size", "empty", "later")
    expected = [(each.function, each.unique, each.workload) for each in [high, *jobs, low]]
    assert sorted(given) == sorted(expected)  # and what is not due has not been given out
    assert sorted(each[2] for each in drain(tmp_path, "bare")) == [b"", b"one"]
    [(_, unique, workload)] = drain(tmp_path, "cut")
    assert (unique.strip(), workload) == ("v" * 63, b"cut")  # as C keeps it; Redis pads it
    if there.ordered:
        assert [each for each in given if each[0] == "count"] == [
            each for each in expected if each[0] == "count"
        ]


@pytest.mark.slow
def test_many_groups_of_jobs_run_once_in_their_order(tmp_path: Path) -> None:
    priorities: tuple[Priority, ...] = "high", "normal", "low"
    many = range(10 * MOST_JOBS + 1)
    with TemporaryDirectory(dir="/dev/shm") as memory:  # the C server syncs after each job
        with (
            c_stores.sqlite(Path(memory)) as there,
            running_server([*C_GEARMAND, *there.options], tmp_path) as (host, port),
            Client(f"{host}:{port}") as client,
        ):
            jobs = (submission("f", f"{n}", b"%d\0\xff" % n, priorities[n % 3]) for n in many)
            assert not any(one.error for one in client.submit_many(jobs))
        with closing(sqlite3.connect(there.options[-1])) as connection, connection:
            connection.execute("INSERT INTO gearman_queue VALUES ('bad', 'f', 9, '', 0)")
        content = Path(there.options[-1]).read_bytes()
        done = run_import(tmp_path, there.source)
        assert Path(there.options[-1]).read_bytes() == content
    assert done.stdout == (
        f"imported {len(many)} jobs (f {len(many)}) from {there.source}; 1 could not be read\n"
    )
    reason = "function 'f', unique 'bad': its priority is 9, not 0, 1 or 2"
    assert done.stderr == f"gearmand: not imported: {reason}\n"
    assert drain(tmp_path, "f") == [
        ("f", f"{n}", b"%d\0\xff" % n) for n in sorted(many, key=lambda n: (n % 3, n))
    ]


@pytest.mark.parametrize("given", [(), ("-u", "nobody")], ids=["root", "nobody"])
def test_a_file_that_a_process_has_open_is_refused(given: Sequence[str], tmp_path: Path) -> None:
    source = make_source(tmp_path / "c.db", [("1", "f", b"")])
    queue = ["-q", "sqlite", "--queue-file", str(tmp_path / "queue.db"), *given]
    name = Path("/proc/self/comm").read_text().strip()
    with (tmp_path / "c.db").open():
        done = run_import(tmp_path, source, queue)
        assert done.stderr == (
            f"gearmand: --import: process {os.getpid()} ({name}) has {tmp_path}/c.db open: stop "
            "the C server first, or add in_use=ignore if that is something else\n"
        )
        ignored = f"libsqlite3:file={tmp_path}/c.db in_use=ignore"
        assert run_import(tmp_path, ignored).stdout.startswith("imported 1 job (f 1) from ")


def test_other_users_know_a_c_server_by_its_arguments(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder).chmod(0o755)
        with c_stores.sqlite(Path(folder)) as there:
            path = Path(there.options[-1])
            with running_process([*C_GEARMAND, *there.options, "-p", "0", "-l", "none"]) as process:
                await_true(path.exists)
                with ProcessPoolExecutor(1, initializer=os.setuid, initargs=(NOBODY,)) as pool:
                    holder = pool.submit(find_holder, path).result(LIMIT)
            assert holder == f"process {process.pid} (gearmand)"
            assert find_holder(path) == ""


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
            "function NULL, unique 'b': its function is NULL, not a name",
            "function 'f', unique 'c': its priority is 7, not 0, 1 or 2",
            "function 'f', unique 'd': its workload is 4, not bytes",
            "function 'f', unique 'g': its time is -5, not seconds since 1970",
            "function '', unique 'h': its function is '', not a name",
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
    assert f"; run `sqlite3 {source} .recover | sqlite3 NEW`, and import NEW too" in done.stderr
    assert f"from libsqlite3:{source}; it is not known how many could not be read" in done.stdout
    imported = int(done.stdout.split()[1])
    assert imported == len(drain(tmp_path, "f")) > 20


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("libsqlite3:{folder}/none.db", "{folder}/none.db: no such file"),
        ("libsqlite3:{folder}", "{folder}: not a file"),
        ("libsqlite3:", "the file is missing: libsqlite3:FILE"),
        ("libsqlite3:/etc/passwd", "/etc/passwd: file is not a database"),
        ("libsqlite3:{folder}/zero", "{folder}/zero: it has no table 'gearman_queue' of a C gea"),
        ("libsqlite3:{folder}/other", "{folder}/other: it has no table 'gearman_queue' of a C ge"),
        ("libsqlite3:file=x in_use=x", "in_use: 'x' is not refuse or ignore"),
        ("file.db", "unknown type 'file.db'; expected libsqlite3, libpq, mysql, redis or"),
        ("redis:hots=x", "'hots=x' is not KEY=VALUE with the key host, port, prefix, passfile,"),
        ("redis:prefix='x", "a single quote is not closed"),
        ("redis:port=x", "port: 'x' is not a number"),
        ("redis:port=1", "Error 111 connecting to 127.0.0.1:1"),
        ("redis:passfile={folder}/none", "{folder}/none: No such file or directory"),
        ("libmemcached:port=1", "127.0.0.1:1: Connection refused"),
        ("mysql:host=127.0.0.1 port=1", "2003: Can't connect to MySQL server on '127.0.0.1'"),
        ("mysql:password=x", "every user of this machine could read the password: use passfile="),
        ("libpq:host=127.0.0.1 port=1", "connection failed: "),
        ("mysql:db=x passfile=", "passfile: the value is empty"),
        ("libpq:nothing=1", 'invalid connection option "nothing"'),
        ("libpq:password=x", "every user of this machine could read the password: set $PGPASSFILE"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "zero").touch()
    with closing(sqlite3.connect(tmp_path / "other")) as connection, connection:
        connection.execute("CREATE TABLE gearman_queue (id INTEGER PRIMARY KEY, data BLOB)")
    done = run_import(tmp_path, source.format(folder=tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"gearmand: --import: {message.format(folder=tmp_path)}")


def test_jobs_are_not_imported_into_memory() -> None:
    done = run_text("gearmand", "--import", "libsqlite3:x", timeout=LIMIT)
    assert "--import: jobs in memory are lost at the exit; choose another -q" in done.stderr


@pytest.mark.parametrize("option", ["--import", "--config-file", "--user", "-L", "--pid-file"])
def test_an_option_whose_value_is_empty_is_refused(option: str) -> None:
    done = run_text("gearmand", "-p", "0", option, "", timeout=LIMIT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith(": the value is empty")


def make_source(path: Path, rows: Sequence[tuple[object, ...]]) -> str:
    """A queue file of the C gearmand with rows of unique, function and workload."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(TABLE)
        insert = "INSERT INTO gearman_queue VALUES (?, ?, 1, ?, 0)"
        connection.executemany(insert, rows)
    return f"libsqlite3:{path}"


def test_jobs_without_a_unique_are_imported_once_from_each_source(tmp_path: Path) -> None:
    rows = [(None, "f", b"same"), (None, "f", b"same"), ("", "f", b"other"), ("-", "f", b"")]
    first, second = (make_source(tmp_path / name, rows) for name in ("a.db", "b.db"))
    assert run_import(tmp_path, first).stdout.startswith("imported 4 jobs (f 4) from ")
    assert run_import(tmp_path, second).stdout.startswith("imported 4 jobs (f 4) from ")
    again = run_import(tmp_path, f"libsqlite3:file={tmp_path}/../{tmp_path.name}/a.db")
    assert again.stdout.startswith("imported 0 jobs from ")
    assert again.stdout.endswith("; 4 were imported before\n")
    done = sorted(workload for *_, workload in drain(tmp_path, "f"))
    assert done == sorted(2 * [b"same", b"same", b"other", b""])


def test_two_uniques_that_c_cut_to_the_same_are_two_jobs(tmp_path: Path) -> None:
    source = make_source(
        tmp_path / "c.db",
        [("v" * 63, "f", b"1"), ("v" * 63 + "\0", "f", b"2"), ("a\0b", "f", b"3")],
    )
    done = run_import(tmp_path, source)
    assert done.stdout.startswith("imported 2 jobs (f 2) from ")
    assert "its unique is 'a\\x00b', not text without NUL bytes" in done.stderr
    assert run_import(tmp_path, source).stdout.startswith("imported 0 jobs from ")
    assert sorted(drain(tmp_path, "f")) == [("f", "v" * 63, b"1"), ("f", "v" * 63, b"2")]


def test_names_in_the_last_line_are_printable_and_bounded(tmp_path: Path) -> None:
    names = [b"tab\t", b"bin\xff", b"x" * 500, *(b"f%02d" % n for n in range(20))]
    rows = [(f"{n}", name.decode("latin-1"), b"") for n, name in enumerate(names)]
    rows += [("more", "bin\xff", b""), ("more", "tab\t", b""), ("more", "x" * 500, b"")]
    source = make_source(tmp_path / "c.db", rows)
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection, connection:
        connection.execute(
            "UPDATE gearman_queue SET function_name = CAST(X'62696eff' AS TEXT) "
            "WHERE function_name LIKE 'bin%'"
        )
    [line] = run_import(tmp_path, source).stdout.splitlines()
    assert line.startswith("imported 26 jobs (bin\\xff 2, f00 1, f01 1, ")
    assert f", tab\\t 2, {'x' * 50} ... (400 characters left out) ... {'x' * 50} 2, " in line
    assert f" 2, and 13 more functions) from {source}" in line


class SilentMemcached(NamedTuple):
    """``silent``: it was asked for what it does not give; ``over``: it is to end."""

    source: str
    silent: threading.Event
    over: threading.Event


@contextmanager
def silent_memcached(keys: Sequence[bytes], workload: bytes) -> Iterator[SilentMemcached]:
    """A memcached that lists these keys, gives the first, and then nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1) as pool:
        silent, over = threading.Event(), threading.Event()

        def serve() -> None:
            door.settimeout(LIMIT)
            connection, _ = door.accept()
            with connection, connection.makefile("rwb") as stream:
                connection.settimeout(LIMIT)
                stream.readline()
                stream.writelines(b"key=%b exp=-1\r\n" % key for key in keys)
                stream.write(b"END\r\n")
                stream.flush()
                asked = stream.readline().split()[1]
                stream.write(b"VALUE %b 1 %d\r\n%b\r\nEND\r\n" % (asked, len(workload), workload))
                stream.flush()
                stream.readline()
                silent.set()
                over.wait(LIMIT)

        served = pool.submit(serve)
        try:
            yield SilentMemcached(f"libmemcached:port={door.getsockname()[1]}", silent, over)
        finally:
            over.set()
            served.result()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_an_import_that_is_interrupted_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    queue = ["-q", "sqlite", "--queue-file", str(tmp_path / "queue.db")]
    large = bytes(MOST_BYTES)  # is committed at once
    with silent_memcached([b"gear_f-1", b"gear_f-2"], large) as there:
        command = [*OUR_GEARMAND, *queue, "--import", there.source]
        with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
            try:
                assert there.silent.wait(LIMIT)
                process.send_signal(number)
                said, told = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
    assert process.returncode == 128 + number
    assert said == ""
    assert told == (
        f"gearmand: {number.name}: imported 1 job (f 1) from {there.source}; "
        "run the same command again to import the rest\n"
    )
    assert drain(tmp_path, "f") == [("f", "1", large)]


def test_a_source_that_breaks_says_what_was_imported(tmp_path: Path) -> None:
    with silent_memcached([b"gear_f-1", b"gear_f-2"], bytes(MOST_BYTES)) as there:
        queue = ["-q", "sqlite", "--queue-file", str(tmp_path / "queue.db")]
        command = [*OUR_GEARMAND, *queue, "--import", there.source]
        with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
            try:
                assert there.silent.wait(LIMIT)
                there.over.set()
                _, told = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
    assert process.returncode == 1
    assert told.startswith("gearmand: --import: memcached closed the connection; imported 1 job ")


def test_only_the_prefix_tells_which_keys_are_jobs(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for store in (c_stores.redis, c_stores.memcached):
        with store(tmp_path / "store") as there:
            port = int(there.source.partition("=")[2])
            done = run_import(tmp_path, there.source)
            assert done.returncode == 1
            assert "found 0 jobs: no key begins with '" in done.stderr
            assert "gear_" in done.stderr
            assert "' (0 keys with another beginning): the queue is empty" in done.stderr
            keys = put_keys(store, port, {"_gear_-f-u": b"1", "gear_f-u": b"1"})
            done = run_import(tmp_path, f"{there.source} prefix=zzz")
            assert done.returncode == 1
            assert done.stdout == ""
            assert "found 0 jobs: no key begins with 'zzz" in done.stderr
            assert f"' ({keys} keys with another beginning): " in done.stderr


def put_keys(store: Callable[..., object], port: int, keys: dict[str, bytes]) -> int:
    """Store workloads under these keys; return how many there are."""
    if store is c_stores.redis:
        with redis.Redis(port=port) as connection:
            connection.mset(dict(keys))
    else:
        with (
            socket.create_connection(("127.0.0.1", port), LIMIT) as connection,
            connection.makefile("rwb") as stream,
        ):
            for key, workload in keys.items():
                head = key.encode(), len(workload)
                stream.write(b"set %b 1 0 %d\r\n" % head + workload + b"\r\n")
                stream.flush()
                assert stream.readline() == b"STORED\r\n"
    return len(keys)


@pytest.mark.parametrize(
    ("store", "prefix"),
    [(c_stores.redis, "_gear_-"), (c_stores.memcached, "gear_")],
    ids=["redis", "memcached"],
)
def test_a_key_that_can_be_split_in_two_ways_is_not_imported(
    store: Callable[[Path], AbstractContextManager[CStore]], prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    ambiguous = [f"mail-user-{UUID}", f"re-size-{UUID}", "a-b-c"]
    with store(tmp_path / "store") as there:
        names = [f"mail-{UUID}", "mail-1", "mail-", *ambiguous]
        port = int(there.source.partition("=")[2])
        put_keys(store, port, {prefix + name: b"" for name in names})
        done = run_import(tmp_path, there.source)
        assert done.returncode == 1
        assert done.stderr.count("does not tell where its function ends; add functions=") == 3
        assert all(f"key '{prefix}{name}'" in done.stderr for name in ambiguous)
        done = run_import(tmp_path, f"{there.source} functions=mail,mail-user,re-size,a")
        assert done.stderr == (
            f"gearmand: not imported: key '{prefix}mail-user-{UUID}': functions= names 'mail' "
            "and 'mail-user', which both fit; name one of them\n"
        )
        done = run_import(tmp_path, f"{there.source} functions=mail,re-size,a")
        assert (done.stderr, done.returncode) == ("", 0)
    given = [each[:2] for each in drain(tmp_path, "mail", "re-size", "a")]
    [bare] = {unique for _, unique in given} - {UUID, "1", f"user-{UUID}", "b-c"}
    mail = [("mail", UUID), ("mail", "1"), ("mail", f"user-{UUID}"), ("mail", bare)]
    assert sorted(given) == sorted([*mail, ("re-size", UUID), ("a", "b-c")])


def test_an_odd_key_does_not_end_an_import(tmp_path: Path) -> None:
    with c_stores.memcached(tmp_path) as there:
        port = int(there.source.partition("=")[2])
        put_keys(c_stores.memcached, port, {f"gear_f-{n}": b"" for n in range(20)})
        put_keys(c_stores.memcached, port, {"gear_tab\tf-t\tu": b"tab"})
        with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
            key = b"gear_f-a space"  # which the binary protocol accepts
            extras = bytes(8)
            size = len(extras) + len(key)
            head = struct.pack(">BBHBBHIIQ", 0x80, 1, len(key), len(extras), 0, 0, size, 0, 0)
            connection.sendall(head + extras + key)
            assert connection.recv(24)[6:8] == b"\0\0"
        done = run_import(tmp_path, there.source)
    assert done.stdout.startswith("imported 21 jobs (f 20, tab\\tf 1) from ")
    assert done.stdout.endswith("; 1 could not be read\n")
    assert done.returncode == 1
    assert done.stderr == (
        "gearmand: not imported: key 'gear_f-a space': memcached does not give a key with a space "
        "or the end of a line\n"
    )
    assert ("tab\tf", "t\tu", b"tab") in drain(tmp_path, "tab\tf")


@pytest.mark.slow
def test_rows_of_postgres_come_in_order_after_others_were_vacuumed(tmp_path: Path) -> None:
    with c_stores.postgres(tmp_path) as there:
        with running_server([*C_GEARMAND, *there.options], tmp_path) as (host, port):
            submit_background(f"{host}:{port}", [("done", n) for n in range(60)])
            submit_background(f"{host}:{port}", [("order", n) for n in range(30)])
            worker = Worker(f"{host}:{port}")
            worker.add_function("done", lambda _: b"")
            worker.work()
            conninfo = there.source.partition(":")[2]
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute("VACUUM queue")
                submit_background(f"{host}:{port}", [("order", n) for n in range(30, 60)])
                physical = connection.execute("SELECT unique_key FROM queue").fetchall()
                assert physical[0][0] == "30"  # it takes the place of one that was done
        assert import_closed(tmp_path, there.source).returncode == 0
    assert [unique for _, unique, _ in drain(tmp_path, "order")] == [f"{n}" for n in range(60)]


def submit_background(server: str, jobs: Sequence[tuple[str, int]]) -> None:
    with Client(server) as client:
        submitted = [submission(function, f"{number}") for function, number in jobs]
        assert not any(one.error for one in client.submit_many(submitted))


@contextmanager
def shared_queue(store: str, folder: Path) -> Iterator[list[str]]:
    """A database, and the options for our queue in it."""
    with getattr(c_stores, store)(folder) as database:
        where = database.source.partition(":")[2]
        if store == "redis":
            yield ["-q", "redis", "--redis-port", where.partition("=")[2]]
        else:
            yield ["-q", "libpq", "--postgres", where]


@contextmanager
def file_queue(folder: Path) -> Iterator[list[str]]:
    yield ["-q", "sqlite", "--queue-file", str(folder / "queue.db")]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
def test_what_was_done_since_is_not_imported_again(kind: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    rows = [("1", "f", b""), ("2", "f", b""), (None, "f", b"none"), ("", "", b"")]
    source = make_source(tmp_path / "c.db", rows)
    database, where = tmp_path / "store", ["-v", "-L", "127.0.0.1", "-p", "0"]
    opened = file_queue(database) if kind == "sqlite" else shared_queue(kind, database)
    with opened as queue:
        assert run_import(tmp_path, source, queue).stdout.startswith("imported 3 jobs (f 3) from ")
        for expected in (3, 0):
            with GearmandProcess([*where, *queue], tmp_path) as ours:
                host, port = ours.listening()
                done = []
                worker = Worker(f"{host}:{port}")
                worker.add_function("f", lambda job: done.append(job.unique))  # noqa: B023
                await_true(lambda: worker.work() or len(done) >= expected)  # noqa: B023
                with AdminClient(f"{host}:{port}") as admin:
                    assert [row.name for row in admin.status()] in ([], ["f"])
                assert ours.end() == 0
            assert len(done) == expected
            again = run_import(tmp_path, source, queue)
            assert again.stdout == (
                f"imported 0 jobs from {source}; 3 were imported before; 1 could not be read\n"
            )
        more = run_import(tmp_path, f"libsqlite3:file={tmp_path}/c.db again=yes", queue)
        assert more.stdout.startswith("imported 3 jobs (f 3) from ")


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_what_others_hold_of_a_shared_database_is_not_imported_again(
    store: str, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    source = make_source(tmp_path / "c.db", [(f"{number}", "f", b"") for number in range(4)])
    with shared_queue(store, tmp_path / "store") as queue:
        with silent_memcached([b"gear_f-0", b"gear_f-1"], bytes(MOST_BYTES)) as there:
            command = [*OUR_GEARMAND, *queue, "--import", there.source]
            with subprocess.Popen(command) as interrupted:
                try:
                    assert there.silent.wait(LIMIT)
                finally:
                    interrupted.kill()
        with running_server([*OUR_GEARMAND, *queue], tmp_path) as (host, port):
            submit_background(f"{host}:{port}", [("f", 2)])
            done = run_import(tmp_path, source, queue)
        assert done.stdout == f"imported 2 jobs (f 2) from {source}; 2 were there already\n"
