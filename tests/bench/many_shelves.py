"""What many job servers cost the database that they share, by a simulation of shelves and leases.

    python -m tests.bench.many_shelves [--servers 1 10 50 100 200] [--databases redis]

This process has the store of each server, and does with it what the server would. Idle: a beat and
a look at the others, which a server does each second. Under load: groups of jobs that are added,
and are removed with the next group of the server. Prints the CPU time of the database and its
requests, which hardly depend on what else the machine does, and from these how many jobs a second
would take one core, beside the idle servers.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Iterator, Sequence

from gearman_py.server.options import parse
from gearman_py.server.stores import open_store
from gearman_py.store.base import Changes, Record, Store, first_number
from tests.bench.shared_queue import count_requests, read_cpu
from tests.server import databases
from tests.server.databases import Postgres, Redis

CORE = 1e3  # milliseconds of CPU a second
SETTLE_TIME = 3.0  # seconds after the start
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


def idle(stores: Sequence[Store], seconds: float) -> int:
    """Do what idle servers do; return how many times."""
    begun = time.monotonic()
    rounds = 0
    while (now := time.monotonic()) - begun < seconds:
        for store in stores:
            assert not store.adopt()
            store.tidy()
        rounds += 1
        time.sleep(max(0.0, now + ROUND - time.monotonic()))
    return rounds


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


def measure(kind: type[Postgres | Redis], number: int, seconds: float, groups: int) -> None:
    with databases.open_folder() as folder:
        database = kind(folder)
        if isinstance(database, Postgres):
            settings = database.data / "postgresql.auto.conf"
            settings.write_text(f"max_connections = {number + 50}\n")
        with databases.running(database), opened(database, number) as stores:
            idle(stores, SETTLE_TIME)
            pids = database.pids()
            cpu, requests = read_cpu(pids), count_requests(database)
            beats = idle(stores, seconds) * number
            cpu, requests = read_cpu(pids) - cpu, count_requests(database) - requests
            all_idle = cpu / beats * number  # in a second
            row = f"{cpu / beats:10.3f} {requests / beats:10.1f} {all_idle / CORE:8.1%}"
            for size in GROUPS:
                cpu = read_cpu(pids)
                submit(stores, groups, size)
                job = (read_cpu(pids) - cpu) / groups / size
                row += f" {job * 1e3:8.0f} {(CORE - all_idle) / job:8.0f}"
            print(f"{kind.__name__:9} {number:7} {row}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 10, 50, 100, 200])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--groups", type=int, default=2000)
    kinds = {"postgres": Postgres, "redis": Redis}
    parser.add_argument("--databases", nargs="+", choices=kinds, default=list(kinds))
    arguments = parser.parse_args()
    print(
        f"{'':18}idle, for each server   all of    a job in groups of: CPU us, and jobs/s of a core"
    )
    print(
        "database  servers   CPU ms/s requests/s   a core", *(f"{size:8}{'':9}" for size in GROUPS)
    )
    for kind in arguments.databases:
        for number in arguments.servers:
            measure(kinds[kind], number, arguments.seconds, arguments.groups)


if __name__ == "__main__":
    os.nice(5)
    main()
