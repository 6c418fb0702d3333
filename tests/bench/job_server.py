"""C gearmand and our job server, pure and accelerated, under the same load, in turn, in one run.

    .venv/bin/python -m tests.bench.job_server [ROW...]     (needs gearman-job-server)

Each row runs on fresh servers, ours and C's alternating, and the median of its rounds is
shown, with its ratio to C's. `own` is what the load generator itself used for a job: 1 / own is
the most that it could have measured. On two cores a server has about one to itself, C's threads
or not.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gearman_py.protocol.packets import Packet
from tests.bench.kinds import (
    ACCELERATED,
    PURE,
    PURE_ENVIRONMENT,
    ROUNDS,
    Environment,
    both_kinds,
)
from tests.bench.load import Client, Measured, Peer, Worker, one_at_a_time, run
from tests.job_servers import OUR_GEARMAND, await_listening
from tests.ports import reserve_port

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SMALL = b"x" * 64
BACKGROUND = Packet.SUBMIT_JOB_BG


class MeasuredServer:
    """A job server in a process of its own."""

    def __init__(self, name: str, address: tuple[str, int], process: subprocess.Popen[bytes]):
        self.name, self.address, self.process = name, address, process

    def cpu(self) -> float:
        """Seconds of CPU it has used, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE


THEIRS = ["gearmand", "--backlog=1024", "--log-file=none"]
OURS = [*OUR_GEARMAND, "--log-file=none"]
C, IN_MEMORY, BARE = "C", "in memory", "bare loop"
DURABLE = ["-q", "libsqlite3", "--libsqlite3-db"]  # both servers know these names


