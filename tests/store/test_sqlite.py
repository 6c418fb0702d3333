"""The SQLite store: what it keeps, and what it says of files that it cannot use."""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gearman_py.store import sqlite_file
from gearman_py.store.base import Changes, Record, StoreError
from gearman_py.store.sqlite import SQLiteStore
from gearman_py.store.sqlite_statements import STATEMENT_ROWS
from tests.properties import depth
from tests.tally import tally

Open = Callable[[], SQLiteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@pytest.fixture
def reopen(path: Path) -> Iterator[Open]:
    """Opens the store; closes the one before."""
    opened: list[SQLiteStore] = []

    def again() -> SQLiteStore:
        if opened:
            opened.pop().close()
        opened.append(SQLiteStore(path))
        return opened[0]

    yield again
    for store in opened:
        store.close()


def record(number: int, workload: bytes = b"w", deliveries: int = 0) -> Record:
    return Record(number, b"f", b"", 1, 0, b"", workload, deliveries)


def add(store: SQLiteStore, *records: Record) -> None:
    store.commit(Changes(list(records), {}, []))


texts = st.binary(max_size=70)
numbers = st.integers(1, 2**53)
records = st.lists(
    st.builds(
        Record,
        number=numbers,
        function=texts,
        unique=texts,
        priority=st.integers(0, 2),
        due=st.integers(0, 253402300799),
        reducer=texts,
        workload=st.binary(max_size=9000),
        deliveries=st.integers(0, 2**31),
    ),
    unique_by=lambda one: one.number,
    max_size=8,
)


def test_file_that_is_shrunk_at_the_start_is_no_damage(path: Path, reopen: Open) -> None:
    store = reopen()
    add(store, *(record(number, b"w" * 2**20) for number in range(1, 25)))
    store.commit(Changes([], {}, list(range(1, 21))))
    store = reopen()
    add(store, record(100))
    assert path.stat().st_size < 12 * 2**20
    add(store, record(101))
    store.commit(Changes([], {}, [21, 100]))
    assert [one.number for one in reopen().replay()] == [22, 23, 24, 101]


@given(first=records, second=records, data=st.data())
@settings(max_examples=depth(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_committed_is_read_back_as_it_was(
    tmp_path: Path, first: list[Record], second: list[Record], data: st.DataObject
) -> None:
    path = tmp_path / "queue"
    path.unlink(missing_ok=True)
    kept = {one.number: one for one in first}
    more = [one for one in second if one.number not in kept]
    known = st.sampled_from(sorted(kept)) if kept else st.nothing()
    delivered = data.draw(st.dictionaries(known, st.integers(1, 9)))
    removed = data.draw(st.lists(known, unique=True))
    with closing(SQLiteStore(path)) as store:
        add(store, *first)
        store.commit(Changes(more, delivered, removed))
    kept |= {one.number: one for one in more}
    kept |= {n: kept[n]._replace(deliveries=count) for n, count in delivered.items()}
    for number in removed:
        del kept[number]
    with closing(SQLiteStore(path)) as store:
        assert list(store.replay()) == [kept[number] for number in sorted(kept)]


def test_groups_of_any_size_are_one_commit(reopen: Open) -> None:
    start = 0
    for size in (1, STATEMENT_ROWS - 1, STATEMENT_ROWS, STATEMENT_ROWS + 1, 5 * STATEMENT_ROWS + 7):
        add(reopen(), *(record(start + number) for number in range(size)))
        start += size
    assert [one.number for one in reopen().replay()] == list(range(start))


def test_group_that_fails_leaves_nothing_of_itself(reopen: Open) -> None:
    store = reopen()
    add(store, record(1))
    with pytest.raises(StoreError):
        store.commit(Changes([*map(record, range(2, 2 * STATEMENT_ROWS)), record(1)], {}, [1]))
    add(store, record(2 * STATEMENT_ROWS))
    assert [one.number for one in reopen().replay()] == [1, 2 * STATEMENT_ROWS]


def test_file_is_its_owner_s_alone(reopen: Open, path: Path) -> None:
    add(reopen(), record(1))
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.mark.slow
def test_log_is_written_back_before_it_grows_large(reopen: Open, path: Path) -> None:
    store = reopen()
    for number in range(300):
        add(store, record(number, b"w" * 2**18))
        store.tidy()
        store.commit(Changes([], {}, [number]))
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 24 * 2**20


def test_file_that_was_large_once_is_made_small_at_the_next_start(reopen: Open, path: Path) -> None:
    store = reopen()
    add(store, *(record(number, b"w" * 2**16) for number in range(500)))
    store.commit(Changes([], {}, list(range(1, 500))))
    reopen()
    reopen()
    assert path.stat().st_size < 2**20
    assert [one.number for one in reopen().replay()] == [0]


OPEN = """
import pathlib, sys
from gearman_py.store.sqlite import SQLiteStore
SQLiteStore(pathlib.Path(sys.argv[1]))
"""


def test_second_process_is_refused_and_told_who_has_the_file(reopen: Open, path: Path) -> None:
    reopen()
    other = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True)
    assert f"{path} is in use by process {os.getpid()}" in other.stderr


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as refused:
        SQLiteStore(path).close()
    return str(refused.value)


def test_file_that_cannot_be_is_said(path: Path) -> None:
    assert "does not exist; create it" in refusal(path / "in" / "nowhere")
    assert "Is a directory" in refusal(path.parent)
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
    assert "is not an SQLite database" in refusal(path)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("addresses", "is a database of some other program"),
        ("gearman_queue", "is a queue of the C gearmand: name another file, and take its jobs"),
    ],
)
def test_foreign_database_is_left_as_it_was(path: Path, table: str, reason: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"CREATE TABLE {table} (name)")
    before = path.read_bytes()
    assert reason in refusal(path)
    assert path.read_bytes() == before


