"""Nothing acknowledged is lost when the power is cut, on a disk that forgets what was not synced.

kill -9 does not show this: the kernel still has what was written. The same test with one line
of the server changed, so that commits are not synced, must fail: that is a test of the test.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.job_servers import GearmandProcess
from tests.server.load import Book
from tests.tally import tally
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

CUTS = int(os.environ.get("CUTS", "4"))
PROGRAM = """
import sys
from gearman_py.cli.gearmand import main
from gearman_py.store import sqlite, sqlite_file
sqlite.CHECKPOINT = {}
sqlite_file.SYNCHRONOUS = "{}"
sys.exit(main())
"""


class Disk:
    """What programs see in ``folder``; in ``kept``, what a power cut leaves."""

    def __init__(self, where: Path, seed: int) -> None:
        self.folder, state = where / "disk", where / "state"
        self.kept = state / "files"
        self.folder.mkdir()
        program = [sys.executable, "-m", "tests.server.amnesia"]
        self.process = subprocess.Popen([*program, str(state), str(self.folder), str(seed)])
        await_true(lambda: self.folder.is_mount() or self.process.poll() is not None)
        assert self.process.poll() is None, "it cannot be mounted"

    def cut(self) -> None:
        self.process.terminate()
        self.process.wait(LIMIT)


@contextmanager
def disk(where: Path, seed: int) -> Iterator[Disk]:
    if os.geteuid() or not os.path.exists("/dev/fuse"):
        pytest.skip("only root can mount, and only with /dev/fuse")
    where.mkdir()
    made = Disk(where, seed)
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", made.folder], check=True)
        made.process.wait(LIMIT)


def cut_the_power(
    where: Path, seed: int, *, synchronous: str = "FULL", checkpoint: int = 2**16
) -> Book:
    """Under load; what became of the jobs when everything is on again.

    ``checkpoint``: bytes after which the log is written back; often, so that power is cut at
    that too.
    """
    book = Book()
    program = "-c", PROGRAM.format(checkpoint, synchronous)
    options = ["-L", "127.0.0.1", "-p", "0", "-v", "-q", "sqlite", "--queue-file"]
    with disk(where, seed) as made:
        server = GearmandProcess([*options, str(made.folder / "queue")], where, program=program)
        with book.load(server.listening(), workers=seed % 2):
            await_true(lambda: len(book.acknowledged) > 100 * (1 + seed % 9))
            made.cut()
            server.process.kill()
            server.process.wait()
        server = GearmandProcess([*options, str(made.kept / "queue")], where)
        try:
            book.work(server.listening(), until_empty=True)
        finally:
            server.end()
    return book


@pytest.mark.parametrize("seed", range(CUTS))
def test_power_cut_loses_no_acknowledged_job(tmp_path: Path, seed: int) -> None:
    tally("power", cuts=1, **cut_the_power(tmp_path / "machine", seed).check())


def test_without_a_sync_at_each_commit_the_same_test_fails(tmp_path: Path) -> None:
    """Its log has gaps then: the next start finds them, or jobs are lost."""
    with pytest.raises(AssertionError, match="lost"):
        cut_the_power(tmp_path / "machine", 0, synchronous="NORMAL", checkpoint=2**30).check()
