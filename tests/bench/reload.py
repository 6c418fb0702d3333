"""How long a client waits at most while a job server with a long queue is reloaded.

    python -m tests.bench.reload [--jobs 0 200000 1000000] [--queue builtin sqlite] [--rounds 5]

Prints the median and the longest wait of an echo client over all reloads, and beside them the
longest wait in a second without one: the noise of the machine.
"""

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.job_servers import OUR_GEARMAND, GearmandProcess
from tests.peer import Peer
from tests.waiting import await_true

BATCH = 500  # submissions on their way
ECHO_PAUSE = 0.001


class EchoClient(threading.Thread):
    """Asks all the time; ``longest`` is the longest wait since it was set to 0."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(daemon=True)
        self._peer = peer
        self.longest = 0.0
        self.over = False

    def run(self) -> None:
        while not self.over:
            began = time.monotonic()
            self._peer.ask(Packet.ECHO_REQ, b"x")
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(ECHO_PAUSE)


def fill(peer: Peer, jobs: int) -> None:
    for start in range(0, jobs, BATCH):
        numbers = range(start, min(start + BATCH, jobs))
        packets = (request(Packet.SUBMIT_JOB_BG, b"f", b"u%d" % n, b"w%d" % n) for n in numbers)
        peer.socket.sendall(b"".join(packets))
        for _ in numbers:
            peer.hear()


def measure(jobs: int, queue: str, rounds: int, folder: Path) -> str:
    words = ["-L", "127.0.0.1", "-p", "0", "-v", "-q", queue]
    words += ["--queue-file", str(folder / "queue.db")] if queue == "sqlite" else []
    server = GearmandProcess(words, folder)
    address = server.listening()
    process = server.process.pid
    try:
        filler = Peer(address)
        fill(filler, jobs)
        client = EchoClient(Peer(address))
        client.start()
        client.longest = 0
        time.sleep(1)
        idle, waits, took = client.longest, [], []
        for _ in range(rounds):
            client.longest, began = 0, time.monotonic()
            subprocess.run([*OUR_GEARMAND, "--reload", str(process)], check=True)
            took.append(time.monotonic() - began)
            time.sleep(0.2)
            waits.append(client.longest)
            filler.socket.sendall(b"getpid\r\n")
            process = int(filler.socket.recv(100).split()[1])
        client.over = True
        client.join()
    finally:
        os.kill(process, signal.SIGKILL)
        await_true(lambda: not Path(f"/proc/{process}").exists())
        server.process.wait()
    median, longest = (1000 * each for each in (statistics.median(waits), max(waits)))
    return (
        f"{queue:8} {jobs:>8} jobs: median {median:6.0f} ms, longest {longest:6.0f} ms of "
        f"{rounds} reloads of {statistics.median(took):.1f} s; {1000 * idle:.0f} ms without"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="*", default=[0, 200_000, 1_000_000])
    parser.add_argument("--queue", nargs="*", default=["builtin", "sqlite"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for queue in options.queue:
        for jobs in options.jobs:
            with tempfile.TemporaryDirectory() as folder:
                print(measure(jobs, queue, options.rounds, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