def test_newer_schema_is_left_as_it_was_and_an_older_one_is_brought_up(
    reopen: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(reopen(), record(1))
    step = "ALTER TABLE rejected ADD COLUMN why;"
    with monkeypatch.context() as newer:
        newer.setattr(sqlite_file, "MIGRATIONS", (*sqlite_file.MIGRATIONS, step))
        assert list(reopen().replay()) == [record(1)], "brought up"
        assert list(reopen().replay()) == [record(1)], "and only once"
        reopen().close()
    assert "written by a newer gearman_py (schema 2, this one knows 1)" in refusal(path)


def test_bad_row_is_set_aside_and_the_others_are_served(
    reopen: Open, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(reopen(), *(record(number) for number in range(1, 5)))
    reopen().close()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE job SET workload = x'00' WHERE number = 2")
        other.execute("UPDATE job SET priority = 7 WHERE number = 3")
    assert [one.number for one in reopen().replay()] == [1, 4]
    assert "2 jobs are damaged" in caplog.text
    caplog.clear()
    assert [one.number for one in reopen().replay()] == [1, 4]
    assert not caplog.text, "it is said once"
    reopen().close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT number FROM rejected").fetchall() == [(2,), (3,)]


def test_damaged_file_is_refused_or_loses_nothing_in_silence(
    reopen: Open, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = {number: record(number, b"%d" % number * 300) for number in range(1, 200)}
    add(reopen(), *whole.values())
    reopen().close()
    sound = path.read_bytes()
    damaged = tmp_path / "damaged"
    outcomes = {"refused": 0, "set aside": 0, "unhurt": 0}
    for seed in range(200):
        damaged.write_bytes(damage(sound, random.Random(seed)))  # noqa: S311 - to be repeatable
        caplog.clear()
        try:
            with closing(SQLiteStore(damaged)) as store:
                found = {one.number: one for one in store.replay()}
        except StoreError as error:
            assert str(damaged) in str(error)
            outcomes["refused"] += 1
            continue
        finally:
            for file in tmp_path.glob("damaged*"):
                file.unlink()
        assert all(whole[number] == one for number, one in found.items()), seed
        missing = len(whole) - len(found)
        assert not missing or f"{missing} jobs are damaged" in caplog.text, seed
        outcomes["set aside" if missing else "unhurt"] += 1
    counts = {name.replace(" ", "_"): count for name, count in outcomes.items()}
    tally("damage", files=200, lost_in_silence=0, **counts)
    assert min(outcomes.values()) > 0, outcomes


def damage(data: bytes, chance: random.Random) -> bytes:
    """A file cut short, with a page of zeros, or with a bit flipped."""
    found = bytearray(data)
    where = chance.randrange(len(found))
    match chance.randrange(3):
        case 0:
            del found[where:]
        case 1:
            page = where // 4096 * 4096
            found[page : page + 4096] = bytes(4096)
        case 2:
            found[where] ^= 1 << chance.randrange(8)
    return bytes(found)
