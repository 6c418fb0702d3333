"""A load generator that costs less than the servers it measures.

Clients and workers are raw sockets in one process, served by one epoll; for one client and
one worker, by blocking reads in turn. Packets are made once and sent in batches; answers are
counted, not decoded; workloads are passed over unread. A worker cuts handles out of its
assignments and sends the completions of a whole read in one write.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gearman_py.protocol.codec import LARGE, request
from gearman_py.protocol.packets import Packet

FUNCTION = b"bench"
_HEADER = 12
WRITABLE = select.EPOLLIN | select.EPOLLOUT


def _mark(packet: Packet) -> bytes:
    return b"\0RES" + packet.to_bytes(4, "big")


COMPLETE, CREATED = _mark(Packet.WORK_COMPLETE), _mark(Packet.JOB_CREATED)
ASSIGN, NO_JOB, NOOP = _mark(Packet.JOB_ASSIGN), _mark(Packet.NO_JOB), _mark(Packet.NOOP)
GRAB, SLEEP = request(Packet.GRAB_JOB), request(Packet.PRE_SLEEP)


class Peer:
    """A connection that reads what there is and writes what it owes without blocking."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = connect(address)
        self.socket.setblocking(False)
        self.owed: deque[memoryview] = deque()
        self.tail = b""

    def send(self, data: bytes) -> None:
        if not self.owed:
            try:
                sent = self.socket.send(data) if data else 0
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            self.owed.append(memoryview(data)[sent:])
        else:
            self.owed.append(memoryview(data))

    def flush(self) -> None:
        while self.owed:
            try:
                sent = self.socket.send(self.owed[0])
            except BlockingIOError:
                return
            if sent < len(self.owed[0]):
                self.owed[0] = self.owed[0][sent:]
            else:
                self.owed.popleft()

    def read(self) -> bytes:
        data = self.socket.recv(2**18)
        if not data:
            raise ConnectionError("the server closed a connection")
        return data

    unanswered = 0

    def ready(self) -> int:
        """Read what there is and react; return how many jobs that finished."""
        raise NotImplementedError


def connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Client(Peer):
    """Keeps ``window`` jobs in flight until ``jobs`` of them are answered."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        jobs: int,
        window: int,
        payload: bytes,
        packet: Packet = Packet.SUBMIT_JOB,
    ) -> None:
        super().__init__(address)
        # libgearman gives every job a unique of its own, a UUID; servers must index it.
        head, tail = request(packet, FUNCTION, b"-" * 36, payload).split(b"-" * 36, 1)
        uniques = (b"%08x-%027x" % (id(self) & 0xFFFFFFFF, number) for number in range(jobs))
        self.packets = [head + unique + tail for unique in uniques]
        self.mark = COMPLETE if packet is Packet.SUBMIT_JOB else CREATED
        self.jobs = self.unanswered = jobs
        self.sent = 0
        self.window = window
        self.latencies: list[float] = []
        self.longest_wait = 0.0
        self._last = 0.0

    def start(self) -> None:
        self._last = time.perf_counter()
        self._submit(self.window)

    def _submit(self, count: int) -> None:
        packets = self.packets[self.sent : self.sent + count]
        if packets:
            self.sent += len(packets)
            self.send(b"".join(packets))

    def ready(self) -> int:
        data = self.tail + self.read()
        answered = data.count(self.mark)
        # Short of one mark's length, so that a mark is never counted twice.
        self.tail = data[-(len(self.mark) - 1) :]
        if answered:
            now = time.perf_counter()
            wait, self._last = now - self._last, now
            self.longest_wait = max(self.longest_wait, wait)
            if self.window == 1:
                self.latencies.append(wait)
            self.unanswered -= answered
            self._submit(answered)
        return answered


class Worker(Peer):
    """Grabs, completes with ``result``, grabs again; sleeps when there is no job."""

    def __init__(self, address: tuple[str, int], *, result: bytes) -> None:
        super().__init__(address)
        self.result = result
        self.head = request(Packet.WORK_COMPLETE)[:8]
        self.missing = 0  # bytes of the packet being read that have not come
        self.answers: list[bytes] = []
        self.send(request(Packet.CAN_DO, FUNCTION) + GRAB)

    def ready(self) -> int:
        data = self.read()
        if self.missing:
            passed = min(self.missing, len(data))
            self.missing -= passed
            data = data[passed:]
        done = 0 if self.missing else self._packets(self.tail + data)
        if self.answers and not self.missing:
            if len(self.result) < LARGE:
                self.answers = [b"".join(self.answers)]
            for answer in self.answers:
                self.send(answer)
            self.answers.clear()
        return done

    def _packets(self, data: bytes) -> int:
        start, end, done = 0, len(data), 0
        while end - start >= _HEADER:
            mark, size = (
                data[start : start + 8],
                int.from_bytes(data[start + 8 : start + 12], "big"),
            )
            body = start + _HEADER
            if mark == ASSIGN:
                if end - body < min(size, 100):
                    break  # its handle may not be whole
                handle = data[body : data.index(0, body)]
                head = self.head + (len(handle) + 1 + len(self.result)).to_bytes(4, "big")
                self.answers += head + handle + b"\0", self.result, GRAB
                done += 1
            elif mark == NO_JOB:
                self.answers.append(SLEEP)
            elif mark == NOOP:
                self.answers.append(GRAB)
            else:
                raise ValueError(f"the server sent a worker {data[start:body]!r}")
            start = body + size
        self.missing, self.tail = max(0, start - end), data[start:]
        return done


def one_at_a_time(address: tuple[str, int], jobs: int) -> "Measured":
    """One client and one worker that wait for each other, in blocking reads."""
    client, worker = connect(address), connect(address)
    worker.sendall(request(Packet.CAN_DO, FUNCTION) + GRAB)
    worker.recv(_HEADER)
    worker.sendall(SLEEP)
    head, tail = request(Packet.SUBMIT_JOB, FUNCTION, b"-" * 36, b"x" * 64).split(b"-" * 36, 1)
    packets = [head + b"%036x" % number + tail for number in range(jobs)]
    latencies = []
    cpu, start = time.process_time(), time.perf_counter()
    for packet in packets:
        begun = time.perf_counter()
        client.sendall(packet)
        worker.recv(_HEADER)
        worker.sendall(GRAB)
        assigned = worker.recv(4096)
        handle = assigned[_HEADER : assigned.index(0, _HEADER)]
        worker.sendall(request(Packet.WORK_COMPLETE, handle, b"x" * 64) + GRAB)
        answer = client.recv(4096)
        while COMPLETE not in answer:
            answer += client.recv(4096)
        latencies.append(time.perf_counter() - begun)
        worker.recv(_HEADER)
        worker.sendall(SLEEP)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Measured(jobs, seconds, cpu, sorted(latencies))


@dataclass
class Measured:
    """What one run of a load gave. Seconds are of the wall, ``own_cpu`` of this process."""

    jobs: int
    seconds: float
    own_cpu: float
    latencies: list[float] = field(default_factory=list)
    longest_wait: float = 0.0


def run(clients: Sequence[Client], workers: Sequence[Worker], *, drain: int = 0) -> Measured:
    """Serve all peers until every client is answered and the workers did ``drain`` jobs."""
    peers = {peer.socket.fileno(): peer for peer in (*clients, *workers)}
    waiting: set[Peer] = set(clients)
    jobs = max(drain, sum(client.jobs for client in clients))
    with select.epoll() as poll:
        for number in peers:
            poll.register(number, select.EPOLLIN)
        cpu, start = time.process_time(), time.perf_counter()
        for client in clients:
            client.start()
        while waiting or drain > 0:
            for number, event in poll.poll():
                peer = peers[number]
                if event & select.EPOLLOUT:
                    peer.flush()
                    poll.modify(number, WRITABLE if peer.owed else select.EPOLLIN)
                if not event & select.EPOLLIN:
                    continue
                finished = peer.ready()
                if isinstance(peer, Worker):
                    drain -= finished
                elif finished and not peer.unanswered:
                    waiting.discard(peer)
                if peer.owed:
                    poll.modify(number, WRITABLE)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Measured(
        jobs,
        seconds,
        cpu,
        sorted(latency for client in clients for latency in client.latencies),
        max((client.longest_wait for client in clients), default=0.0),
    )
