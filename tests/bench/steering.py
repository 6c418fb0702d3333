"""What each feature of docs/steering.md costs the job server: ours beside ours, in one run.

    .venv/bin/python -m tests.bench.steering [ROW...]
    BEFORE=/path/of/another/checkout .venv/bin/python -m tests.bench.steering nothing

Each row has the same load with and without the feature, on fresh servers in turn; the median of
its rounds is shown. ``nothing`` compares this tree with another one, if nothing is used.
"""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gearman_py import AdminClient, Submit
from gearman_py import Client as OurClient
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.bench.job_server import BACKGROUND, SMALL, MeasuredServer
from tests.bench.kinds import PURE, ROUNDS, Environment, both_kinds
from tests.bench.load import FUNCTION, Client, Worker, one_at_a_time, run
from tests.job_servers import OUR_GEARMAND, await_listening
from tests.ports import reserve_port

JOBS = 40_000
WORKERS = 8
BENCH = FUNCTION.decode()
MINUTE = 60.0

Load = Callable[[MeasuredServer], float]
"""Puts a load on a server; returns what is measured."""


class FailingWorker(Worker):
    """Fails each job."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, result=b"")
        self.head = request(Packet.WORK_FAIL)[:8]

    def _packets(self, data: bytes) -> int:
        done = super()._packets(data)
        # As completions, but with a handle alone: without the NUL before the result.
        for place in range(len(self.answers)):
            if self.answers[place].startswith(self.head):
                handle = self.answers[place][12:-1]
                self.answers[place] = request(Packet.WORK_FAIL, handle)
        return done


def _through(make_worker: Callable[[tuple[str, int]], Worker], jobs: int = JOBS) -> Load:
    """Background jobs are submitted and done at once: µs of the server's CPU for each."""

    def load(server: MeasuredServer) -> float:
        serving = [make_worker(server.address) for _ in range(WORKERS)]
        asking = [
            Client(server.address, jobs=jobs // 4, window=32, payload=SMALL, packet=BACKGROUND)
            for _ in range(4)
        ]
        cpu = server.cpu()
        run(asking, serving, drain=jobs)
        return (server.cpu() - cpu) / jobs * 1e6

    return load


def _latency(server: MeasuredServer) -> float:
    """One foreground job at a time: the median of how long each takes, in µs."""
    return statistics.median(one_at_a_time(server.address, 5_000).latencies) * 1e6


def _runs_of_schedules(server: MeasuredServer) -> float:
    """µs of CPU in a minute, for each of 1,000."""
    cpu = server.cpu()
    time.sleep(MINUTE)
    return (server.cpu() - cpu) / 1_000 * 1e6


@dataclass(frozen=True)
class Row:
    """A load, and what is used in half of its rounds: options, or what ``prepare`` sets.

    ``always`` comes before the load in all rounds.
    """

    title: str
    load: Load
    prepare: Callable[[AdminClient], None] = lambda admin: None
    always: Callable[[AdminClient], None] = lambda admin: None
    options: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    rounds: int = ROUNDS


def _limit(**limits: object) -> Callable[[AdminClient], None]:
    return lambda admin: admin.limit(BENCH, **limits)  # type: ignore[arg-type]  # as given below


def _pause_another(admin: AdminClient) -> None:
    admin.pause("another")
    _queue_another(admin)


def _limit_another(admin: AdminClient) -> None:
    """Another function with many jobs is at its limit, and workers wait for it."""
    admin.limit("another", running=1)
    address = admin.server.host, admin.server.port
    _SLEEPING.extend(Sleeper(address) for _ in range(WORKERS))


def _queue_another(admin: AdminClient) -> None:
    with OurClient([admin.server]) as client:
        client.submit_many(
            Submit(function="another", workload=SMALL, background=True) for _ in range(100_000)
        )


class Sleeper(Worker):
    """Takes a job of the other function and keeps it, or sleeps."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, result=b"")
        self.socket.setblocking(True)
        self.socket.sendall(request(Packet.CAN_DO, b"another") + request(Packet.GRAB_JOB))
        self.socket.sendall(request(Packet.PRE_SLEEP))


_SLEEPING: list[Sleeper] = []  # until the end of a round


def _schedule(cron: str) -> Callable[[AdminClient], None]:
    def schedule(admin: AdminClient) -> None:
        for number in range(1_000):
            admin.schedule(f"s{number}", cron, "another")

    return schedule


def _worker(address: tuple[str, int]) -> Worker:
    return Worker(address, result=SMALL)


THROUGH = _through(_worker)
ROWS = {
    "nothing": Row("nothing is used", THROUGH),
    "limit": Row("running=8, never reached", THROUGH, _limit(running=WORKERS)),
    "at-limit": Row("running=4, 8 workers", THROUGH, _limit(running=4)),
    "rate": Row("rate=1000000/s, never reached", THROUGH, _limit(rate="1000000/s")),
    "per-key": Row("per-key=2, 4 keys", THROUGH, _limit(per_key=2, separator="-")),
    "pause": Row("another function is paused, with 100,000 jobs", THROUGH, _pause_another),
    "failed": Row(
        "each job fails and is kept", _through(FailingWorker), without=("--keep-failed", "0")
    ),
    "results": Row("results of 64 bytes are kept", THROUGH, options=("--keep-results", "3600")),
    "schedules": Row("1,000 schedules that are not due", THROUGH, _schedule("0 0 1 1 *")),
    "beside": Row(
        "one at a time beside a function at its limit, µs for each",
        _latency,
        _limit_another,
        always=_queue_another,
    ),
    "runs": Row(
        "1,000 schedules run in a minute, µs for each run",
        _runs_of_schedules,
        _schedule("* * * * *"),
        rounds=1,
    ),
}


@contextmanager
def _server(options: tuple[str, ...], kind: Environment) -> Iterator[MeasuredServer]:
    address = ("127.0.0.1", reserve_port())
    environment = {**os.environ, **kind}
    command = [*OUR_GEARMAND, "--log-file=none", "-L", address[0], "-p", str(address[1]), *options]
    process = subprocess.Popen(command, env=environment)
    try:
        await_listening(address, process)
        yield MeasuredServer("ours", address, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        _SLEEPING.clear()


def _measure(row: Row, kind: Environment, *, used: bool) -> float:
    options = row.options if used else row.without
    with _server(options, kind) as server:
        with AdminClient(f"{server.address[0]}:{server.address[1]}", timeout=60) as admin:
            row.always(admin)
            if used:
                row.prepare(admin)
        return row.load(server)


def main(names: list[str]) -> None:
    before = os.environ.get("BEFORE", "")
    with both_kinds() as kinds:
        for name in names or ROWS:
            if name not in ROWS:
                raise SystemExit(f"no row {name!r}: there are {', '.join(ROWS)}")
            for kind in [PURE] if before else kinds:
                found: dict[bool, list[float]] = {False: [], True: []}
                for _ in range(ROWS[name].rounds):
                    for used in found:
                        other = {"PYTHONPATH": before} if before and not used else {}
                        measured = _measure(ROWS[name], {**kinds[kind], **other}, used=used)
                        found[used].append(measured)
                without, with_it = (statistics.median(found[used]) for used in (False, True))
                print(
                    f"{ROWS[name].title:50} {kind:12} {without:7.1f} -> {with_it:7.1f} µs",
                    flush=True,
                )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no server behind
    main(sys.argv[1:])
