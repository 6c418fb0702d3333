"""What a job costs our client and worker beside bare blocking sockets: instructions and CPU.

    .venv/bin/python -m tests.bench.calls [ROW...]     (needs valgrind)

Each row is a program that talks to a peer of a few lines, which answers at once from a process of
its own. Under callgrind it runs once with few jobs and once with more; the difference does not
depend on what else the machine does, and leaves out the kernel. The CPU is the median of other
runs, user and system, in turn: trust its ratio to the bare row's. Beside our client and worker are
those in C: see tests.bench.call_rates (needs gearman-tools and php-gearman).
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from statistics import median

from gearman_py import Client, Worker, WorkerJob
from gearman_py.protocol.codec import REQUEST, Decoder, request, response
from gearman_py.protocol.packets import Packet
from tests.bench import callgrind
from tests.bench.call_rates import Command, compare_rates
from tests.bench.kinds import ROUNDS, Environment, both_kinds

FUNCTION, PAYLOAD = "bench", b"x" * 64
NAME = FUNCTION.encode()
RUN, PEER = "--run", "--peer"
FEW, MORE, TIMED = 200, 700, 10_000
SUBMIT = request(Packet.SUBMIT_JOB, NAME, b"", PAYLOAD)
GRAB = request(Packet.GRAB_JOB_UNIQ)

BESIDE_C = "do", "worker"  # rows that say also how many jobs a second there are, and in C


def answer_all(peer: socket.socket) -> None:
    """The peer: a job server that is done with every job at once, and always has another."""
    decoder, handles = Decoder(REQUEST), (b"H:bench:%d" % number for number in count(1))
    while data := read(peer):
        out = []
        for packet, _ in decoder.feed(data):
            if packet == Packet.SUBMIT_JOB:
                handle = next(handles)
                out.append(response(Packet.JOB_CREATED, handle))
                out.append(response(Packet.WORK_COMPLETE, handle, PAYLOAD))
            elif packet in (Packet.GRAB_JOB_UNIQ, Packet.GRAB_JOB_ALL):
                out.append(response(Packet.JOB_ASSIGN_UNIQ, next(handles), NAME, b"", PAYLOAD))
            elif packet == Packet.OPTION_REQ:
                out.append(response(Packet.OPTION_RES, b"retries"))
        peer.sendall(b"".join(out))


def read(peer: socket.socket) -> bytes:
    try:
        return peer.recv(2**16)
    except ConnectionResetError:  # a bare client just ends
        return b""


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def bare_client(port: int, jobs: int) -> None:
    connection = connect(port)
    for _ in range(jobs):
        connection.sendall(SUBMIT)
        while not connection.recv(2**16).endswith(PAYLOAD):
            pass


def our_client(port: int, jobs: int) -> None:
    with Client(f"127.0.0.1:{port}", timeout=60) as client:
        for _ in range(jobs):
            client.do(FUNCTION, PAYLOAD)


def bare_worker(port: int, jobs: int) -> None:
    connection = connect(port)
    connection.sendall(GRAB)
    for _ in range(jobs):
        assigned = connection.recv(2**16)
        handle = assigned[12 : assigned.index(0, 12)]
        connection.sendall(request(Packet.WORK_COMPLETE, handle, PAYLOAD) + GRAB)


def our_worker(port: int, jobs: int) -> None:
    worker, left = Worker(f"127.0.0.1:{port}"), count(jobs, -1)

    def serve(job: WorkerJob) -> bytes:
        if not next(left):
            worker.stop()
        return job.workload

    worker.add_function(FUNCTION, serve)
    worker.run()


ROWS: dict[str, Callable[[int, int], None]] = {
    "bare client": bare_client,
    "do": our_client,
    "bare worker": bare_worker,
    "worker": our_worker,
}


OURS = (sys.executable, "-m", "tests.bench.calls")


def run_beside_peer(
    command: Command, environment: Environment
) -> "subprocess.CompletedProcess[str]":
    """Run a program beside a peer of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        with subprocess.Popen([*OURS, PEER, str(fd)], pass_fds=[fd]):
            return subprocess.run(
                command(str(listening.getsockname()[1])),
                env={**os.environ, "PYTHONHASHSEED": "0", **environment},
                capture_output=True,
                text=True,
                check=True,
            )


def program(row: str, jobs: int, *before: str) -> Command:
    """A row's program; ``before`` is what runs it."""
    return lambda port: (*before, *OURS, RUN, row, port, str(jobs))


def count_instructions(row: str, jobs: int, environment: Environment) -> int:
    done = run_beside_peer(program(row, jobs, *callgrind.COMMAND), environment)
    return callgrind.read_instructions(done.stderr)


def measure_cpu(row: str, environment: Environment) -> float:
    return float(run_beside_peer(program(row, TIMED), environment).stdout)


def main(names: list[str]) -> None:
    with both_kinds() as kinds:
        for name in names or ROWS:
            line = f"{name:12}"
            timed = [
                [measure_cpu(name, environment) for environment in kinds.values()]
                for _ in range(ROUNDS)
            ]
            for (kind, environment), cpu in zip(
                kinds.items(), zip(*timed, strict=True), strict=True
            ):
                more, few = (count_instructions(name, jobs, environment) for jobs in (MORE, FEW))
                line += f"  {kind} {(more - few) / (MORE - FEW):8,.0f} instructions"
                line += f" {median(cpu):5.1f} us CPU"
            print(line, flush=True)
            if name in BESIDE_C:
                ours = partial(program, name)
                print(compare_rates(name, ours, kinds, run_beside_peer, ROUNDS), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [PEER]:
        with socket.socket(fileno=int(sys.argv[2])) as listening:
            accepted, _ = listening.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer_all(accepted)
    elif sys.argv[1:2] == [RUN]:
        row, port, jobs = sys.argv[2:]
        run = ROWS[row]
        began = time.process_time()
        run(int(port), int(jobs))
        print((time.process_time() - began) / int(jobs) * 1e6)
    else:
        main(sys.argv[1:])
