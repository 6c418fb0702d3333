"""Our job server over TLS, this tree and that of another commit, in turn, in one run.

    .venv/bin/python -m tests.bench.tls [COMMIT]

Prints the server's CPU time for a small job, and the ratios. The default is the last commit on
which asyncio's own TLS carried the connections.
"""

import os
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from tests.authority import Authority, words
from tests.job_servers import OUR_GEARMAND, Address, await_listening
from tests.peer import Peer
from tests.ports import reserve_port

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "cdbb4af~1"
SMALL = b"x" * 64
ROUNDS = 5
IN_FLIGHT = 16


class Server:
    """A job server with TLS, run from the sources in a folder."""

    def __init__(self, process: subprocess.Popen[bytes], address: Address, context: ssl.SSLContext):
        self._process, self._address, self._context = process, address, context

    def cpu(self) -> float:
        """Seconds of CPU time that it has used, all threads."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def join(self) -> Peer:
        peer = Peer(self._address)
        peer.socket = self._context.wrap_socket(peer.socket, server_hostname="127.0.0.1")
        return peer


@contextmanager
def tls_server(tree: Path, authority: Authority) -> Iterator[Server]:
    address = ("127.0.0.1", reserve_port())
    where = ["-L", address[0], "-p", str(address[1]), "--log-file=none"]
    command = [*OUR_GEARMAND, *where, *words(authority.issue("server"))]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    process = subprocess.Popen(command, cwd=tree, env=environment)
    try:
        await_listening(address, process)
        yield Server(process, address, authority.issue("client").client_context())
    finally:
        process.kill()
        process.wait()


def run_jobs(server: Server, jobs: int, window: int) -> None:
    """A client keeps so many jobs in flight that one worker does."""
    client, worker = server.join(), server.join()
    worker.say(Packet.CAN_DO, b"f")
    submission = request(Packet.SUBMIT_JOB, b"f", b"", SMALL)
    with client.socket, worker.socket:
        for first in range(0, jobs, window):
            count = min(window, jobs - first)
            client.socket.sendall(submission * count)
            for _ in range(count):
                client.hear()
            for _ in range(count):
                handle = worker.ask(Packet.GRAB_JOB)[1]
                worker.say(Packet.WORK_COMPLETE, handle, SMALL)
            for _ in range(count):
                client.hear()


def one_at_a_time(server: Server) -> int:
    run_jobs(server, 1500, 1)
    return 1500


def sixteen_in_flight(server: Server) -> int:
    run_jobs(server, 3200, IN_FLIGHT)
    return 3200


def background_enqueue(server: Server) -> int:
    submission = request(Packet.SUBMIT_JOB_BG, b"f", b"", SMALL) * 32
    client, decoder = server.join(), Decoder(RESPONSE)
    with client.socket:
        for _ in range(300):
            client.socket.sendall(submission)
            answers = 0
            while answers < 32:
                answers += len(decoder.feed(client.socket.recv(2**16)))
    return 300 * 32


ROWS: tuple[Callable[[Server], int], ...] = (one_at_a_time, sixteen_in_flight, background_enqueue)


def main(commit: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "other")
        other.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit, "gearman_py"],
            stdout=subprocess.PIPE,
            check=True,
        )
        subprocess.run(["tar", "x", "-C", str(other)], input=archive.stdout, check=True)
        authority = Authority(Path(folder), "ca")
        for row in ROWS:
            costs: dict[Path, list[float]] = {other: [], ROOT: []}
            for _ in range(ROUNDS):
                for tree, found in costs.items():
                    with tls_server(tree, authority) as server:
                        row(server)  # warm
                        before = server.cpu()
                        jobs = row(server)
                        found.append((server.cpu() - before) / jobs * 1e6)
            theirs, ours = (statistics.median(found) for found in costs.values())
            print(
                f"{row.__name__:20} {commit} {theirs:6.1f}  this tree {ours:6.1f} µs/job"
                f"  ratio {ours / theirs:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else BEFORE)
