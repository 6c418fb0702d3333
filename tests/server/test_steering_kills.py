"""kill -9 in the middle of what an operator steers: what was acknowledged is in effect again."""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gearman_py.protocol.packets import Packet
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.tally import tally

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
KILLS = int(os.environ.get("KILLS", "5"))
NUMBER = 100  # of commands, amid which the server is killed
DUE = 2_000_000_000  # long from now


class Killed:
    """A durable server that is killed while it carries out commands, and then started again."""

    def __init__(self, start: Start, connect: Connect, folder: Path) -> None:
        self._start, self._connect = start, connect
        self._options = ["-q", "sqlite", "--queue-file", str(folder / "queue")]
        self.begin()

    def begin(self) -> None:
        self.server = self._start(*self._options)
        self.ops = self._connect(self.server.listening())

    def amid(self, commands: Sequence[str], seed: int) -> int:
        """Kill it in the midst of the commands; return how many were answered with OK."""
        chance = random.Random(seed)  # noqa: S311 - somewhere in the midst
        first = chance.randrange(len(commands))
        told = b""
        self._send(commands[:first])
        while told.count(b"\n") < first:
            told += self.ops.socket.recv(65536)
        self._send(commands[first:])
        told += self._kill_after(chance.uniform(0, 0.03))
        assert told.count(b"\n") == told.count(b"OK\r\n"), told
        self.begin()
        return told.count(b"OK\r\n")

    def amid_purge(self, function: str, seed: int) -> set[str]:
        """Kill it in the midst of a purge; return the handles of jobs that it cancelled."""
        self._send([f"purge {function}"])
        told = self._kill_after(random.Random(seed).uniform(0, 0.03))  # noqa: S311 - as above
        self.begin()
        *handles, _ = told.decode().split("\n")  # the last one may be cut
        return set(handles) - {"."}

    def _kill_after(self, seconds: float) -> bytes:
        """What it still said."""
        time.sleep(seconds)
        self.server.process.kill()
        self.server.process.wait()
        told = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.ops.socket.recv(65536):
                told += data
        return told

    def _send(self, commands: Sequence[str]) -> None:
        self.ops.socket.sendall("".join(f"{each}\r\n" for each in commands).encode())

    def connect(self) -> Peer:
        return self._connect(self.server.listening())

    def submit(self, function: bytes) -> set[str]:
        """The handles of 1,000 jobs."""
        for _ in range(10 * NUMBER):
            self.ops.say(Packet.SUBMIT_JOB_BG, function, b"", b"x")
        return {self.ops.hear()[1].decode() for _ in range(10 * NUMBER)}

    def failed(self) -> list[str]:
        """The handles of failed jobs, oldest first."""
        listed = self.ops.command("jobs failed limit=1000").decode().splitlines()[:-1]
        return [row.split("\t")[0] for row in listed][::-1]

    def stats(self) -> Iterator[dict[str, str]]:
        for row in self.ops.command("stats").decode().splitlines()[:-1]:
            name, *pairs = row.split("\t")
            yield {"name": name} | dict(pair.split("=", 1) for pair in pairs)

    def jobs(self) -> dict[str, dict[str, str]]:
        """All that wait, by handle: a job that was twice in the queue would be listed twice."""
        rows: list[list[str]] = []
        for state in ("waiting", "scheduled"):
            listed = self.ops.command(f"jobs {state} limit=10000").decode().splitlines()[:-1]
            rows += (row.split("\t") for row in listed)
        found = {handle: dict(pair.split("=", 1) for pair in pairs) for handle, *pairs in rows}
        assert len(found) == len(rows)
        return found


@pytest.fixture
def killed(start: Start, connect: Connect, tmp_path: Path) -> Killed:
    return Killed(start, connect, tmp_path)


def test_pauses_that_were_acknowledged_are_in_effect_after_kill_9(killed: Killed) -> None:
    """Those that were not are, too, or not; in the order in which they were given."""
    acknowledged = 0
    names = [f"f{number:03}" for number in range(NUMBER)]
    for seed in range(KILLS):
        word = "resume" if seed % 2 else "pause"
        done = killed.amid([f"{word} {name}" for name in names], seed)
        rows = list(killed.stats())
        changed = [name for name in names if (name in _paused(rows)) == (word == "pause")]
        assert changed == names[: len(changed)]
        assert len(changed) >= done
        for row in rows:
            assert (float(row["paused_since"]) > 0) == (row["paused"] == "1")
        for name in names[len(changed) :]:  # so that the next kill finds all alike
            killed.ops.command(f"{word} {name}")
        acknowledged += done
    tally("kill amid pauses", kills=KILLS, acknowledged=acknowledged, lost=0)


def _paused(rows: Sequence[dict[str, str]]) -> set[str]:
    return {row["name"] for row in rows if row["paused"] == "1"}


