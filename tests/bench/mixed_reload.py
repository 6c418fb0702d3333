"""A job server is reloaded again and again under connections of all kinds, TLS ones among them.

    python -m tests.bench.mixed_reload [--reloads 100] [--connections 1000] [--jobs 200000]

Half of the connections are TLS, which relays pass on; the others come by a Unix socket, those of C,
PHP and Perl by a port before it, as these know no TLS. Clients wait for a foreground job each;
workers run jobs or sleep; packets are half sent, answers not read; operators stay connected; and
our clients have jobs done all the while. At the end all of it goes on, and is counted: a lost,
failed or repeated job, a closed connection or an answer out of its order ends this with an error.
Prints how long an echo client waited at most in each reload, and beside it without one.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import logging.handlers
import os
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gearman_py import TLS, Client, Worker, WorkerJob
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from gearman_py.testing import running
from tests.authority import Authority, words
from tests.bench.reload import EchoClient, fill
from tests.interop.programs import KINDS, command
from tests.job_servers import OUR_GEARMAND, Address, GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.server.reloaded import Server
from tests.waiting import LIMIT

OTHERS = 10  # waiting clients of each other library
NEWCOMERS = 10  # reloads after which a client comes: the next process has to relay it
UNREAD = 256 * 2**10  # bytes of an answer that is not read
MAPPED = 20  # jobs of one of our clients at a time
IDLE_TIME = 0.5  # seconds between two reloads
ASK_PAUSE = 0.02  # seconds between two maps: without, load takes all that reloads leave
# Of a hundred raw connections, those in each state.
WAITING, RUNNING, ASLEEP, HALF, SLOW, OPERATORS, IDLE = 40, 5, 15, 15, 10, 5, 10
ECHO = request(Packet.ECHO_REQ, b"whole")
lock = threading.Lock()


class Endpoint:
    """Where one server listens: with TLS, at a Unix socket, and at a port before that."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder, "ca")
        self.socket = folder / "jobs"
        self.tls: TLS = authority.issue("client")
        self.port = reserve_port()
        self.options = [*words(authority.issue("server")), "-L", f"unix:{self.socket}"]
        self._context = self.tls.client_context()
        threading.Thread(target=lambda: asyncio.run(self._forward()), daemon=True).start()

    def connect(self, address: Address) -> Peer:
        """A connection with TLS."""
        peer = Peer(address)
        peer.socket = self._context.wrap_socket(peer.socket, server_hostname=address[0])
        return peer

    def connect_plain(self) -> Peer:
        return Peer(self.socket)

    async def _forward(self) -> None:
        async with await asyncio.start_server(self._join, "127.0.0.1", self.port) as forwarding:
            await forwarding.serve_forever()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self.socket))
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


