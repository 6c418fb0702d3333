"""How many instructions the job server's Python takes for a job: no kernel, no event loop.

    .venv/bin/python -m tests.bench.instructions [ROW...]     (needs valgrind)

A load is recorded once against a broker in this process, then replayed by a process under
callgrind: once, and three times. The difference is that of two replays, and does not depend on what
else the machine does. Each row is shown for pure Python and with the accelerator.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from gearman_py.server.connection import Connection
from gearman_py.server.listener import Listener
from tests.bench import callgrind
from tests.bench.kinds import both_kinds

FUNCTION, PAYLOAD = b"bench", b"x" * 64
GRAB, SLEEP = request(Packet.GRAB_JOB), request(Packet.PRE_SLEEP)
REPLAY = "--replay"
REPLAYS = 2  # more in the second process than in the first

Trace = list[tuple[int, bytes] | None]
"""What the server reads, by connection; None: a turn of the event loop has ended."""


class Turns:
    """An event loop that does nothing but what it was told to call."""

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def time(self) -> float:
        return 1.0

    def call_soon(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._calls.append((call, arguments))

    def call_at(self, when: float, call: Callable[..., Any], *arguments: Any) -> SimpleNamespace:
        return SimpleNamespace(cancel=lambda: None)

    call_later = call_at

    def end_turn(self) -> None:
        calls, self._calls = self._calls, []
        for call, arguments in calls:
            call(*arguments)


class Transport:
    """Keeps what is written, if asked to."""

    def __init__(self, written: list[bytes] | None) -> None:
        self._socket = socket.socket()  # for its options
        self._written = written

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self._socket, "peername": ("127.0.0.1", 1)}[name]

    def set_write_buffer_limits(self, high: int) -> None: ...

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        if self._written is not None:
            self._written.append(data)

    def close(self) -> None:
        self._socket.close()


class Server:
    """The job server from its connections on, for a number of peers."""

    def __init__(self, peers: int, *, records: bool = False) -> None:
        self.loop = Turns()
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        listener = Listener(Broker(Queues(b"H:bench")), loop)
        self.written: dict[int, list[bytes]] = defaultdict(list)
        self._transports = [
            Transport(self.written[number] if records else None) for number in range(peers)
        ]
        self.connections = [Connection(listener) for _ in range(peers)]
        for connection, transport in zip(self.connections, self._transports, strict=True):
            connection.connection_made(cast(asyncio.Transport, transport))

    def replay(self, trace: Trace) -> None:
        connections, end_turn = self.connections, self.loop.end_turn
        for step in trace:
            if step is None:
                end_turn()
            else:
                connections[step[0]].data_received(step[1])

    def close(self) -> None:
        for connection, transport in zip(self.connections, self._transports, strict=True):
            connection.connection_lost(None)
            transport.close()


def record(
    jobs: int, *, clients: int = 16, workers: int = 8, window: int = 1, background: bool = False
) -> Trace:
    """A load of peers that answer at once, each turn in one write."""
    server = Server(clients + workers, records=True)
    decoders = [Decoder(RESPONSE) for _ in server.connections]
    trace: Trace = []
    kind = Packet.SUBMIT_JOB_BG if background else Packet.SUBMIT_JOB
    answered = Packet.JOB_CREATED if background else Packet.WORK_COMPLETE
    numbers = iter(range(jobs))

    def submit(count: int) -> bytes:
        uniques = (b"%036x" % number for number, _ in zip(numbers, range(count), strict=False))
        return b"".join(request(kind, FUNCTION, unique, PAYLOAD) for unique in uniques)

    def react(number: int, heard: bytes) -> Iterator[bytes]:
        for packet, arguments in decoders[number].feed(heard):
            if packet == answered and number < clients:
                yield submit(1)
            elif packet == Packet.JOB_ASSIGN:
                yield request(Packet.WORK_COMPLETE, arguments[0], PAYLOAD) + GRAB
            elif packet == Packet.NO_JOB:
                yield SLEEP
            elif packet == Packet.NOOP:
                yield GRAB

    sends = [submit(window) for _ in range(clients)]
    sends += [request(Packet.CAN_DO, FUNCTION) + GRAB] * workers
    while any(sends):
        turn: Trace = [(number, data) for number, data in enumerate(sends) if data]
        server.replay([*turn, None])
        trace += [*turn, None]
        sends = []
        for number in range(clients + workers):
            heard = b"".join(server.written[number])
            server.written[number].clear()
            sends.append(b"".join(react(number, heard)))
    server.close()
    return trace


JOBS = 1000
ROWS: dict[str, tuple[str, Callable[[], Trace]]] = {
    "one": ("foreground, 16 clients, 8 workers, one at a time", lambda: record(JOBS)),
    "sixteen": ("the same, 16 in flight", lambda: record(JOBS, window=16)),
    "enqueue": (
        "background enqueue, 4 clients, 32 in flight",
        lambda: record(JOBS, clients=4, workers=0, window=32, background=True),
    ),
    "together": (
        "enqueue and drain together",
        lambda: record(JOBS, clients=4, window=32, background=True),
    ),
}


def replay(row: str, times: int) -> None:
    """What runs under callgrind; without the garbage collector, as the server."""
    gc.disable()
    trace = ROWS[row][1]()
    peers = 1 + max(step[0] for step in trace if step is not None)
    for _ in range(times):
        server = Server(peers)
        server.replay(trace)
        server.close()


def count_instructions(row: str, times: int, **environment: str) -> int:
    """Those of a process that replays a row so many times."""
    command = (
        *callgrind.COMMAND,
        *(sys.executable, "-m", "tests.bench.instructions", REPLAY, row, str(times)),
    )
    env = {**os.environ, "PYTHONHASHSEED": "0", **environment}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return callgrind.read_instructions(done.stderr)


def main(names: list[str]) -> None:
    with both_kinds() as kinds:
        for name in names or ROWS:
            line = f"{ROWS[name][0]:50}"
            for kind, environment in kinds.items():
                once, more = (
                    count_instructions(name, times, **environment) for times in (1, 1 + REPLAYS)
                )
                line += f" {kind} {(more - once) / (REPLAYS * JOBS):8,.0f}"
            print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [REPLAY]:
        replay(sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1:])
