"""Our client and worker beside pygearman, gear, pecl and the C worker, in turn, in one run.

    .venv/bin/python -m tests.bench.libraries [ROW...]   (needs php-gearman, gearman-tools)

All speak to one job server, ours, so that what differs is the library. Clients have raw workers
before them that cost next to nothing; workers have a raw client with 32 jobs in flight. Each
program runs in a process of its own and is not timed while it starts. Medians of the rounds: jobs
a second, which the server and the other side limit too, and the CPU that the library itself took.
gearman3 is not here: it does not run on Python 3.9 or newer.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gearman_py.admin.client import AdminClient
from tests.bench.job_server import MeasuredServer, server
from tests.bench.kinds import PURE
from tests.bench.load import Client, run

Address = tuple[str, int]
ROUNDS = 3
ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".cache" / "bench-peers"
PACKAGES = ("pygearman==0.2.6", "gear==0.16.0")

# What a client's program does, by library: n jobs of 64 bytes; it prints the seconds that it
# took, and those of CPU.
OURS = """
import sys, time
from gearman_py import Client, Submit
n, port, data = int(sys.argv[1]), sys.argv[2], b"x" * 64
client = Client("127.0.0.1:" + port, timeout=60)
client.do("bench", data)
cpu, start = time.process_time(), time.perf_counter()
{}
print(time.perf_counter() - start, time.process_time() - cpu)
client.close()
"""
PYGEARMAN = """
import sys, time
import gearman
n, port, data = int(sys.argv[1]), sys.argv[2], b"x" * 64
client = gearman.GearmanClient(["127.0.0.1:" + port])
client.submit_job(b"bench", data, poll_timeout=60)
cpu, start = time.process_time(), time.perf_counter()
{}
print(time.perf_counter() - start, time.process_time() - cpu)
"""
GEAR = """
import sys, time, threading
import gear
n, port, data = int(sys.argv[1]), sys.argv[2], b"x" * 64
left, done = n, threading.Event()
class Client(gear.Client):
    def handleWorkComplete(self, packet):
        global left
        super().handleWorkComplete(packet)
        left -= 1
        one.set()
        if not left:
            done.set()
