"""What many job servers cost the database that they share, by a simulation of shelves and leases.

    python -m tests.bench.many_shelves [--servers 1 10 50 100 200] [--databases redis]

This process has the store of each server, and does with it what the server would. Idle: a beat and
a look at others, which a server does each second, by a clock that this process sets: hundreds of
beats may take longer than a second here. Under load: groups of jobs that are added,
and are removed with the next group of the server. Prints the CPU time of the database, which hardly
depends on what else the machine does, and from it how many jobs a second would take one core,
beside the idle servers.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from unittest.mock import patch

from gearman_py.server.options import parse
from gearman_py.server.stores import open_store
from gearman_py.store import shared
from gearman_py.store.base import Changes, Record, Store, first_number
from tests.bench.shared_queue import read_cpu
from tests.server import databases
from tests.server.databases import Postgres, Redis

CORE = 1e3  # milliseconds of CPU a second
SETTLE_ROUNDS = 3
ROUND = 1.02  # seconds between two beats of a server, which then looks at the others too
WORKLOAD = b"x" * 64
GROUPS = 1, 8, 64  # jobs in a group


@contextlib.contextmanager
def opened(database: Postgres | Redis, number: int) -> Iterator[list[Store]]:
    with contextlib.ExitStack() as stack:
        stores = []
        for name in range(number):
            words = [*database.options, "--job-handle-prefix", f"H:{name}"]
            store = open_store(parse(words, "bench"))
            assert store is not None
            stack.callback(store.close)
            list(store.replay())
            stores.append(store)
        yield stores


class Clock:
    """That of all servers."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


def idle(stores: Sequence[Store], clock: Clock, rounds: int) -> None:
    """Do what idle servers do in so many rounds."""
    for _ in range(rounds):
        clock.now += ROUND
        for store in stores:
            assert not store.adopt()
            store.tidy()


def submit(stores: Sequence[Store], groups: int, size: int) -> None:
    """Commit groups of jobs, by one server after the other."""
    numbers = {id(store): first_number(store.series) for store in stores}
    before: dict[int, list[int]] = {}
    for turn in range(groups):
        store = stores[turn % len(stores)]
        first = numbers[id(store)]
        numbers[id(store)] = first + size
        added = [
            Record(first + each, b"f", b"u%d" % each, 1, 0, b"", WORKLOAD, 0)
            for each in range(size)
        ]
        store.commit(Changes(added, {}, before.get(id(store), [])))
        before[id(store)] = [record.number for record in added]
    for store in stores:
        store.commit(Changes([], {}, before.get(id(store), [])))


def measure(kind: type[Postgres | Redis], number: int, rounds: int, groups: int) -> None:
    clock = Clock()
    with patch.object(shared, "lease_clock", clock), databases.open_folder() as folder:
        database = kind(folder)
        if isinstance(database, Postgres):
            settings = database.data / "postgresql.auto.conf"
            settings.write_text(f"max_connections = {number + 50}\n")
        with databases.running(database), opened(database, number) as stores:
            idle(stores, clock, SETTLE_ROUNDS)
            pids = database.pids()
            cpu = read_cpu(pids)
            idle(stores, clock, rounds)
            beats = rounds * number
            cpu = read_cpu(pids) - cpu
            all_idle = cpu / beats * number  # in a second
            row = f"{cpu / beats:10.3f} {all_idle / CORE:8.1%}"
            for size in GROUPS:
                cpu = read_cpu(pids)
                submit(stores, groups, size)
                job = (read_cpu(pids) - cpu) / groups / size
                row += f" {job * 1e3:8.0f} {(CORE - all_idle) / job:8.0f}"
            print(f"{kind.__name__:9} {number:7} {row}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 10, 50, 100, 200])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--groups", type=int, default=2000)
    kinds = {"postgres": Postgres, "redis": Redis}
    parser.add_argument("--databases", nargs="+", choices=kinds, default=list(kinds))
    arguments = parser.parse_args()
    print(f"{'':17}idle, for each, and all    a job in groups of: CPU us, and jobs/s of a core")
    print("database  servers   CPU ms/s of a core", *(f"{size:8}{'':9}" for size in GROUPS))
    for kind in arguments.databases:
        for number in arguments.servers:
            measure(kinds[kind], number, arguments.rounds, arguments.groups)


if __name__ == "__main__":
    os.nice(5)
    main()
