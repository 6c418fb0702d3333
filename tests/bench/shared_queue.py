"""What job servers that share a database cost, idle and under load, by their number.

    python -m tests.bench.shared_queue [--servers 2 4 8] [--databases redis]

Idle: CPU per second (1,000 ms/s are one core) of each job server, and what each of them costs the
database. Under load: 16 clients enqueue background jobs, 8 in flight each, spread over the servers.
CPU time hardly depends on what else the machine does; jobs a second do.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from gearman_py.protocol.packets import Packet
from tests.bench.load import Client, run
from tests.job_servers import Address, GearmandProcess
from tests.server import databases
from tests.server.databases import Postgres, Redis

CLIENTS, WINDOW, WORKLOAD = 16, 8, b"x" * 64
SETTLE_TIME = 3.0  # seconds after the start
# Commands that job servers send to Redis outside of scripts while they are idle.
REQUESTS = {"cmdstat_eval", "cmdstat_ping", "cmdstat_config|get", "cmdstat_acl|getuser"}


def read_cpu(pids: Sequence[int]) -> float:
    """Milliseconds of CPU that these processes have used, with all their threads."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e6


def count_requests(database: Postgres | Redis) -> int:
    """Transactions that it has carried out, or commands, those of a script as one."""
    if isinstance(database, Redis):
        with database.connect() as connection:
            found = connection.info("commandstats")
            return sum(found[name]["calls"] for name in REQUESTS & found.keys())
    with psycopg.connect(database.where, autocommit=True) as connection:
        row = connection.execute("SELECT sum(xact_commit) FROM pg_stat_database").fetchone()
        assert row
        return int(row[0])


def measure_idle(database: Postgres | Redis, pids: Sequence[int], seconds: float) -> str:
    known = database.pids()  # the same before and after, so that ours of this moment is not counted
    cpu, database_cpu, requests = read_cpu(pids), read_cpu(known), count_requests(database)
    begun = time.monotonic()
    time.sleep(seconds)
    seconds = time.monotonic() - begun
    shares = [
        each / seconds / len(pids)
        for each in (
            read_cpu(pids) - cpu,
            read_cpu(known) - database_cpu,
            count_requests(database) - requests,
        )
    ]
    return "{:8.2f} {:12.2f} {:12.1f}".format(*shares)


def measure_load(
    database: Postgres | Redis, pids: Sequence[int], servers: Sequence[Address], jobs: int
) -> str:
    cpu, database_cpu = read_cpu(pids), read_cpu(database.pids())
    measured = run(
        [
            Client(
                servers[number % len(servers)],
                jobs=jobs // CLIENTS,
                window=WINDOW,
                payload=WORKLOAD,
                packet=Packet.SUBMIT_JOB_BG,
            )
            for number in range(CLIENTS)
        ],
        [],
    )
    shares = [
        spent / measured.jobs * 1e3
        for spent in (read_cpu(pids) - cpu, read_cpu(database.pids()) - database_cpu)
    ]
    return "{:8.0f} {:12.0f} {:12.0f}".format(*shares, measured.jobs / measured.seconds)


def measure(kind: type[Postgres | Redis], number: int, seconds: float, jobs: int) -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(databases.open_folder())
        database = kind(folder)
        stack.enter_context(databases.running(database))
        servers = []
        for name in range(number):
            own = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            words = ["-L", "127.0.0.1", "-p", "0", "-v", "--job-handle-prefix", f"H:{name}"]
            server = GearmandProcess([*words, *database.options], own)
            servers.append(stack.enter_context(server))
        addresses = [server.listening() for server in servers]
        pids = [server.process.pid for server in servers]
        time.sleep(SETTLE_TIME)
        idle = measure_idle(database, pids, seconds)
        loaded = measure_load(database, pids, addresses, jobs) if jobs else ""
        print(f"{kind.__name__:9} {number:7} {idle} {loaded}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=8000)
    kinds = {"postgres": Postgres, "redis": Redis}
    parser.add_argument("--databases", nargs="+", choices=kinds, default=list(kinds))
    arguments = parser.parse_args()
    print(f"{'':18}idle, for each server{'':15}under load, for a job")
    print("database  servers   CPU ms/s   of database   requests/s   CPU us   of database   jobs/s")
    for kind in arguments.databases:
        for number in arguments.servers:
            measure(kinds[kind], number, arguments.seconds, arguments.jobs)


if __name__ == "__main__":
    os.nice(5)
    main()
