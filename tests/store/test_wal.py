"""A WAL that is damaged, missing or another one: no acknowledged job is lost in silence.

The store is filled by a process that is killed, so that its WAL is left as a crash leaves it.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gearman_py.store import sqlite, sqlite_file
from gearman_py.store.base import Changes, Record, StoreError
from gearman_py.store.sqlite import SQLiteStore
from tests.tally import tally

COMMITS = 60
FRAME = 24 + 4096
SUFFIXES = ("", "-wal", "-mark", "-older")
FILL = """
import os, shutil, signal, sys
from pathlib import Path
from gearman_py.store.sqlite import SQLiteStore
from tests.store.test_wal import COMMITS, commit

path = Path(sys.argv[1])
store = SQLiteStore(path)
for number in range(COMMITS):
    if number == COMMITS // 2:
        shutil.copy(f"{path}-wal", f"{path}-older")
    commit(store, number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def commit(store: SQLiteStore, number: int) -> None:
    """The N-th group: 5 jobs, and the end of an earlier one."""
    added = [
        Record(5 * number + n, b"f", b"", 1, 0, b"", b"%d" % number * 200, 0) for n in range(5)
    ]
    store.commit(Changes(added, {}, [5 * number - 50] if number >= 10 else []))


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a server that was killed."""
    path = tmp_path_factory.mktemp("crashed") / "queue"
    subprocess.run([sys.executable, "-c", FILL, path], check=False)
    assert {f"queue{suffix}" for suffix in SUFFIXES} == set(os.listdir(path.parent))
    return path


def copied(crashed: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in crashed.parent.glob(f"{crashed.name}*"):
        shutil.copy(file, folder)
    return folder / "queue"


def numbers(path: Path) -> set[int]:
    with closing(SQLiteStore(path)) as store:
        return {record.number for record in store.replay()}


WHOLE = set(range(5 * COMMITS)) - {5 * number - 50 for number in range(10, COMMITS)}


def flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(32, len(data))] ^= 1 << chance.randrange(8)


def zero(data: bytearray, chance: random.Random) -> None:
    page = chance.randrange(len(data) // 4096) * 4096
    data[page : page + 4096] = bytes(4096)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def cut_between_frames(data: bytearray, chance: random.Random) -> None:
    del data[32 + FRAME * chance.randrange(len(data) // FRAME) :]


def flip_in_the_header(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(32)] ^= 1 << chance.randrange(8)


def change_a_salt(data: bytearray, chance: random.Random) -> None:
    data[32 + FRAME * chance.randrange(len(data) // FRAME) + 8] ^= 1 << chance.randrange(8)


def exchange_two_frames(data: bytearray, chance: random.Random) -> None:
    one, other = (32 + FRAME * n for n in chance.sample(range(len(data) // FRAME), 2))
    frame = data[one : one + FRAME]
    data[one : one + FRAME] = data[other : other + FRAME]
    data[other : other + FRAME] = frame


def remove(data: bytearray, chance: random.Random) -> None:
    data.clear()


DAMAGES = (
    *(flip, zero, cut, cut_between_frames, flip_in_the_header, change_a_salt),
    *(exchange_two_frames, remove),
)


@pytest.mark.slow
def test_damaged_wal_is_refused_or_loses_nothing(crashed: Path, tmp_path: Path) -> None:
    outcomes = {"refused": 0, "unhurt": 0}
    for seed in range(200):
        chance = random.Random(seed)  # noqa: S311 - to be repeatable
        path = copied(crashed, tmp_path / "damaged")
        wal = path.with_name("queue-wal")
        data = bytearray(wal.read_bytes())
        DAMAGES[seed % len(DAMAGES)](data, chance)
        wal.write_bytes(data)
        if not data:
            wal.unlink()
        try:
            assert numbers(path) == WHOLE, seed
            outcomes["unhurt"] += 1
        except StoreError as refused:
            assert f"{wal}, the log of the queue," in str(refused)
            assert not data or wal.read_bytes() == data, "what can be read is still there"
            outcomes["refused"] += 1
    tally("log", logs=200, lost_in_silence=0, **outcomes)
    assert outcomes["refused"] > 150


def test_older_wal_is_refused(crashed: Path, tmp_path: Path) -> None:
    path = copied(crashed, tmp_path / "older")
    path.with_name("queue-older").rename(path.with_name("queue-wal"))
    with pytest.raises(StoreError, match="of at least 60 commits are whole"):
        SQLiteStore(path)


LONG = """
import os, shutil, signal, sys
from pathlib import Path
from gearman_py.store import sqlite
from tests.store.test_wal import COMMITS, commit

sqlite.CHECKPOINT = 2**17
path = Path(sys.argv[1])
store = sqlite.SQLiteStore(path)
commit(store, 0)
store.close()
shutil.copy(path, f"{path}-clean")
store = sqlite.SQLiteStore(path)
for number in range(1, COMMITS):
    if number == COMMITS // 2:
        for suffix in ("", "-wal", "-mark"):
            shutil.copy(f"{path}{suffix}", f"{path}-backup{suffix}")
    commit(store, number)
    store.tidy()
commit(store, COMMITS)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("-clean", ""),
        ("-backup", ""),
        ("-backup-wal", "-wal"),
        ("/-wal", "-wal"),
    ],
)
@pytest.mark.parametrize("mark", ["is there", "knows nothing"])
def test_files_that_do_not_belong_together_are_refused(
    crashed: Path, tmp_path: Path, theirs: str, ours: str, mark: str
) -> None:
    path = tmp_path / "queue"
    subprocess.run([sys.executable, "-c", LONG, path], check=False)
    whole = numbers(copied(path, tmp_path / "copy"))
    other = Path(f"{crashed}-wal") if theirs == "/-wal" else Path(f"{path}{theirs}")
    shutil.copy(other, f"{path}{ours}")
    if mark == "knows nothing":
        path.with_name("queue-mark").write_bytes(bytes(20))
    why = f"does not belong to {path}, or is older or newer"
    with pytest.raises(StoreError, match=why) as told:
        SQLiteStore(path)
    subprocess.run(["sh", "-c", str(told.value).splitlines()[-1]], check=True)
    assert numbers(path) < whole | set(range(5 * COMMITS))