@contextmanager
def server(
    kind: str,
    kinds: Mapping[str, Environment] | None = None,
    *,
    durable: bool = False,
    bare_loop: Path | None = None,
) -> Iterator[MeasuredServer]:
    """One of its kind; ``kinds`` are those of ours, else pure, and ``bare_loop`` the program."""
    address = ("127.0.0.1", reserve_port())
    ours = kinds or {PURE: PURE_ENVIRONMENT}
    environment = {**os.environ, **ours.get(kind, ours.get(ACCELERATED, ours[PURE]))}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # a disk, where /tmp may be none
        command = [*(THEIRS if kind == C else OURS), "-L", address[0], "-p", str(address[1])]
        command += [*DURABLE, f"{folder}/queue"] * durable
        if kind == BARE:
            command = [str(bare_loop), str(address[1])]
        process = subprocess.Popen(command, env=environment)
        try:
            await_listening(address, process)
            yield MeasuredServer(kind, address, process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


Figures = dict[str, float]
Row = Callable[[MeasuredServer], Figures]


def _rates(peer: MeasuredServer, cpu_before: float, measured: Measured) -> Figures:
    return {
        "jobs/s": measured.jobs / measured.seconds,
        "server µs/job": (peer.cpu() - cpu_before) / measured.jobs * 1e6,
        "own µs/job": measured.own_cpu / measured.jobs * 1e6,
    }


def foreground(clients: int, workers: int, window: int, jobs: int, payload: bytes = SMALL) -> Row:
    def row(peer: MeasuredServer) -> Figures:
        serving = [Worker(peer.address, result=payload) for _ in range(workers)]
        asking = [
            Client(peer.address, jobs=jobs // clients, window=window, payload=payload)
            for _ in range(clients)
        ]
        cpu = peer.cpu()
        measured = run(asking, serving)
        figures = _rates(peer, cpu, measured)
        if len(payload) > 10_000:
            figures["MB/s"] = figures["jobs/s"] * len(payload) / 1e6
        return figures

    return row


def alone(jobs: int) -> Row:
    def row(peer: MeasuredServer) -> Figures:
        cpu = peer.cpu()
        measured = one_at_a_time(peer.address, jobs)
        return _rates(peer, cpu, measured) | {
            "median µs": statistics.median(measured.latencies) * 1e6,
        }

    return row


def enqueue(jobs: int, clients: int = 4, window: int = 32) -> Row:
    def row(peer: MeasuredServer) -> Figures:
        memory, cpu = peer.memory(), peer.cpu()
        measured = run(_enqueuers(peer, jobs, clients, window), [])
        return _rates(peer, cpu, measured) | {
            "longest stall ms": measured.longest_wait * 1e3,
            "bytes/job": (peer.memory() - memory) / jobs,
        }

    return row


def _enqueuers(peer: MeasuredServer, jobs: int, clients: int = 4, window: int = 32) -> list[Client]:
    return [
        Client(peer.address, jobs=jobs // clients, window=window, payload=SMALL, packet=BACKGROUND)
        for _ in range(clients)
    ]


def drain(jobs: int, workers: int = 8) -> Row:
    def row(peer: MeasuredServer) -> Figures:
        run(_enqueuers(peer, jobs), [])
        cpu = peer.cpu()
        serving = [Worker(peer.address, result=b"") for _ in range(workers)]
        return _rates(peer, cpu, run([], serving, drain=jobs))

    return row


def together(jobs: int, workers: int = 8) -> Row:
    def row(peer: MeasuredServer) -> Figures:
        serving = [Worker(peer.address, result=b"") for _ in range(workers)]
        cpu = peer.cpu()
        return _rates(peer, cpu, run(_enqueuers(peer, jobs), serving, drain=jobs))

    return row


def idle(connections: int, jobs: int) -> Row:
    """One job at a time beside many workers that sleep, of other functions."""

    def row(peer: MeasuredServer) -> Figures:
        sleepers = _sleepers(peer, 10)
        few = alone(jobs)(peer)["median µs"]
        memory = peer.memory()
        sleepers += _sleepers(peer, connections - 10)
        figures = alone(jobs)(peer)
        figures["median µs with 10"] = few
        figures["bytes/connection"] = (peer.memory() - memory) / (connections - 10)
        return figures

    return row


def _sleepers(peer: MeasuredServer, number: int) -> list[Peer]:
    sleepers = [Peer(peer.address) for _ in range(number)]
    for sleeper in sleepers:
        sleeper.send(SLEEPING)
    return sleepers


SLEEPING = b"\0REQ\0\0\0\x01\0\0\0\x05other" + b"\0REQ\0\0\0\x04\0\0\0\0"

ROWS: dict[str, tuple[str, Row]] = {
    "latency": ("foreground, 1 client, 1 worker, one at a time", alone(10_000)),
    "one": ("foreground, 16 clients, 8 workers, one at a time", foreground(16, 8, 1, 64_000)),
    "sixteen": ("foreground, 16 clients, 8 workers, 16 in flight", foreground(16, 8, 16, 96_000)),
    "enqueue": ("background enqueue, 4 clients, 32 in flight", enqueue(200_000)),
    "drain": ("drain 200 k queued with 8 workers", drain(200_000)),
    "together": ("enqueue and drain together", together(200_000)),
    "million": ("1 M queued", enqueue(1_000_000)),
    "idle": ("one job at a time beside 5,000 idle workers", idle(5_000, 5_000)),
    "durable": ("durable enqueue, 4 clients, 32 in flight", enqueue(20_000)),
    "durable-one": ("durable enqueue, 1 client, one at a time", enqueue(3_000, 1, 1)),
    "64k": ("foreground, 64 KiB payloads", foreground(4, 4, 1, 4_000, b"x" * 2**16)),
    "megabyte": ("foreground, 1 MiB payloads", foreground(4, 4, 1, 400, b"x" * 2**20)),
}
# Rows that take C gearmand minutes: one round of it is enough to see the size of the gap.
SLOW = {"million"}
# Rows on servers that keep their queue in an SQLite file; beside them ours in memory.
STORED = {"durable", "durable-one"}


def main(names: list[str]) -> None:
    with both_kinds() as kinds:
        print(f"ours runs on Python {sys.version}")
        for name in names or ROWS:
            if name not in ROWS:
                raise SystemExit(f"no row {name!r}: there are {', '.join(ROWS)}")
            _measure_row(name, kinds)


def _measure_row(name: str, ours: Mapping[str, Environment]) -> None:
    title, row = ROWS[name]
    print(f"\n{title}", flush=True)
    stored = name in STORED
    kinds = [C, *ours, *[IN_MEMORY] * stored]
    results: dict[str, list[Figures]] = {kind: [] for kind in kinds}
    for _ in range(1 if name in SLOW else ROUNDS):
        for kind in kinds:
            with server(kind, ours, durable=stored and kind != IN_MEMORY) as peer:
                results[kind].append(row(peer))
    for figure in results[PURE][0]:
        median = {kind: statistics.median(one[figure] for one in results[kind]) for kind in kinds}
        line = f"  {figure:18}"
        for kind in kinds:
            line += f" {kind} {median[kind]:12,.1f}"
            if kind != C and median[C] and "own" not in figure:
                line += f" {median[kind] / median[C]:6.2f} x C"
        print(line, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no server behind
    main(sys.argv[1:])
