"""Two job servers on one database: whatever happens to one, no acknowledged job is lost.

JOBS is how many are acknowledged around each event, FROZEN for how many seconds one server is.
`invoke reliability --row "two servers"` is what docs/high-availability.md tells of: 50,000 and a
minute.
"""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client, GearmanError, Submit, Worker, WorkerJob
from gearman_py.cli.move_jobs import retire
from gearman_py.net.servers import parse_servers
from gearman_py.testing import running
from tests.job_servers import GearmandProcess
from tests.ports import reserve_port
from tests.server import databases
from tests.server.databases import Postgres, Redis, Wire
from tests.server.reloaded import run_reload
from tests.tally import tally
from tests.waiting import LIMIT, await_true

pytestmark = pytest.mark.slow

JOBS = int(os.environ.get("JOBS", "300"))
FROZEN = float(os.environ.get("FROZEN", "10"))  # more than a lease
SUBMITTERS = WORKERS = 2
BATCH = 50


class Load:
    """Clients and workers of both servers, what became of their jobs, and how long they waited."""

    def __init__(self, servers: list[str]) -> None:
        self._servers = servers
        self._own = threading.local()  # of a worker's thread: when it ended its last job
        self.acknowledged: set[int] = set()
        self.runs: Counter[int] = Counter()
        self.submitters_wait = self.workers_wait = 0.0  # seconds, the longest of any
        self._wanted = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self, jobs: int) -> Iterator[None]:
        """So many jobs are acknowledged around the block, and then all of them have run."""
        self._wanted = jobs
        workers = [self._make_worker() for _ in range(WORKERS)]
        threads = [
            threading.Thread(target=self._submit, args=(first,)) for first in range(SUBMITTERS)
        ]
        with ExitStack() as stack:
            for worker in workers:
                stack.enter_context(running(worker))
            for thread in threads:
                thread.start()
                stack.callback(thread.join)
            stack.callback(self._stop_submitting)
            self.await_part(0.2)
            yield
            for thread in threads:
                thread.join()
            await_true(lambda: self.acknowledged <= self.runs.keys(), 10 * LIMIT, interval=0.05)

    def _stop_submitting(self) -> None:
        self._wanted = 0

    def await_part(self, share: float) -> None:
        """Until this share of the jobs is acknowledged."""
        await_true(lambda: len(self.acknowledged) >= share * self._wanted, 10 * LIMIT)

    def _submit(self, first: int) -> None:
        number = first
        with Client(self._servers) as client:
            while len(self.acknowledged) < self._wanted:
                numbers = [number + SUBMITTERS * each for each in range(BATCH)]
                number += SUBMITTERS * BATCH
                began = time.monotonic()
                # Without an answer nobody knows whether a job will run: others are submitted.
                with contextlib.suppress(GearmanError):
                    jobs = client.submit_many(
                        Submit(function="count", workload=b"%d" % each, background=True)
                        for each in numbers
                    )
                    self.acknowledged.update(
                        each for each, job in zip(numbers, jobs, strict=True) if not job.error
                    )
                self.submitters_wait = max(self.submitters_wait, time.monotonic() - began)

    def _make_worker(self) -> Worker:
        worker = Worker(self._servers, concurrency=2)
        worker.add_function("count", self._count)
        return worker

    def _count(self, job: WorkerJob) -> None:
        now = time.monotonic()
        waited = now - getattr(self._own, "last", now)
        with self._lock:
            self.workers_wait = max(self.workers_wait, waited)
            self.runs[int(job.workload)] += 1
        self._own.last = now