def test_mark_of_another_queue_is_of_no_consequence(crashed: Path, tmp_path: Path) -> None:
    other = copied(crashed, tmp_path / "other")
    path = tmp_path / "queue"
    subprocess.run([sys.executable, "-c", LONG, path], check=False)
    whole = numbers(copied(path, tmp_path / "copy"))
    shutil.copy(f"{other}-mark", f"{path}-mark")
    assert numbers(path) == whole


def test_what_can_be_read_of_a_damaged_wal_is_read_after_the_command_that_is_named(
    crashed: Path, tmp_path: Path
) -> None:
    path = copied(crashed, tmp_path / "half")
    os.truncate(path.with_name("queue-wal"), 32 + 60 * FRAME)
    with pytest.raises(StoreError) as refused:
        SQLiteStore(path)
    command = str(refused.value).splitlines()[-1].strip()
    count = "SELECT count(*) FROM job"
    assert command == f"sqlite3 {path} 'PRAGMA user_version = 1' '{count}'"
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 1")
        (left,) = other.execute(count).fetchone()
    assert len(numbers(path)) == left
    assert {1, 2, 3, 4} < numbers(path) < set(range(5 * COMMITS))


def test_main_file_that_is_gone_while_its_wal_is_there_is_refused(
    crashed: Path, tmp_path: Path
) -> None:
    path = copied(crashed, tmp_path / "gone")
    path.unlink()
    with pytest.raises(StoreError, match=r"is missing or empty, but its log .* exists"):
        SQLiteStore(path)
    assert path.with_name("queue-wal").exists()


def test_file_by_a_link_has_its_log(crashed: Path, tmp_path: Path) -> None:
    path = copied(crashed, tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(path)
    assert numbers(link) == WHOLE


def test_link_to_a_file_without_its_log_is_refused(crashed: Path, tmp_path: Path) -> None:
    path = copied(crashed, tmp_path / "moved")
    path.rename(tmp_path / "other")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="other-wal, the log of the queue, is missing"):
        SQLiteStore(path)
    log = path.with_name("queue-wal")
    log.rename(tmp_path / "log")
    log.symlink_to(tmp_path / "log")
    path.unlink()
    (tmp_path / "other").rename(path)
    with pytest.raises(StoreError, match="queue-wal, which belongs to the queue, is not a file"):
        SQLiteStore(path)


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_link_put_in_the_place_of_a_file_in_use_is_noticed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "queue"
    with closing(SQLiteStore(path)) as store:
        commit(store, 0)
        file = path.with_name(f"queue{suffix}")
        file.rename(tmp_path / "other")
        file.symlink_to(tmp_path / "other")
        with pytest.raises(StoreError, match="was deleted or replaced"):
            commit(store, 1)


@pytest.mark.parametrize("how", ["deleted", "moved", "cut", "link"])
def test_mark_that_is_lost_in_use_is_written_again(tmp_path: Path, how: str) -> None:
    path, mark = tmp_path / "queue", tmp_path / "queue-mark"
    store = SQLiteStore(path)
    commit(store, 0)
    if how == "cut":
        os.truncate(mark, 3)
    else:
        mark.rename(tmp_path / "elsewhere")
    if how == "deleted":
        (tmp_path / "elsewhere").unlink()
    if how == "link":
        mark.symlink_to(tmp_path / "elsewhere")
    commit(store, 1)
    assert numbers(copied(path, tmp_path / "copy")) == set(range(10))
    store.close()


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "bit", "longer"])
@pytest.mark.parametrize("log", ["whole", "half"])
def test_damaged_mark_is_refused_with_the_command_to_go_on(
    crashed: Path, tmp_path: Path, damage: str, log: str
) -> None:
    """Without it, half of a log could pass for a whole one."""
    path = copied(crashed, tmp_path / "marked")
    mark = path.with_name("queue-mark")
    said = mark.read_bytes()
    flipped = said[:-1] + bytes([said[-1] ^ 1])
    left = {"empty": b"", "garbage": b"garbage", "bit": flipped, "longer": said + b"\0"}
    if damage == "gone":
        mark.unlink()
    else:
        mark.write_bytes(left[damage])
    if log == "half":
        end = path.with_name("queue-wal").stat().st_size // 2 // FRAME * FRAME
        os.truncate(path.with_name("queue-wal"), 32 + end)
    what = "is missing or empty" if damage in ("gone", "empty") else "is damaged"
    with pytest.raises(StoreError, match=f"queue-mark, which .*, {what}") as refused:
        SQLiteStore(path)
    if log == "whole":
        subprocess.run(["sh", "-c", str(refused.value).splitlines()[-1]], check=True)
        assert numbers(path) >= WHOLE