class Crowd:
    """Raw connections in all states, and what has to become of each."""

    def __init__(self, server: Server, endpoint: Endpoint, number: int) -> None:
        self._server, self._endpoint = server, endpoint
        self.waiting: dict[bytes, Peer] = {}  # by the workload of the job
        self._running = [self._connect(place) for place in range(number * RUNNING // 100)]
        self._asleep = [self._connect(place) for place in range(number * ASLEEP // 100)]
        self._half = [self._connect(place) for place in range(number * HALF // 100)]
        self._slow = [self._connect(place) for place in range(number * SLOW // 100)]
        self._operators = [self._connect(place) for place in range(number * OPERATORS // 100)]
        self._idle = [self._connect(place) for place in range(number * IDLE // 100)]
        for place in range(number * WAITING // 100):
            self.submit(self._connect(place))
        self._held = [_grab(worker) for worker in self._running]
        for worker in self._asleep:
            worker.say(Packet.CAN_DO, b"last")
            worker.say(Packet.PRE_SLEEP)
        for peer in self._slow:
            peer.socket.sendall(request(Packet.ECHO_REQ, bytes(UNREAD)) + ECHO)

    def _connect(self, place: int) -> Peer:
        return self._endpoint.connect_plain() if place % 2 else self.connect_tls()

    def connect_tls(self) -> Peer:
        return self._endpoint.connect(self._server.address)

    def submit(self, peer: Peer) -> None:
        """Have it wait for a job."""
        workload = b"%d" % len(self.waiting)
        assert peer.ask(Packet.SUBMIT_JOB, b"held", b"", workload)[0] == "JOB_CREATED"
        self.waiting[workload] = peer

    def send_halves(self) -> None:
        """Just before a reload, as the server waits for half a minute for the rest."""
        for peer in self._half:
            peer.socket.sendall(ECHO + ECHO[:7])
            assert peer.hear() == ("ECHO_RES", b"whole")

    def send_rests(self) -> None:
        for peer in self._half:
            peer.socket.sendall(ECHO[7:])
            assert peer.hear() == ("ECHO_RES", b"whole")

    def finish(self, others: list[subprocess.Popen[bytes]]) -> None:
        """All goes on, nothing is lost, and nothing runs twice."""
        ran = Counter(workload for _, workload in self._held)
        for worker, (handle, workload) in zip(self._running, self._held, strict=True):
            worker.say(Packet.WORK_COMPLETE, handle, workload)
        worker = self._running[0]
        while sum(ran.values()) < len(self.waiting) + len(others):
            handle, workload = _grab(worker)
            ran[workload] += 1
            worker.say(Packet.WORK_COMPLETE, handle, workload)
        assert worker.ask(Packet.GRAB_JOB) == ("NO_JOB",)
        for workload, peer in self.waiting.items():
            kind, _, result = peer.hear()
            assert (kind, result) == ("WORK_COMPLETE", workload)
        for each in others:
            assert each.communicate(timeout=LIMIT)[0].splitlines()[-1] == b"complete other"
        assert ran == Counter([*self.waiting]) + Counter({b"other": len(others)})
        for peer in self._slow:
            assert peer.hear() == ("ECHO_RES", bytes(UNREAD))
            assert peer.hear() == ("ECHO_RES", b"whole")
        for _ in self._asleep:  # a job wakes one
            made = self._operators[0].ask(Packet.SUBMIT_JOB_BG, b"last", b"", b"")
            assert made[0] == "JOB_CREATED"
        assert all(worker.hear() == ("NOOP",) for worker in self._asleep)
        for peer in self._operators:
            counted = peer.command("stats")
            assert not re.search(rb"(failed|requeued)=[1-9]", counted), counted
        for peer in (*self._idle, *self._asleep, *self._running):
            assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")


def _grab(worker: Peer) -> tuple[bytes, bytes]:
    """The handle and the workload of the next job."""
    worker.say(Packet.CAN_DO, b"held")
    kind, handle, _, workload = worker.ask(Packet.GRAB_JOB)
    assert kind == "JOB_ASSIGN"
    return handle, workload


@contextlib.contextmanager
def others_waiting(endpoint: Endpoint) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Clients of other libraries that wait for a job each."""
    with contextlib.ExitStack() as started:
        clients = []
        for kind in KINDS * OTHERS:
            words = command(kind, "do", f"127.0.0.1:{endpoint.port}", "held")
            client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            started.callback(client.kill)
            clients.append(client)
            assert client.stdin and client.stdout
            client.stdin.write(b"other")
            client.stdin.close()
            client.stdin = None
            assert client.stdout.readline().startswith(b"created ")
        yield clients


class Load:
    """Clients and workers of ours, with TLS and without; ``jobs`` that were done."""

    def __init__(self, server: Server, endpoint: Endpoint) -> None:
        self._secure = "{}:{}".format(*server.address)
        self._plain, self._tls = f"unix:{endpoint.socket}", endpoint.tls
        self._over = threading.Event()
        self.jobs, self.runs = 0, Counter[bytes]()
        self._failures: list[Exception] = []
        self._log = logging.handlers.BufferingHandler(capacity=100)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        logging.getLogger("gearman_py").addHandler(self._log)  # which tells of lost connections
        with contextlib.ExitStack() as started:
            for where, tls in ((self._plain, None), (self._secure, self._tls)):
                worker = Worker(where, tls=tls, concurrency=2)
                worker.add_function("reverse", self._reverse)
                started.enter_context(running(worker))
            threads = [
                threading.Thread(target=self._ask, args=(b"tls", self._secure, self._tls)),
                threading.Thread(target=self._ask, args=(b"plain", self._plain, None)),
            ]
            for thread in threads:
                thread.start()
                started.callback(thread.join)
            started.callback(self._over.set)
            yield
        for failure in self._failures:
            raise failure
        assert [record.getMessage() for record in self._log.buffer] == []
        assert len(self.runs) == self.jobs == sum(self.runs.values())

    def _reverse(self, job: WorkerJob) -> bytes:
        with lock:
            self.runs[job.workload] += 1
        return job.workload[::-1]

    def _ask(self, name: bytes, where: str, tls: TLS | None) -> None:
        try:
            with Client(where, tls=tls) as client:
                for number in itertools.count(0, MAPPED):
                    if self._over.wait(ASK_PAUSE):
                        return
                    inputs = [b"%b %d" % (name, number + each) for each in range(MAPPED)]
                    assert list(client.map("reverse", inputs)) == [each[::-1] for each in inputs]
                    with lock:
                        self.jobs += len(inputs)
        except Exception as error:
            self._failures.append(error)


class Waits:
    """The longest waits of echo clients, with TLS and without: of each reload, and between."""

    def __init__(self, clients: list[EchoClient]) -> None:
        self._clients = clients
        self.reloading: list[float] = []
        self.idle: list[float] = []
        for client in clients:
            client.start()

    def end(self) -> None:
        for client in self._clients:
            client.over = True
            client.join()

    def note(self, kept: list[float]) -> None:
        """Keep the longest wait since the last one was kept."""
        kept.append(max(client.longest for client in self._clients))
        for client in self._clients:
            client.longest = 0

    def __str__(self) -> str:
        return ", ".join(
            f"{what}: median {1000 * statistics.median(kept):.0f} ms, "
            f"longest {1000 * max(kept):.0f} ms"
            for what, kept in (("reloads", self.reloading), ("between", self.idle))
        )


def measure(reloads: int, connections: int, jobs: int, folder: Path) -> None:
    endpoint = Endpoint(folder)
    process = GearmandProcess(["-L", "127.0.0.1", "-p", "0", "-v", *endpoint.options], folder)
    server = Server(process, tuple(OUR_GEARMAND[1:]), endpoint.connect)
    try:
        fill(endpoint.connect_plain(), jobs)
        crowd = Crowd(server, endpoint, connections)
        load = Load(server, endpoint)
        began = time.monotonic()
        with others_waiting(endpoint) as others, load.running():
            waits = Waits(
                [EchoClient(each) for each in (crowd.connect_tls(), endpoint.connect_plain())]
            )
            for number in range(reloads):
                time.sleep(IDLE_TIME)
                waits.note(waits.idle)
                crowd.send_halves()
                server.reload()
                crowd.send_rests()
                waits.note(waits.reloading)
                if number % NEWCOMERS == 0:
                    crowd.submit(crowd.connect_tls())
            waits.end()
            crowd.finish(others)
        print(
            f"{reloads} reloads in {time.monotonic() - began:.0f} s, {connections} connections, "
            f"{jobs} queued jobs, {load.jobs} foreground jobs done meanwhile: none lost, failed or "
            f"run twice, no connection closed; echo while {waits}",
            flush=True,
        )
    finally:
        os.kill(server.pid, signal.SIGKILL)
        process.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--jobs", type=int, nargs="*", default=[0, 200_000])
    options = parser.parse_args()
    for jobs in options.jobs:
        with tempfile.TemporaryDirectory() as folder:
            measure(options.reloads, options.connections, jobs, Path(folder))


if __name__ == "__main__":
    main()
