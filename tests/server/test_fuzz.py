"""Sessions that are nearly right, at random, against one server that must not mind.

Everything follows from SEED; a failure names it. PACKETS=1000000 runs as many.
"""

import os
import random
import socket
from collections.abc import Callable

import pytest

from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.tally import tally
from tests.waiting import await_true

pytestmark = pytest.mark.slow

Connect = Callable[..., Peer]
Start = Callable[..., GearmandProcess]

SEED = int(os.environ.get("SEED", "20261123"))
PACKETS = int(os.environ.get("PACKETS", "200000"))
BATCH = 40  # packets sent at once, before what comes back is read
LIFE = 12  # batches, on average, until a session ends

FUNCTIONS = [b"f", b"g", b"", b"nul\0", b"tab\t", b"n" * 8192, b"n" * 8193]
UNIQUES = [b"", b"-", b"u", b"v", b"u" * 64, b"u" * 65]
WORKLOADS = [b"", b"w", b"\0\0", b"x" * 5000]
NUMBERS = [b"", b"0", b"1", b"-1", b"999", b"1000", b"9" * 20, b"x", b"2000000000", b"9" * 40]
LINES = [
    *(b"status", b"workers", b"prioritystatus", b"show jobs", b"show unique jobs", b"version"),
    *(b"maxqueue f 3", b"maxqueue f", b"create function h", b"drop function h", b"cancel job x"),
    *(b"", b"nonsense", b"a b c d e f g"),
]


class Session:
    """One connection of the fuzzer: what it knows of the server it has from its answers."""

    def __init__(self, address: Address, dice: random.Random, handles: list[bytes]) -> None:
        self.dice = dice
        self.handles = handles  # of all sessions: one may speak of another's jobs
        self.socket = socket.create_connection(address, 10)
        self.decoder = Decoder(RESPONSE)

    def speak(self) -> None:
        """Send a batch, then read what there is, now and then nothing at all."""
        self.socket.settimeout(10)
        self.socket.sendall(b"".join(self.something() for _ in range(BATCH)))
        if self.dice.random() < 0.1:
            return
        self.socket.settimeout(0.0005)
        try:
            while data := self.socket.recv(2**18):
                self.learn(data)
            raise ConnectionResetError
        except TimeoutError:
            pass

    def learn(self, data: bytes) -> None:
        for _, arguments in self.decoder.feed(data):
            if arguments and arguments[0].startswith(b"H:"):
                self.handles.append(arguments[0])
        del self.handles[:-200]
        if self.decoder.dead:  # a line of text: its packets are not followed
            self.decoder = Decoder(RESPONSE)

    def something(self) -> bytes:
        kind = self.dice.random()
        if kind < 0.02:
            return self.dice.choice(LINES) + self.dice.choice([b"\r\n", b"\n"])
        packet = self.dice.choice(PLAYED)
        data = request(packet, *(self.argument(name) for name in packet.arguments))
        if kind < 0.021:  # once in a while what ends the session, or leaves it out of step
            place = self.dice.randrange(len(data))
            data = data[:place] + bytes([self.dice.randrange(256)]) + data[place + 1 :]
        return data

    def argument(self, name: str) -> bytes:
        if name == "handle":
            return self.dice.choice(self.handles) if self.handles else b"H:x:1"
        return self.dice.choice(ARGUMENTS.get(name, WORKLOADS))


ARGUMENTS = {
    "function": FUNCTIONS,
    "unique": UNIQUES,
    "epoch": NUMBERS,
    "milliseconds": NUMBERS,
    "numerator": NUMBERS,
    "denominator": NUMBERS,
    "reducer": UNIQUES,
    "option": [b"exceptions", b"nonsense"],
    "id": FUNCTIONS,
}
PLAYED = [packet for packet in Packet if set("CW") & set(packet.senders)]
# What makes sessions do something is said more often than the rest.
PLAYED += [Packet.SUBMIT_JOB, Packet.SUBMIT_JOB_BG, Packet.CAN_DO, Packet.PRE_SLEEP] * 3
PLAYED += [Packet.GRAB_JOB, Packet.GRAB_JOB_ALL, Packet.WORK_COMPLETE] * 8


def test_random_sessions_leave_the_server_as_it_was(start: Start, connect: Connect) -> None:
    server = start("--max-packet", "100000", "-j", "3", "--keep-failed", "0")
    address = server.listening()
    dice = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    handles: list[bytes] = []
    sessions: list[Session] = []
    before = server.resident()
    bystander = connect(address)
    for sent in range(0, PACKETS, BATCH):
        while len(sessions) < 8:
            sessions.append(Session(address, dice, handles))
        session = dice.choice(sessions)
        try:
            session.speak()
            ended = dice.random() < 1 / LIFE
        except (ConnectionError, TimeoutError):
            ended = True
        if ended:
            session.socket.close()
            sessions.remove(session)
        if sent % 10_000 == 0:
            assert bystander.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b""), f"SEED={SEED}"
    for session in sessions:
        session.socket.close()
    empty(bystander)
    assert "Traceback" not in server.log, f"SEED={SEED}"
    assert server.resident() < 1.5 * before, f"SEED={SEED}"
    assert server.end() == 0
    tally("sessions", packets=PACKETS, crashes=0)


def empty(peer: Peer) -> None:
    """Cancel every job that is left, as an operator would; nothing is left then."""
    await_true(lambda: len(peer.command("workers").splitlines()) == 2)
    for row in peer.command("show jobs").splitlines()[:-1]:
        assert peer.command(f"cancel job {row.split(chr(9).encode())[0].decode()}") == b"OK\r\n"
    for row in peer.command("status").splitlines()[:-1]:
        assert row.split(b"\t")[1:] == [b"0", b"0", b"0"]