def test_torn_end_is_no_damage_with_an_empty_mark_and_without_its_last_commit(
    crashed: Path, tmp_path: Path
) -> None:
    """A power cut leaves an older mark than the WAL, or none in it, and half of the last group."""
    for tail in range(1, 3 * FRAME, FRAME // 2):
        path = copied(crashed, tmp_path / "torn")
        path.with_name("queue-mark").write_bytes(bytes(20))
        wal = path.with_name("queue-wal")
        os.truncate(wal, wal.stat().st_size - tail)
        assert numbers(path) >= WHOLE - set(range(5 * COMMITS - 10, 5 * COMMITS))


KILLED = """
import os, signal, sys
from pathlib import Path
from gearman_py.store import sqlite, sqlite_file, sqlite_mark, sqlite_wal

sqlite.CHECKPOINT = 2**17
files = {each.__file__ for each in (sqlite, sqlite_file, sqlite_mark, sqlite_wal)}
left = int(sys.argv[2])


def step(frame, event, argument):
    global left
    code = frame.f_code
    if code.co_filename in files:
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return step


from tests.store.test_wal import commit
path = Path(sys.argv[1])
number = int(sys.argv[3])
sys.settrace(step)
store = sqlite.SQLiteStore(path)
for number in range(number, number + 40):
    commit(store, number)
    os.write(1, b"%d\\n" % number)
    store.tidy()
store.close()
"""


@pytest.mark.slow
def test_server_killed_at_any_step_starts_again_with_all_jobs(tmp_path: Path) -> None:
    """At the beginning, in a commit, in a checkpoint, at the end; each time on the same file."""
    path = tmp_path / "queue"
    acknowledged: list[int] = []
    kills = int(os.environ.get("STEPS", "12"))
    for kill in range(kills):
        lines = random.Random(kill).randrange(1, 3000)  # noqa: S311 - to be repeatable
        arguments = [str(path), str(lines), str(1000 * kill)]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
        assert not done.stderr
        acknowledged += map(int, done.stdout.split())
    found = numbers(path)
    for number in acknowledged:
        # The one after an acknowledged one may have been stored too.
        ended = {5 * later - 50 for one in acknowledged for later in (one, one + 1)}
        assert set(range(5 * number, 5 * number + 5)) - ended <= found, number
    assert numbers(path) == found


@pytest.mark.slow
def test_wal_stays_short_while_a_queue_is_drained(tmp_path: Path) -> None:
    path = tmp_path / "queue"
    with closing(SQLiteStore(path)) as store:
        groups = [range(start, start + 60) for start in range(0, 24_000, 60)]
        for group in groups:
            added = [Record(n, b"f", b"", 1, 0, b"", b"w" * 1000, 0) for n in group]
            store.commit(Changes(added, {}, []))
            store.tidy()
        longest = 0
        for group in groups:
            store.commit(Changes([], dict.fromkeys(group, 1), []))
            store.tidy()
            store.commit(Changes([], {}, list(group)))
            store.tidy()
            longest = max(longest, path.with_name("queue-wal").stat().st_size)
    assert longest < 3 * sqlite.CHECKPOINT


def test_wal_stays_short_while_large_jobs_end(tmp_path: Path) -> None:
    path = tmp_path / "queue"
    with closing(SQLiteStore(path)) as store:
        for number in range(8):
            added = Record(number, b"f", b"", 1, 0, b"", bytes(5_000_000), 0)
            store.commit(Changes([added], {}, []))
            store.tidy()
        before = path.with_name("queue-wal").stat().st_size
        assert before < 3 * sqlite.CHECKPOINT
        store.commit(Changes([], {}, list(range(8))))
        assert path.with_name("queue-wal").stat().st_size == before


def test_file_becomes_small_while_it_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "MANY_FREE", 256)
    path = tmp_path / "queue"
    with closing(SQLiteStore(path)) as store:
        records = [Record(n, b"f", b"", 1, 0, b"", b"w" * 1000, 0) for n in range(8000)]
        store.commit(Changes(records, {}, []))
        monkeypatch.setattr(sqlite, "IDLE", -1)
        store.tidy()
        assert path.stat().st_size > 8 * 2**20
        store.commit(Changes([], {}, list(range(1, 8000))))
        store.tidy()
        assert path.stat().st_size < 2**20
        store.commit(Changes([records[1]], {}, []))
    assert numbers(path) == {0, 1}