def test_limits_that_were_acknowledged_are_in_effect_after_kill_9(killed: Killed) -> None:
    acknowledged = last = 0
    for seed in range(KILLS):
        most = range(last + 1, last + 1 + NUMBER)
        done = killed.amid([f"limit f running={each} rate={each}/h" for each in most], seed)
        found = {row["name"]: (row["max_running"], row["max_started"]) for row in killed.stats()}
        running, started = map(int, found.get("f", ("0", "0")))
        assert running == started, "one command is in effect, or not"
        assert last + done <= running <= last + NUMBER
        acknowledged += done
        last = running
    tally("kill amid limits", kills=KILLS, acknowledged=acknowledged, lost=0)


@pytest.mark.parametrize("what", ["priority", "time"])
def test_changes_of_waiting_jobs_that_were_acknowledged_stay_after_kill_9(
    killed: Killed, what: str
) -> None:
    """And no job is lost, or queued twice."""
    handles = []
    for number in range(NUMBER):
        _, handle = killed.ops.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"%d" % number)
        handles.append(handle.decode())
    before = "normal" if what == "priority" else "waiting"
    acknowledged = 0
    for seed in range(KILLS):
        if what == "priority":
            after = "high" if seed % 2 else "low"
            commands = [f"prioritize job {handle} {after}" for handle in handles]
        else:
            after = "waiting" if seed % 2 else "scheduled"
            when = "now" if seed % 2 else str(DUE)
            commands = [f"reschedule job {handle} {when}" for handle in handles]
        done = killed.amid(commands, seed)
        jobs = killed.jobs()
        assert jobs.keys() == set(handles)
        key = "priority" if what == "priority" else "state"
        found = [jobs[handle][key] for handle in handles]
        assert found[:done] == [after] * done
        assert set(found) <= {before, after}
        if what == "time":
            assert {job["due"] for job in jobs.values() if "due" in job} <= {f"{DUE}.000"}
        for command, state in zip(commands, found, strict=True):
            if state == before:
                assert killed.ops.command(command) == b"OK\r\n"
        acknowledged += done
        before = after
    tally("kill amid changes of jobs", kills=KILLS, acknowledged=acknowledged, lost=0)


def test_schedules_that_were_set_or_deleted_are_so_after_kill_9(killed: Killed) -> None:
    acknowledged = 0
    names = [f"s{number:03}" for number in range(NUMBER)]
    for seed in range(KILLS):
        words = ("delete", "") if seed % 2 else ("set", " function=f cron=0%200%201%201%20*")
        commands = [f"schedule {words[0]} {name}{words[1]}" for name in names]
        done = killed.amid(commands, seed)
        rows = killed.ops.command("schedules").decode().splitlines()[:-1]
        found = [row.split("\t")[0] for row in rows]
        assert found == sorted(set(found))
        changed = [(name in found) == (words[0] == "set") for name in names]
        assert all(changed[:done])
        for command, is_changed in zip(commands, changed, strict=True):
            if not is_changed:
                assert killed.ops.command(command) == b"OK\r\n"
        acknowledged += done
    tally("kill amid schedules", kills=KILLS, acknowledged=acknowledged, lost=0)


def test_failed_jobs_are_discarded_or_kept_after_kill_9(killed: Killed) -> None:
    """The last moment's are kept, as a job whose result was just sent runs again."""
    acknowledged = 0
    for seed in range(KILLS):
        worker = killed.connect()
        worker.say(Packet.CAN_DO, b"f")
        for number in range(NUMBER):
            killed.ops.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"%d" % number)
            worker.say(Packet.WORK_FAIL, worker.ask(Packet.GRAB_JOB)[1])
        worker.ask(Packet.ECHO_REQ, b"all said")
        failed = killed.failed()
        assert len(failed) == NUMBER
        acknowledged += killed.amid([f"discard job {handle}" for handle in failed], seed)
        left = killed.failed()
        assert set(left) <= set(failed)
        assert len(left) == len(set(left))
        for handle in left:
            assert killed.ops.command(f"discard job {handle}") == b"OK\r\n"
    tally("kill amid discards", kills=KILLS, acknowledged=acknowledged, lost=0)


def test_jobs_are_purged_or_wait_after_kill_9(killed: Killed) -> None:
    """And none of another function is lost."""
    acknowledged = 0
    for seed in range(KILLS):
        purged, others = killed.submit(b"f"), killed.submit(b"g")
        told = killed.amid_purge("f", seed)
        left = killed.jobs().keys()
        assert told <= purged
        assert others <= left <= purged | others
        for function in "fg":
            killed.ops.command(f"purge {function}")
        assert not killed.jobs()
        acknowledged += len(told)
    tally("kill amid purges", kills=KILLS, acknowledged=acknowledged, lost=0)