one = threading.Event()
client = Client()
client.addServer("127.0.0.1", int(port))
client.waitForServer()
cpu, start = time.process_time(), time.perf_counter()
{}
print(time.perf_counter() - start, time.process_time() - cpu)
client.shutdown()
"""
PECL = """<?php
$n = (int) $argv[1]; $data = str_repeat('x', 64);
$client = new GearmanClient();
$client->addServer('127.0.0.1', (int) $argv[2]);
$client->doNormal('bench', $data);
function cpu() {{
    $u = getrusage();
    return $u['ru_utime.tv_sec'] + $u['ru_stime.tv_sec']
        + ($u['ru_utime.tv_usec'] + $u['ru_stime.tv_usec']) / 1e6;
}}
$cpu = cpu(); $start = hrtime(true);
{}
echo (hrtime(true) - $start) / 1e9, ' ', cpu() - $cpu, "\\n";
"""
CLIENTS: dict[str, dict[str, str]] = {
    "batch": {
        "ours": OURS.format('for _ in client.map("bench", (data for _ in range(n))): pass'),
        "pygearman": PYGEARMAN.format(
            "jobs = [dict(task=b'bench', data=data) for _ in range(n)]\n"
            "client.submit_multiple_jobs(jobs, poll_timeout=600)"
        ),
        "gear": GEAR.format(
            "for _ in range(n): client.submitJob(gear.Job(b'bench', data))\ndone.wait()"
        ),
        "pecl": PECL.format(
            "for ($i = 0; $i < $n; $i++) { $client->addTask('bench', $data); }\n"
            "$client->runTasks();"
        ),
    },
    "single": {
        "ours": OURS.format('for _ in range(n): client.do("bench", data)'),
        "pygearman": PYGEARMAN.format(
            "for _ in range(n): client.submit_job(b'bench', data, poll_timeout=60)"
        ),
        "gear": GEAR.format(
            "for _ in range(n):\n"
            "    one.clear(); client.submitJob(gear.Job(b'bench', data)); one.wait()"
        ),
        "pecl": PECL.format("for ($i = 0; $i < $n; $i++) { $client->doNormal('bench', $data); }"),
    },
    "background": {
        "ours": OURS.format(
            'client.submit_many(Submit(function="idle", workload=data, background=True) '
            "for _ in range(n))"
        ),
        "pygearman": PYGEARMAN.format(
            "jobs = [dict(task=b'idle', data=data) for _ in range(n)]\n"
            "client.submit_multiple_jobs(jobs, background=True, poll_timeout=600)"
        ),
        "gear": GEAR.format(
            "for _ in range(n): client.submitJob(gear.Job(b'idle', data), background=True)"
        ),
        "pecl": PECL.format(
            "for ($i = 0; $i < $n; $i++) { $client->addTaskBackground('idle', $data); }\n"
            "$client->runTasks();"
        ),
    },
}
JOBS = {"batch": 20_000, "single": 5_000, "background": 50_000}
SLOW_JOBS = {("batch", "pygearman"): 5_000, ("batch", "gear"): 5_000}
RAW_WORKERS = """
import sys
from tests.bench.load import Worker, run
address = ("127.0.0.1", int(sys.argv[1]))
run([], [Worker(address, result=b"x" * 64) for _ in range(16)], drain=10**12)
"""

# Workers: a program that serves "bench" until it is killed.
WORKERS: dict[str, list[str]] = {
    "ours": [
        *(sys.executable, "-c"),
        (
            "import sys; from gearman_py import Worker\n"
            "worker = Worker('127.0.0.1:' + sys.argv[1])\n"
            "worker.add_function('bench', lambda job: job.workload)\n"
            "worker.run()"
        ),
    ],
    "ours 8": [
        *(sys.executable, "-c"),
        (
            "import sys; from gearman_py import Worker\n"
            "worker = Worker('127.0.0.1:' + sys.argv[1], concurrency=8)\n"
            "worker.add_function('bench', lambda job: job.workload)\n"
            "worker.run()"
        ),
    ],
    "ours async": [
        *(sys.executable, "-c"),
        (
            "import sys; from gearman_py import Worker\n"
            "worker = Worker('127.0.0.1:' + sys.argv[1])\n"
            "async def bench(job): return job.workload\n"
            "worker.add_function('bench', bench)\n"
            "worker.run()"
        ),
    ],
    "ours async 8": [
        *(sys.executable, "-c"),
        (
            "import sys; from gearman_py import Worker\n"
            "worker = Worker('127.0.0.1:' + sys.argv[1], concurrency=8)\n"
            "async def bench(job): return job.workload\n"
            "worker.add_function('bench', bench)\n"
            "worker.run()"
        ),
    ],
    "ours process": [
        *(sys.executable, "-c"),
        (
            "import sys; from gearman_py import Worker\n"
            "worker = Worker('127.0.0.1:' + sys.argv[1], processes=1)\n"
            "worker.add_function('bench', lambda job: job.workload)\n"
            "worker.run()"
        ),
    ],
    "pygearman": [
        *(f"{PEERS}/bin/python", "-c"),
        (
            "import sys, gearman\n"
            "worker = gearman.GearmanWorker(['127.0.0.1:' + sys.argv[1]])\n"
            "worker.register_task(b'bench', lambda worker, job: job.data)\n"
            "worker.work()"
        ),
    ],
    "gear": [
        *(f"{PEERS}/bin/python", "-c"),
        (
            "import sys, gear\n"
            "worker = gear.Worker('bench')\n"
            "worker.addServer('127.0.0.1', int(sys.argv[1]))\n"
            "worker.waitForServer()\n"
            "worker.registerFunction(b'bench')\n"
            "while True:\n"
            "    job = worker.getJob(); job.sendWorkComplete(job.arguments)"
        ),
    ],
    "pecl": [
        *("php", "-r"),
        (
            "$w = new GearmanWorker(); $w->addServer('127.0.0.1', (int) $argv[1]);"
            "$w->addFunction('bench', function ($job) { return $job->workload(); });"
            "while ($w->work());"
        ),
        "--",
    ],
    "C": ["sh", "-c", 'exec gearman -w -f bench -h 127.0.0.1 -p "$0" > /dev/null'],
}


class Rate(NamedTuple):
    """What a program did: jobs a second, and how much of the CPU each took it."""

    jobs: float
    cpu: float
    """Microseconds; of a worker with processes, its own alone."""


@contextmanager
def program(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_worker(address: Address) -> None:
    with AdminClient(f"{address[0]}:{address[1]}") as admin:
        while not any(row.name == "bench" and row.workers for row in admin.status()):
            time.sleep(0.01)


def of_client(row: str, library: str) -> Rate:
    """What a library's client does."""
    code = CLIENTS[row][library]
    jobs = SLOW_JOBS.get((row, library), JOBS[row])
    python = sys.executable if library == "ours" else f"{PEERS}/bin/python"
    interpreter = ["php"] if library == "pecl" else [python]
    script = PEERS / f"client.{'php' if library == 'pecl' else 'py'}"
    script.write_text(code)
    with server(PURE) as serving:
        port = str(serving.address[1])
        with program([sys.executable, "-c", RAW_WORKERS, port]):
            await_worker(serving.address)
            command = [*interpreter, str(script), str(jobs), port]
            said = subprocess.check_output(command, text=True, cwd=ROOT, timeout=300)
    wall, cpu = map(float, said.split())
    return Rate(jobs / wall, cpu / jobs * 1e6)