class OneOfTwo:
    """A job server that can be started again at its address; ``pid`` is that which serves."""

    def __init__(self, folder: Path, name: str, options: list[str]) -> None:
        self._folder, self.name = folder, name
        self.port = reserve_port()
        self.address = f"127.0.0.1:{self.port}"
        self.admin = f"unix:{folder}/{name}"
        where = ["-L", "127.0.0.1", "-p", str(self.port), "--admin-listen", self.admin, "-v"]
        self._words = [*where, "--job-handle-prefix", f"H:{name}", *options]

    def start(self) -> None:
        (folder := self._folder / f"{self.name}-{time.monotonic_ns()}").mkdir()
        self._process = GearmandProcess(self._words, folder)
        self._process.listening()
        self.pid = self._process.process.pid

    def reload(self) -> None:
        """Another process takes its place, as in an upgrade."""
        done = run_reload(self.pid)
        assert (done.returncode, done.stderr) == (0, "")
        with AdminClient(self.admin) as admin:
            self.pid = int(admin.value("getpid"))

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        self._process.process.poll()
        return not Path(f"/proc/{self.pid}").exists()

    def await_end(self) -> None:
        await_true(self.has_ended, 5 * LIMIT)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.await_end()

    @property
    def log(self) -> str:
        return self._process.log


class Pair:
    """Two servers; the first reaches the database by a wire that can be cut."""

    def __init__(self, folder: Path, database: Postgres | Redis, wire: Wire) -> None:
        words = " ".join(database.options).replace(str(database.port), str(wire.port))
        by_wire = [*database.options[:3], words.split(" ", 3)[3]]
        self.wire = wire
        self.first = OneOfTwo(folder, "first", by_wire)
        self.second = OneOfTwo(folder, "second", database.options)


def kill(pair: Pair, load: Load) -> None:
    pair.first.kill()
    load.await_part(0.6)
    pair.first.start()


def freeze(pair: Pair, load: Load) -> None:
    pair.first.signal(signal.SIGSTOP)
    time.sleep(FROZEN)
    pair.first.signal(signal.SIGCONT)
    pair.first.await_end()  # another one has taken over its jobs
    pair.first.start()


def cut_off(pair: Pair, load: Load) -> None:
    pair.wire.cut = True
    pair.wire.hold()
    await_true(lambda: "took over" in pair.second.log, 2 * LIMIT)
    pair.wire.cut = False
    pair.wire.release()
    pair.first.await_end()
    pair.first.start()


def upgrade(pair: Pair, load: Load) -> None:
    pair.first.reload()
    load.await_part(0.6)
    pair.second.reload()


def drain(pair: Pair, load: Load) -> None:
    with AdminClient(pair.first.admin) as admin:
        admin.shutdown(graceful=True)
    pair.first.await_end()
    pair.first.start()


def retire_first(pair: Pair, load: Load) -> None:
    with AdminClient(pair.first.admin) as admin:
        retire(admin, parse_servers(pair.second.address))
    pair.first.await_end()
    pair.first.start()


EVENTS: dict[str, Callable[[Pair, Load], None]] = {
    "killed": kill,
    "frozen": freeze,
    "cut off": cut_off,
    "upgraded": upgrade,
    "drained": drain,
    "retired": retire_first,
}
NEVER_TWICE = ("upgraded", "drained", "retired")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", [Postgres, Redis])
def test_no_acknowledged_job_is_lost(
    kind: type[Postgres] | type[Redis], event: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        database = kind(stack.enter_context(databases.open_folder()))
        stack.enter_context(databases.running(database))
        pair = Pair(tmp_path, database, stack.enter_context(Wire(database.port)))
        for server in (pair.first, pair.second):
            server.start()
            stack.callback(server.kill)
        load = Load([pair.first.address, pair.second.address])
        began = time.monotonic()
        with load.running(JOBS):
            EVENTS[event](pair, load)
        seconds = time.monotonic() - began
    lost = len(load.acknowledged - load.runs.keys())
    twice = sum(count > 1 for count in load.runs.values())
    tally("two servers", acknowledged=len(load.acknowledged), lost=lost, ran_twice=twice)
    print(
        f"{kind.__name__}, {event}: {len(load.acknowledged):,} acknowledged in {seconds:.0f} s, "
        f"{lost} lost, {twice} ran twice, longest wait of a submitter "
        f"{load.submitters_wait:.1f} s, of a worker {load.workers_wait:.1f} s"
    )
    assert lost == 0
    if event in NEVER_TWICE:
        assert twice == 0
