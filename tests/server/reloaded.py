"""Servers that other processes take the place of."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.job_servers import OUR_GEARMAND, Address, GearmandProcess
from tests.peer import Peer
from tests.waiting import LIMIT, await_true

LARGE = 24 * 2**20  # bytes: more than the kernel holds for a connection


def run_reload(
    process: int,
    *options: str,
    program: tuple[str, ...] = tuple(OUR_GEARMAND[1:]),
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *program, "--reload", str(process), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=2 * LIMIT, cwd=folder)


class Server:
    """A server and those that take its place; ``pid`` is the one that serves now.

    ``connect``: how it is asked which that is.
    """

    def __init__(
        self,
        process: GearmandProcess,
        program: tuple[str, ...],
        connect: Callable[[Address], Peer] = Peer,
    ) -> None:
        self.process, self._program, self._connect = process, program, connect
        self.address = process.listening()
        self.pid = process.process.pid

    def reload(self, *options: str) -> None:
        before = self.pid
        done = run_reload(before, *options, program=self._program)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        self.pid = self.serving_process()
        assert self.pid != before

    def serving_process(self) -> int:
        with contextlib.closing(self._connect(self.address).socket) as connected:
            connected.sendall(b"getpid\r\n")
            return int(connected.recv(100).split()[1])

    def end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        await_true(lambda: not Path(f"/proc/{self.pid}").exists())


def converse_over_reload(server: Server, connect: Callable[[], Peer]) -> list[Peer]:
    """Reload the server under peers in all states, which go on; return them, the last one idle."""
    connections = [connect() for _ in range(9)]
    first, second, running, asleep, half, upload, slow, operator, idle = connections
    _, handle = first.ask(Packet.SUBMIT_JOB, b"f", b"u", b"w")
    second.ask(Packet.OPTION_REQ, b"exceptions")
    assert second.ask(Packet.SUBMIT_JOB, b"f", b"u", b"w") == ("JOB_CREATED", handle)
    running.say(Packet.SET_CLIENT_ID, b"me")
    running.say(Packet.CAN_DO_TIMEOUT, b"f", b"60000")
    assert running.ask(Packet.GRAB_JOB)[1] == handle
    running.say(Packet.WORK_STATUS, handle, b"1", b"3")
    assert first.hear() == second.hear() == ("WORK_STATUS", handle, b"1", b"3")
    asleep.say(Packet.CAN_DO, b"g")
    asleep.say(Packet.PRE_SLEEP)
    echo = request(Packet.ECHO_REQ, b"whole")
    half.socket.sendall(echo + echo[:7])
    assert half.hear() == ("ECHO_RES", b"whole")
    large = b"%08d" * 2**19 % tuple(range(2**19))
    message = memoryview(request(Packet.ECHO_REQ, large))
    upload.socket.sendall(message[: 2**20])
    slow.say(Packet.ECHO_REQ, bytes(LARGE))
    slow.say(Packet.ECHO_REQ, b"next")
    assert operator.command("maxqueue g 5") == b"OK\r\n"
    workers = operator.command("workers")
    stats = operator.command("stats")

    server.reload()

    await_true(lambda: operator.command("workers") == workers)
    assert operator.command("stats").split(b"\t")[:5] == stats.split(b"\t")[:5]
    assert idle.ask(Packet.GET_STATUS, handle)[1:] == (handle, b"1", b"1", b"1", b"3")
    running.say(Packet.WORK_EXCEPTION, handle, b"why")
    assert first.hear() == ("WORK_FAIL", handle)
    assert second.hear() == ("WORK_EXCEPTION", handle, b"why")
    half.socket.sendall(echo[7:])
    assert half.hear() == ("ECHO_RES", b"whole")
    upload.socket.sendall(message[2**20 :])
    assert upload.hear() == ("ECHO_RES", large)
    assert idle.ask(Packet.SUBMIT_JOB, b"g", b"", b"w")[0] == "JOB_CREATED"
    assert asleep.hear() == ("NOOP",)
    assert slow.hear() == ("ECHO_RES", bytes(LARGE))
    assert slow.hear() == ("ECHO_RES", b"next")
    for _ in range(5):
        last = idle.ask(Packet.SUBMIT_JOB, b"g", b"", b"w")
    assert last[:2] == ("ERROR", b"QUEUE_ERROR"), "the limit of a function"
    return connections