def of_worker(_row: str, library: str) -> Rate:
    """What a library's worker does."""
    jobs = 500 if library == "gear" else 20_000  # gear's waits for the delayed ACK of each
    with (
        server(PURE) as serving,
        program([*WORKERS[library], str(serving.address[1])]) as process,
    ):
        cpu = MeasuredServer(library, serving.address, process).cpu
        await_worker(serving.address)
        warm = Client(serving.address, jobs=100, window=32, payload=b"x" * 64)
        run([warm], [])
        client = Client(serving.address, jobs=jobs, window=32, payload=b"x" * 64)
        before = cpu()
        measured = run([client], [])
        used = cpu() - before
    return Rate(jobs / measured.seconds, used / jobs * 1e6)


Measure = Callable[[str, str], Rate]
ROWS: dict[str, tuple[Measure, list[str]]] = {
    **{row: (of_client, list(libraries)) for row, libraries in CLIENTS.items()},
    "worker": (of_worker, list(WORKERS)),
}


def main(rows: list[str]) -> int:
    """Measure the rows named, or all."""
    if unknown := [row for row in rows if row not in ROWS]:
        print(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    if not (PEERS / "bin" / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([f"{PEERS}/bin/pip", "install", "-q", *PACKAGES], check=True)
        (PEERS / "bin" / "made").touch()
    for row in rows or ROWS:
        measure, libraries = ROWS[row]
        rates: dict[str, list[Rate]] = {library: [] for library in libraries}
        for _ in range(ROUNDS):
            for library in libraries:
                rates[library].append(measure(row, library))
        medians = {
            library: Rate(*map(statistics.median, zip(*found, strict=True)))
            for library, found in rates.items()
        }
        ours = medians["ours"]
        for library, rate in medians.items():
            line = f"{row:10} {library:12} {rate.jobs:9,.0f} jobs/s {rate.cpu:6.1f} us CPU a job"
            ratio = f"   ours: {ours.jobs / rate.jobs:5.2f} x, CPU {ours.cpu / rate.cpu:4.2f}"
            print(line + ratio * (library != "ours"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
